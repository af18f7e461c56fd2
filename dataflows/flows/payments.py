"""What travels between the hops of scoring: a payment, and the request to score it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from dataflows.features.catalogue import CUSTOMER
from dataflows.flows.decoding import Timed

REQUESTS = "scoring.requests"

Cents = Annotated[int, msgspec.Meta(ge=0, le=10**14)]


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
    cents: int = 0  # total_amount, read


CustomerFeatures = msgspec.defstruct(
    "CustomerFeatures",
    [(name, float | bool | None, None) for name in CUSTOMER.specs],
    frozen=True,
    gc=False,
)


class Request(Timed, gc=False, kw_only=True, omit_defaults=True):
    """A payment with its customer's features, on its way to the second hop."""

    transaction_id: str
    user_id: str
    cents: Cents
    currency: str | None = None
    status: str | None = None
    items_count: int | None = None
    payment_method: str | None = None
    card_country: str | None = None
    shipping_country: str | None = None
    customer_country: str | None = None
    customer_segment: str | None = None
    device_id: str | None = None
    arrived_at: str | None = None
    features: CustomerFeatures = CustomerFeatures()  # type: ignore[valid-type]
