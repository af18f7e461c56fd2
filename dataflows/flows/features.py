"""features: events.transactions -> scoring.requests, dlq.features; the first hop of scoring

    read -> decode -> customer features -> publish

Payments are keyed by user here, so what a customer did is one slot's state. Each goes on with those
features, keyed by device, to the hop that knows what the device did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.operators import map_value
from numpy.typing import NDArray

from dataflows.connectors.records import (
    Headers,
    Output,
    Records,
    heartbeat_headers,
    partitions_for,
    taken,
)
from dataflows.contracts.money import parse_money
from dataflows.contracts.timestamps import canonical_timestamps
from dataflows.eventtime.snapshots import Buffer
from dataflows.features.catalogue import CUSTOMER
from dataflows.features.rolling import RollingFeatures
from dataflows.features.spec import FeatureSpec
from dataflows.flows.dead_letters import dead_letters
from dataflows.flows.decoding import Events, decode_events
from dataflows.flows.entity_hop import Accepted, EntityHop
from dataflows.flows.payments import (
    REQUESTS,
    DeclaringRequest,
    Payment,
    Request,
    pack_declared,
    pack_features,
)
from dataflows.flows.shop import Shop
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime
from dataflows.runtime.sink import Processed, publish
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.state import keep_large_state

NOWHERE, EVERYWHERE = -1, -2  # where a row of a batch goes that is no request, or a heartbeat


def features(slot: Slot, shop: Shop) -> Dataflow:
    settings, partitions = slot.config.event_time, shop.topology.topics[REQUESTS]
    flow = Dataflow("features")
    records = read("read", flow, slot)
    payments = map_value("decode", records, decode)
    restore = partial(CustomerHop, settings, partitions, declared=shop.declared.of_customers)
    requests = keep_large_state("customer", payments, slot, restore)
    publish("publish", requests, slot)
    return flow


@dataclass(frozen=True, slots=True)
class Paid:
    """A batch decoded, and what each row paid, in cents (0 where there is no payment)."""

    decoded: Events[Payment]
    cents: NDArray[np.int64]

    @property
    def records(self) -> Records:
        return self.decoded.records


_decoder = msgspec.json.Decoder(Payment)
_encode = msgspec.json.Encoder().encode


def decode(records: Records) -> Paid:
    payments = decode_events(_decoder, records)
    cents = np.zeros(len(records), np.int64)
    rows = np.flatnonzero(payments.fates == fates.GOOD)
    amounts = [payment.total_amount for payment in payments.at(rows)]
    cents[rows], readable = parse_money(amounts)
    for k in np.flatnonzero(~readable).tolist():
        message = f"$.total_amount: {amounts[k]!r} is no amount such as 12.50"
        payments.reject(int(rows[k]), "invalid", message)
    return Paid(payments, cents)


class CustomerHop(EntityHop):
    """The slot's state: what each customer paid."""

    def __init__(
        self,
        settings: EventTime,
        partitions: int,
        frames: Iterable[Buffer],
        declared: Sequence[FeatureSpec] = (),
    ):
        rolling = RollingFeatures(CUSTOMER, int(settings.lateness))
        super().__init__(settings, rolling, frames, declared)
        self._partitions, self._specs = partitions, declared

    def process(self, paid: Paid) -> Processed:
        decoded = paid.decoded
        records = decoded.records
        payments = _without_refunds(self.accept(decoded))
        requests = self._requests(payments, paid.cents[payments.rows])
        return Processed(
            offsets=records.offsets,
            arrival_us=records.arrival_us,
            fates=decoded.fates,
            outputs=[
                *_by_device(payments, requests, self._partitions),
                dead_letters("dlq.features", records, decoded.rejections, "transactions"),
            ],
            watermark_us=payments.watermark_us,
        )

    def _requests(self, payments: Accepted[Payment], cents: NDArray[np.int64]) -> list[Request]:
        (
            times,
            names,
            users,
            currencies,
            statuses,
            items,
            methods,
            cards,
            card_countries,
            countries,
            home_countries,
            segments,
            devices,
            arrivals,
        ) = payments.columns(
            "event_timestamp",
            "transaction_id",
            "user_id",
            "currency",
            "status",
            "items",
            "payment.method",
            "payment.card_id",
            "payment.card_country",
            "shipping_country",
            "customer.address.country",
            "customer.segment",
            "device.device_id",
            "arrived_at",
        )
        items_counts = [None if lines is None else len(lines) for lines in items]
        fields = {
            "user_id": users,
            "device_id": devices,
            "card_id": cards,
            "items_count": items_counts,
            "currency": currencies,
            "status": statuses,
            "payment_method": methods,
            "card_country": card_countries,
            "shipping_country": countries,
            "customer_country": home_countries,
            "customer_segment": segments,
        }
        columns = self.features(payments, fields, cents)
        columns_of_request = (
            canonical_timestamps(times, payments.times_us),
            names,
            users,
            cents.tolist(),
            currencies,
            statuses,
            items_counts,
            methods,
            card_countries,
            countries,
            home_countries,
            segments,
            devices,
            arrivals,
            pack_features(columns),
        )
        if not self._specs:
            return list(map(Request, *columns_of_request))
        return list(map(DeclaringRequest, *columns_of_request, pack_declared(columns, self._specs)))


def _without_refunds(payments: Accepted[Payment]) -> Accepted[Payment]:
    statuses = payments.each("status")
    if "refunded" not in statuses:
        return payments
    return payments.where(np.array([status != "refunded" for status in statuses], np.bool_))


def _by_device(
    payments: Accepted[Payment], requests: list[Request], partitions: int
) -> list[Output]:
    """One output a partition, heartbeats among the requests where they came in the input."""
    # A payment without a device shares nothing, so it goes anywhere, but always there.
    keys = [(request.device_id or request.transaction_id).encode() for request in requests]
    where = np.full(len(payments.decoded.fates), NOWHERE, np.int64)
    where[payments.rows] = partitions_for(keys, partitions)
    where[payments.decoded.fates == fates.HEARTBEAT] = EVERYWHERE
    row_keys, row_values = payments.spread(keys), payments.spread(list(map(_encode, requests)))
    return [
        _partition(payments, partition, where, row_keys, row_values)
        for partition in range(partitions)
    ]


def _partition(
    payments: Accepted[Payment],
    partition: int,
    where: NDArray[np.int64],
    keys: list[bytes | None],
    values: list[bytes | None],
) -> Output:
    """The rows of a batch that belong into the partition."""
    beats = where == EVERYWHERE
    rows = np.flatnonzero(beats | (where == partition))
    return Output(
        topic=REQUESTS,
        causes=payments.decoded.records.offsets[rows],
        keys=taken(keys, rows),
        values=taken(values, rows),
        headers=_headers(payments.decoded.times_us[rows], beats[rows]) if beats.any() else None,
        partition=partition,
    )


def _headers(times_us: NDArray[np.int64], beats: NDArray[np.bool_]) -> list[Headers]:
    return [
        heartbeat_headers(time_us) if beat else ()
        for time_us, beat in zip(times_us.tolist(), beats.tolist(), strict=True)
    ]
