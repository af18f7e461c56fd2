"""features: events.transactions -> scoring.requests, dlq.features; the first hop of scoring

    read -> decode -> customer features -> publish

Payments are keyed by user here, so what a customer did is one slot's state. Each goes on with those
features, by device, to the hop that knows what the device did: many of them in a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

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
from dataflows.eventtime.snapshots import Buffer
from dataflows.features.catalogue import CUSTOMER
from dataflows.features.rolling import RollingFeatures
from dataflows.features.spec import FeatureSpec
from dataflows.flows.dead_letters import dead_letters
from dataflows.flows.decoding import Events, decode_events
from dataflows.flows.entity_hop import Accepted, EntityHop
from dataflows.flows.payments import (
    REQUESTS,
    Payment,
    PaymentColumns,
    declared_rows,
    feature_rows,
    request_ends,
)
from dataflows.flows.shop import Shop
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime
from dataflows.runtime.sink import Processed, publish
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.state import keep_large_state


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
        columns = self._columns(payments, paid.cents[payments.rows])
        return Processed(
            offsets=records.offsets,
            arrival_us=records.arrival_us,
            fates=decoded.fates,
            outputs=[
                *_by_device(payments, columns, self._partitions),
                dead_letters("dlq.features", records, decoded.rejections, "transactions"),
            ],
            watermark_us=payments.watermark_us,
        )

    def _columns(
        self, accepted: Accepted[Events[Payment]], cents: NDArray[np.int64]
    ) -> PaymentColumns:
        payments = accepted.decoded.at(accepted.rows)
        paths = attrgetter(*_PATHS.values())
        said = zip(*map(paths, payments), strict=True) if payments else [()] * len(_PATHS)
        fields = dict(zip(_PATHS, map(list[Any], said), strict=True))
        fields["items_count"] = [
            None if lines is None else len(lines) for lines in fields.pop("items")
        ]
        features = self.features(accepted, fields, cents)
        del fields["card_id"]
        return PaymentColumns(
            times_us=accepted.times_us,
            cents=cents,
            objects=fields,
            features=feature_rows(features),
            declared=declared_rows(features, self._specs),
        )


_PATHS = {
    "transaction_id": "transaction_id",
    "user_id": "user_id",
    "currency": "currency",
    "status": "status",
    "items": "items",
    "payment_method": "payment.method",
    "card_id": "payment.card_id",
    "card_country": "payment.card_country",
    "shipping_country": "shipping_country",
    "customer_country": "customer.address.country",
    "customer_segment": "customer.segment",
    "device_id": "device.device_id",
    "arrived_at": "arrived_at",
}
"""Where in a payment the fields of a request are, and what features look at besides."""


def _without_refunds(payments: Accepted[Events[Payment]]) -> Accepted[Events[Payment]]:
    statuses = [payment.status for payment in payments.decoded.at(payments.rows)]
    if "refunded" not in statuses:
        return payments
    return payments.where(np.array([status != "refunded" for status in statuses], np.bool_))


def _by_device(
    payments: Accepted[Events[Payment]], columns: PaymentColumns, partitions: int
) -> list[Output]:
    """One output a partition, heartbeats among the requests where they came in the input."""
    # A payment without a device shares nothing, so it goes anywhere, but always there.
    devices, names = columns.objects["device_id"], columns.objects["transaction_id"]
    keys = [(device or name).encode() for device, name in zip(devices, names, strict=True)]
    where = partitions_for(keys, partitions)
    return [
        _partition(payments, columns, np.flatnonzero(where == partition), partition)
        for partition in range(partitions)
    ]


def _partition(
    payments: Accepted[Events[Payment]],
    columns: PaymentColumns,
    chosen: NDArray[np.int64],
    partition: int,
) -> Output:
    """The chosen payments in requests, and the batch's heartbeats; caused by the last of each."""
    decoded, rows, columns = payments.decoded, payments.rows[chosen], columns.at(chosen)
    records = decoded.records
    sizes = np.array([len(value or b"") for value in taken(records.values, rows)], np.int64)
    beats = np.flatnonzero(decoded.fates == fates.HEARTBEAT).tolist()
    causes: list[int] = []
    values: list[bytes | None] = []
    headers: list[Headers] = []
    done = 0
    for until, beat in [*zip(np.searchsorted(rows, beats), beats, strict=True), (len(rows), None)]:
        for start, stop in request_ends(sizes[done:until]):
            causes.append(rows.item(done + stop - 1))
            values.append(columns.request(done + start, done + stop))
            headers.append(())
        done = until
        if beat is not None:
            causes.append(beat)
            values.append(None)
            headers.append(heartbeat_headers(decoded.times_us.item(beat)))
    return Output(
        topic=REQUESTS,
        causes=records.offsets[causes],
        keys=[None] * len(values),
        values=values,
        headers=headers if len(beats) else None,
        partition=partition,
    )
