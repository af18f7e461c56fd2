"""What travels between the hops of scoring: a payment, and the request to score it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Annotated

import msgspec
import numpy as np

from dataflows.features.catalogue import CUSTOMER
from dataflows.features.columns import Column, Columns, ColumnSpec, as_rows, from_numbers
from dataflows.features.spec import FeatureSpec
from dataflows.flows.decoding import Timed

REQUESTS = "scoring.requests"

# What stands where in a request: raise the number when Request changes. Requests of another layout
# are refused, not misread.
LAYOUT = f"2-{blake2b(' '.join(CUSTOMER.specs).encode(), digest_size=4).hexdigest()}"

Cents = Annotated[int, msgspec.Meta(ge=0, lt=10**14)]


class _Means(msgspec.Struct, gc=False, frozen=True):
    method: str | None = None
    card_id: str | None = None
    card_country: str | None = None


class _Device(msgspec.Struct, gc=False, frozen=True):
    device_id: str | None = None


class _Address(msgspec.Struct, gc=False, frozen=True):
    country: str | None = None


class _Customer(msgspec.Struct, gc=False, frozen=True):
    segment: str | None = None
    address: _Address = _Address()


class Payment(Timed, gc=False, kw_only=True):
    """What scoring uses of a transaction."""

    transaction_id: str
    user_id: str
    total_amount: str
    currency: str | None = None
    status: str | None = None
    items: list[msgspec.Raw] | None = None
    payment: _Means = _Means()
    device: _Device = _Device()
    shipping_country: str | None = None
    customer: _Customer = _Customer()
    arrived_at: str | None = None


_FEATURE = np.dtype("<f8")
_FEATURES_BYTES = len(CUSTOMER.specs) * _FEATURE.itemsize

PackedFeatures = Annotated[
    bytes, msgspec.Meta(min_length=_FEATURES_BYTES, max_length=_FEATURES_BYTES)
]
"""A row of `as_rows` of the customer's features as bytes, base64 in JSON: a batch of them becomes
columns without an object for each value."""


def pack_features(columns: Columns) -> list[bytes]:
    """The customer's features of n payments, a packed row each."""
    return _packed(columns, list(CUSTOMER.specs))


def unpack_features(packed: Sequence[bytes]) -> dict[str, Callable[[], Column]]:
    """How to make each of the customer's features of n payments."""
    return _unpacked(CUSTOMER.specs, packed)


Declared = dict[str, bytes]
"""Packed rows of a payment's declared features, by the version of their spec."""


def pack_declared(columns: Columns, specs: Sequence[FeatureSpec]) -> Iterator[Declared]:
    """The declared features of n payments."""
    versions = [spec.version for spec in specs]
    rows = (_packed(columns, spec.names) for spec in specs)
    return (dict(zip(versions, each, strict=True)) for each in zip(*rows, strict=True))


def unpack_declared(
    declared: Sequence[Declared], specs: Sequence[FeatureSpec]
) -> dict[str, Callable[[], Column]]:
    """How to make each declared feature of n payments; null where another spec made them, or none
    did."""
    made: dict[str, Callable[[], Column]] = {}
    for spec in specs:
        size = len(spec.names) * _FEATURE.itemsize
        nothing = np.full(len(spec.names), np.nan, _FEATURE).tobytes()
        rows = [each.get(spec.version, nothing) for each in declared]
        rows = [row if len(row) == size else nothing for row in rows]
        made |= _unpacked({feature.name: feature.spec for feature in spec.features}, rows)
    return made


def _packed(columns: Columns, names: Sequence[str]) -> list[bytes]:
    packed = as_rows(columns, names).astype(_FEATURE, copy=False).tobytes()
    size = len(names) * _FEATURE.itemsize
    return [packed[at : at + size] for at in range(0, len(packed), size)]


def _unpacked(
    specs: Mapping[str, ColumnSpec], packed: Sequence[bytes]
) -> dict[str, Callable[[], Column]]:
    rows = np.frombuffer(b"".join(packed), _FEATURE).reshape(len(packed), len(specs))
    columns = np.ascontiguousarray(rows.T)
    return {
        name: partial(from_numbers, spec.kind, numbers)
        for (name, spec), numbers in zip(specs.items(), columns, strict=True)
    }


class Request(Timed, gc=False, array_like=True, tag=LAYOUT):
    """A payment with its customer's features, on its way to the second hop.

    Written as an array, LAYOUT first: names would take most of its bytes and of the time.
    """

    transaction_id: str
    user_id: str
    cents: Cents
    currency: str | None
    status: str | None
    items_count: int | None
    payment_method: str | None
    card_country: str | None
    shipping_country: str | None
    customer_country: str | None
    customer_segment: str | None
    device_id: str | None
    arrived_at: str | None
    features: PackedFeatures


class DeclaringRequest(Request, gc=False, array_like=True, tag=LAYOUT):
    """A request of a shop that declares features of customers. Without them, it is as any other,
    and whoever knows nothing of them reads it."""

    declared: Declared = msgspec.field(default_factory=dict)


request_decoder = msgspec.json.Decoder(Request)
declaring_decoder = msgspec.json.Decoder(DeclaringRequest)


def with_names(request: bytes) -> bytes:
    """A scoring request as an object, for people; bytes that are none come back as they are."""
    try:
        decoded = declaring_decoder.decode(request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return request
    features = unpack_features([decoded.features])
    named = {name: make().for_json()[0] for name, make in features.items()}
    said = msgspec.structs.asdict(decoded) | {"features": named}
    if not decoded.declared:
        del said["declared"]
        return msgspec.json.encode(said)
    rows = {version: _numbers(row) for version, row in decoded.declared.items()}
    return msgspec.json.encode(said | {"declared": rows})


def _numbers(row: bytes) -> list[float]:
    """NaN, which JSON shows as null, where a value is null."""
    whole = len(row) // _FEATURE.itemsize * _FEATURE.itemsize
    numbers: list[float] = np.frombuffer(row[:whole], _FEATURE).tolist()
    return numbers
