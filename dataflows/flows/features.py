"""features: events.transactions -> scoring.requests, dlq.features; the first hop of scoring

    read -> decode -> customer features -> publish

Payments are keyed by user here, so what a customer did is one slot's state. Each goes on with those
features, keyed by device, to the hop that knows what the device did.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.operators import map_value
from numpy.typing import NDArray

from dataflows.connectors.records import Headers, Output, Records, heartbeat_headers, partition_for
from dataflows.contracts.money import parse_money
from dataflows.contracts.timestamps import format_timestamps
from dataflows.features.catalogue import CUSTOMER
from dataflows.features.columns import Column
from dataflows.features.rolling import Payments, RollingFeatures
from dataflows.flows.dead_letters import dead_letters
from dataflows.flows.decoding import Events, decode_events
from dataflows.flows.entity_hop import EntityHop
from dataflows.flows.payments import REQUESTS, CustomerFeatures, Payment, Request
from dataflows.flows.shop import Shop
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime
from dataflows.runtime.sink import Processed, publish
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.state import keep_state


def features(slot: Slot, shop: Shop) -> Dataflow:
    settings, partitions = slot.config.event_time, shop.topology.topics[REQUESTS]
    flow = Dataflow("features")
    records = read("read", flow, slot)
    payments = map_value("decode", records, decode)
    requests = keep_state("customer", payments, slot, partial(CustomerHop, settings, partitions))
    publish("publish", requests, slot)
    return flow


_Row = tuple[int, bytes | None, Request | None]  # a row, its key and request; heartbeats have none

_decoder = msgspec.json.Decoder(Payment)
_encode = msgspec.json.Encoder().encode


def decode(records: Records) -> Events[Payment]:
    """Payments, with their amount in cents."""
    payments = decode_events(_decoder, records)
    found = [(row, payment) for row, payment in enumerate(payments.events) if payment]
    amounts, readable = parse_money([payment.total_amount for _, payment in found])
    for (row, payment), amount, good in zip(
        found, amounts.tolist(), readable.tolist(), strict=True
    ):
        payment.cents = amount
        if not good and payments.fates[row] == fates.GOOD:
            message = f"$.total_amount: {payment.total_amount!r} is no amount such as 12.50"
            payments.reject(row, "invalid", message)
    return payments


class CustomerHop(EntityHop):
    """The slot's state: what each customer paid."""

    def __init__(self, settings: EventTime, partitions: int, blob: bytes | None):
        super().__init__(settings, RollingFeatures(CUSTOMER, int(settings.lateness)), blob)
        self._partitions = partitions

    def process(self, decoded: Events[Payment]) -> Processed:
        records, codes, events = decoded.records, decoded.fates, decoded.events
        watermarks_us = self.advance(decoded.times_us, codes)
        scored = np.array(
            [
                event is not None and code < fates.DUPLICATE and event.status != "refunded"
                for event, code in zip(events, codes.tolist(), strict=True)
            ],
            np.bool_,
        )
        columns = self._rolling.process(
            Payments(
                fields={
                    "user_id": [e.user_id if e else None for e in events],
                    "card_id": [e.payment.card_id if e else None for e in events],
                    "device_id": [e.device.device_id if e else None for e in events],
                    "shipping_country": [e.shipping_country if e else None for e in events],
                },
                amounts_cents=np.array([e.cents if e else 0 for e in events], np.int64),
                times_us=decoded.times_us,
                watermarks_us=watermarks_us,
                counts=scored,
            )
        )
        requests = _requests(decoded, np.flatnonzero(scored), columns)
        return Processed(
            offsets=records.offsets,
            arrival_us=records.arrival_us,
            fates=codes,
            outputs=[
                *_by_device(decoded, requests, self._partitions),
                dead_letters("dlq.features", records, decoded.rejections, "transactions"),
            ],
            watermark_us=int(watermarks_us[-1]),
        )


def _requests(
    decoded: Events[Payment], rows: NDArray[np.int64], columns: dict[str, Column]
) -> dict[int, Request]:
    """The scoring request of each row."""
    values = (Column(c.values[rows], c.valid[rows]).to_list() for c in columns.values())
    features = map(CustomerFeatures, *values)
    times = format_timestamps(decoded.times_us[rows])
    return {
        row: _request(decoded.events[row], time, given)
        for row, time, given in zip(rows.tolist(), times, features, strict=True)
    }


def _request(event: Payment | None, time: str, features: msgspec.Struct) -> Request:
    assert event is not None
    return Request(
        event_timestamp=time,
        transaction_id=event.transaction_id,
        user_id=event.user_id,
        cents=event.cents,
        currency=event.currency,
        status=event.status,
        items_count=None if event.items is None else len(event.items),
        payment_method=event.payment.method,
        card_country=event.payment.card_country,
        shipping_country=event.shipping_country,
        customer_country=event.customer.address.country,
        customer_segment=event.customer.segment,
        device_id=event.device.device_id,
        arrived_at=event.arrived_at,
        features=features,
    )


def _by_device(
    decoded: Events[Payment], requests: dict[int, Request], partitions: int
) -> Sequence[Output]:
    """One output a partition, heartbeats among the requests where they came in the input."""
    parts: list[list[_Row]] = [[] for _ in range(partitions)]
    for row, code in enumerate(decoded.fates.tolist()):
        if code == fates.HEARTBEAT:
            for part in parts:
                part.append((row, None, None))
        elif request := requests.get(row):
            key = _key(request)
            parts[partition_for(key, partitions)].append((row, key, request))
    return [_partition(decoded, partition, part) for partition, part in enumerate(parts) if part]


def _partition(decoded: Events[Payment], partition: int, part: list[_Row]) -> Output:
    rows, keys, requests = zip(*part, strict=True)
    headers: list[Headers] = [
        () if request else heartbeat_headers(int(decoded.times_us[row])) for row, _, request in part
    ]
    return Output(
        topic=REQUESTS,
        causes=decoded.records.offsets[list(rows)],
        keys=list(keys),
        values=[_encode(request) if request else None for request in requests],
        headers=headers if any(headers) else None,
        partition=partition,
    )


def _key(request: Request) -> bytes:
    """The device; a payment without one shares nothing, so it goes anywhere, but always there."""
    return (request.device_id or request.transaction_id).encode()
