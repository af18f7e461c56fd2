"""What travels between the hops of scoring: a payment, and the request to score it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.connectors.records import Records, taken
from dataflows.contracts.timestamps import MAX_US, MIN_US, format_timestamps
from dataflows.features.catalogue import CUSTOMER
from dataflows.features.columns import Column, Columns, ColumnSpec, as_rows, from_numbers
from dataflows.features.spec import FeatureSpec
from dataflows.flows.dead_letters import Rejection
from dataflows.flows.decoding import Timed, parse
from dataflows.runtime import fates
from dataflows.runtime.fates import Fates

REQUESTS = "scoring.requests"

# What stands where in a request: raise the number when Request changes. Requests of another layout
# are refused, not misread.
LAYOUT = f"3-{blake2b(' '.join(CUSTOMER.specs).encode(), digest_size=4).hexdigest()}"

MAX_CENTS = 10**14 - 1
REQUEST_PAYMENTS = 250  # at most; more gain nothing
REQUEST_BYTES = 256 * 2**10  # about, of the payments in a request, which takes half as much


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


_NUMBER, _WHOLE = np.dtype("<f8"), np.dtype("<i8")
_FEATURES = CUSTOMER.specs


class Request(msgspec.Struct, gc=False, array_like=True, tag=LAYOUT):
    """n > 0 payments with their customers' features, on their way to the second hop.

    A column each field: numbers as little-endian int64[n] or float64[n, features] (NaN for null) in
    base64, declared features by the version of their spec. Written as an array, LAYOUT first.
    """

    times_us: bytes
    transaction_id: list[str]
    user_id: list[str]
    cents: bytes
    currency: list[str | None]
    status: list[str | None]
    items_count: list[int | None]
    payment_method: list[str | None]
    card_country: list[str | None]
    shipping_country: list[str | None]
    customer_country: list[str | None]
    customer_segment: list[str | None]
    device_id: list[str | None]
    arrived_at: list[str | None]
    features: bytes
    declared: dict[str, bytes] = {}

    def __post_init__(self) -> None:
        count = len(self)
        if not count:
            raise ValueError("there are no payments in it")
        for name in _WHOLE_COLUMNS:
            _check(name, getattr(self, name), count * _WHOLE.itemsize)
        for name in _OBJECT_COLUMNS:
            _check(name, getattr(self, name), count)
        _check("features", self.features, count * len(_FEATURES) * _NUMBER.itemsize)
        for name, (least, most) in _WHOLE_COLUMNS.items():
            numbers = self.whole(name)
            if numbers.min() < least or numbers.max() > most:
                raise ValueError(f"{name}: not all from {least} to {most}")

    def __len__(self) -> int:
        return len(self.transaction_id)

    def whole(self, name: str) -> NDArray[np.int64]:
        """A column of whole numbers."""
        return np.frombuffer(getattr(self, name), _WHOLE)


_WHOLE_COLUMNS = {"times_us": (MIN_US, MAX_US), "cents": (0, MAX_CENTS)}
_OBJECT_COLUMNS = tuple(
    name
    for name in Request.__struct_fields__
    if name not in (*_WHOLE_COLUMNS, "features", "declared")
)


def _check(name: str, column: Sequence[Any], length: int) -> None:
    if len(column) != length:
        raise ValueError(f"{name}: has length {len(column)}, not {length}")


request_decoder = msgspec.json.Decoder(Request)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class PaymentColumns:
    """k payments that are to be requested, in the columns of `Request`, by its names.

    `features` is float64[k, features], `declared` the same by the version of the spec.
    """

    times_us: NDArray[np.int64]
    cents: NDArray[np.int64]
    objects: Mapping[str, list[Any]]
    features: NDArray[np.float64]
    declared: Mapping[str, NDArray[np.float64]]

    def at(self, rows: NDArray[np.int64]) -> PaymentColumns:
        """Those at ascending rows."""
        if len(rows) == len(self.cents):
            return self
        return PaymentColumns(
            self.times_us[rows],
            self.cents[rows],
            {name: taken(values, rows) for name, values in self.objects.items()},
            self.features[rows],
            {version: matrix[rows] for version, matrix in self.declared.items()},
        )

    def request(self, start: int, stop: int) -> bytes:
        """Payments start..stop-1 as a request."""
        part = slice(start, stop)
        return _encode(
            Request(
                times_us=self.times_us[part].astype(_WHOLE, copy=False).tobytes(),
                cents=self.cents[part].astype(_WHOLE, copy=False).tobytes(),
                features=_packed(self.features[part]),
                declared={version: _packed(rows[part]) for version, rows in self.declared.items()},
                **{name: values[part] for name, values in self.objects.items()},
            )
        )


@dataclass(frozen=True, slots=True)
class Requested:
    """The requests of a batch as n rows: a payment, a heartbeat, or a record that is no request.

    `offsets` and `arrival_us` are those of a row's record; rejections name records, not rows.
    """

    records: Records
    requests: list[Request]
    offsets: NDArray[np.int64]
    arrival_us: NDArray[np.int64]
    times_us: NDArray[np.int64]
    fates: Fates
    rejections: list[Rejection]

    def each(self, name: str) -> list[Any]:
        """A column of objects, of all payments."""
        return list(chain.from_iterable(map(attrgetter(name), self.requests)))

    @property
    def cents(self) -> NDArray[np.int64]:
        """Of all payments."""
        return _whole(self.requests, "cents")


def decode_requests(records: Records) -> Requested:
    """Requests, as the first hop wrote them; what does not decode is rejected with its reason."""
    found, heartbeats, heartbeat_us, rejections = parse(request_decoder, records)
    requests = [request for request in found if request is not None]
    counts = np.array([1 if request is None else len(request) for request in found], np.int64)
    is_request = np.array([request is not None for request in found], np.bool_)
    codes = np.where(heartbeats, np.uint8(fates.HEARTBEAT), np.uint8(fates.GOOD))
    for rejection in rejections:
        codes[rejection.row] = fates.failed(rejection.reason)
    times_us = np.repeat(heartbeat_us, counts)
    times_us[np.repeat(is_request, counts)] = _whole(requests, "times_us")
    return Requested(
        records,
        requests,
        np.repeat(records.offsets, counts),
        np.repeat(records.arrival_us, counts),
        times_us,
        np.repeat(codes, counts),
        rejections,
    )


def _whole(requests: Sequence[Request], name: str) -> NDArray[np.int64]:
    # Kernels are compiled for arrays that may be written to; those of bytes may not.
    return np.frombuffer(bytearray().join([getattr(each, name) for each in requests]), _WHOLE)


def request_ends(sizes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """(start, stop) of each request for payments of so many bytes."""
    until, start = np.cumsum(sizes), 0
    while start < len(sizes):
        begun = int(until[start - 1]) if start else 0
        fit = int(np.searchsorted(until, begun + REQUEST_BYTES, "right"))
        stop = max(start + 1, min(fit, start + REQUEST_PAYMENTS))
        yield start, stop
        start = stop


def feature_rows(columns: Columns) -> NDArray[np.float64]:
    """The customers' features of k payments as a request holds them: float64[k, features]."""
    return as_rows(columns, list(_FEATURES))


