"""Customers and devices that come once and never again: what the hops remember stays bounded."""

from __future__ import annotations

import tracemalloc

import msgspec
import numpy as np

from dataflows.connectors.records import Output, Records, heartbeat_headers
from dataflows.contracts.timestamps import format_timestamps
from dataflows.features.catalogue import DAY_US
from dataflows.flows.features import CustomerHop, decode
from dataflows.flows.payments import decode_requests
from dataflows.flows.score import DeviceHop
from dataflows.runtime.config import EventTime

START_US = 1_780_000_000_000_000
PAYMENTS_A_DAY = 150
BYTES = 100  # at most, of a customer with one payment in a snapshot


def day_of_strangers(day: int) -> Records:
    """Payments of one day, each with a customer, a card and a device of its own."""
    numbers = range(day * PAYMENTS_A_DAY, (day + 1) * PAYMENTS_A_DAY)
    times_us = START_US + np.arange(len(numbers)) * (DAY_US // PAYMENTS_A_DAY) + day * DAY_US
    values: list[bytes | None] = [
        msgspec.json.encode(
            {
                "transaction_id": f"t{number}",
                "user_id": f"customer-{number}",
                "event_timestamp": time,
                "total_amount": "12.50",
                "payment": {"card_id": f"card-{number}"},
                "device": {"device_id": f"device-{number}"},
            }
        )
        for number, time in zip(numbers, format_timestamps(times_us), strict=True)
    ]
    return records("events.transactions", values)


def records(topic: str, values: list[bytes | None], time_us: int | None = None) -> Records:
    count = len(values)
    headers = None if time_us is None else [heartbeat_headers(time_us)] * count
    offsets, arrivals = np.arange(count, dtype=np.int64), np.zeros(count, np.int64)
    return Records(topic, 0, offsets, arrivals, [None] * count, values, headers)


class Hops:
    """Both hops, one behind the other."""

    def __init__(self) -> None:
        self.customers = CustomerHop(EventTime(), 1, [])
        self.devices = DeviceHop(EventTime(), [])

    def process(self, payments: Records) -> None:
        requests = self.customers.process(decode(payments)).outputs[0]
        assert isinstance(requests, Output)
        passed = Records(
            *("scoring.requests", 0, requests.causes, np.zeros_like(requests.causes)),
            *(requests.keys, requests.values, requests.headers),
        )
        self.devices.process(decode_requests(passed))

    def sizes(self) -> tuple[int, int]:
        """Bytes of each hop's snapshot."""
        return len(self.customers.snapshot()), len(self.devices.snapshot())


def test_strangers_pass_through_and_leave_nothing_behind() -> None:
    hops = Hops()
    memory, sizes = [], []
    tracemalloc.start()
    for day in range(180):
        hops.process(day_of_strangers(day))
        if day >= 60 and day % 7 == 0:
            memory.append(tracemalloc.get_traced_memory()[0])
            sizes.append(hops.sizes())
    tracemalloc.stop()
    customers, devices = zip(*sizes, strict=True)
    # Those of 30 days, and those of a day, and half as many again that wait to be swept.
    assert max(customers) < 1.5 * 30 * PAYMENTS_A_DAY * BYTES
    assert max(devices) < 1.5 * PAYMENTS_A_DAY * BYTES
    assert max(memory) < 1.1 * memory[0]


def test_heartbeats_alone_let_state_expire() -> None:
    hops = Hops()
    for day in range(3):
        hops.process(day_of_strangers(day))
    before = hops.sizes()
    for step in range(60):
        hops.process(records("events.transactions", [None], START_US + (60 + step) * DAY_US))
    assert [size < 2_000 for size in before] == [False, False]
    assert [size < 2_000 for size in hops.sizes()] == [True, True]