def declared_rows(columns: Columns, specs: Sequence[FeatureSpec]) -> dict[str, NDArray[np.float64]]:
    """The same of declared features, by the version of their spec."""
    return {spec.version: as_rows(columns, spec.names) for spec in specs}


def features_of(requests: Sequence[Request]) -> dict[str, Callable[[], Column]]:
    """How to make each of the customers' features of all payments in the requests."""
    return _columns(_FEATURES, b"".join([each.features for each in requests]))


def declared_of(
    requests: Sequence[Request], specs: Sequence[FeatureSpec]
) -> dict[str, Callable[[], Column]]:
    """How to make each declared feature of all payments in the requests; null where another spec
    made them, or none did."""
    made: dict[str, Callable[[], Column]] = {}
    for spec in specs:
        rows = b"".join([_declared(each, spec) for each in requests])
        made |= _columns({feature.name: feature.spec for feature in spec.features}, rows)
    return made


def _declared(request: Request, spec: FeatureSpec) -> bytes:
    found, count = request.declared.get(spec.version, b""), len(request) * len(spec.names)
    return found if len(found) == count * _NUMBER.itemsize else np.full(count, np.nan).tobytes()


def _packed(rows: NDArray[np.float64]) -> bytes:
    return rows.astype(_NUMBER, copy=False).tobytes()


def _columns(specs: Mapping[str, ColumnSpec], packed: bytes) -> dict[str, Callable[[], Column]]:
    rows = np.frombuffer(packed, _NUMBER).reshape(-1, len(specs))
    columns = np.ascontiguousarray(rows.T)
    return {
        name: partial(from_numbers, spec.kind, numbers)
        for (name, spec), numbers in zip(specs.items(), columns, strict=True)
    }


def with_names(value: bytes) -> list[bytes]:
    """Each payment of a scoring request as an object, for people; bytes that are no request come
    back as they are."""
    try:
        request = request_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return [value]
    features = {name: make().for_json() for name, make in features_of([request]).items()}
    columns = {
        "event_timestamp": format_timestamps(request.whole("times_us")),
        **{name: getattr(request, name) for name in _OBJECT_COLUMNS},
        "cents": request.whole("cents").tolist(),
        "features": _objects(features),
    }
    if request.declared:
        columns["declared"] = _declared_of_each(request)
    return [_encode(payment) for payment in _objects(columns)]


def _objects(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _declared_of_each(request: Request) -> list[dict[str, list[float]]]:
    """NaN, which JSON shows as null, where a value is null."""
    count = len(request)
    rows = {
        version: np.frombuffer(packed, _NUMBER).reshape(count, -1).tolist()
        for version, packed in request.declared.items()
        if len(packed) % (count * _NUMBER.itemsize) == 0
    }
    return [{version: of[row] for version, of in rows.items()} for row in range(count)]
