"""Payments of many customers, as ingest publishes them, made by the hundred thousand."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from benchmarks.visits import BLOCK, START_US, Visits
from dataflows.contracts.timestamps import format_timestamps

SPAN_S = 30 * 86_400.0
BURST_SHARE = 0.002  # of the payments begin a burst of a stolen card
BURST_PAYMENTS = 6
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0"
_COUNTRIES = ("DE", "FR", "GB", "SE", "PL")


class _Item(msgspec.Struct):
    product_id: str
    quantity: int
    unit_price: str
    amount: str


class _Means(msgspec.Struct):
    method: str
    card_id: str
    card_country: str


class _Device(msgspec.Struct):
    device_id: str
    user_agent: str
    language: str


class _Address(msgspec.Struct):
    country: str


class _Customer(msgspec.Struct):
    segment: str
    address: _Address


class _Payment(msgspec.Struct):
    transaction_id: str
    user_id: str
    event_timestamp: str
    total_amount: str
    currency: str
    items: list[_Item]
    status: str
    payment: _Means
    device: _Device
    ip_address: str
    shipping_country: str
    order_id: str
    device_class: str
    customer: _Customer
    lateness: str
    arrived_at: str
    raw_offset: int


def make_payments(events: int, users: int, seed: int = 1) -> Visits:
    """Payments at any time of 30 days, in order of arrival: up to 20 s out of order, 1 % up to 20
    minutes late. One in 500 begins a burst: five more of that customer within ten minutes."""
    rng = np.random.default_rng(seed)
    alone = round(events / (1 + BURST_SHARE * (BURST_PAYMENTS - 1)))
    users_of = rng.integers(0, users, alone)
    times_s = rng.uniform(0, SPAN_S, alone)
    bursts = np.flatnonzero(rng.random(alone) < BURST_SHARE)
    more = np.repeat(bursts, BURST_PAYMENTS - 1)
    users_of = np.concatenate([users_of, users_of[more]])
    times_s = np.concatenate([times_s, times_s[more] + rng.uniform(1, 600, len(more))])
    held_back_s = rng.uniform(0, 20, len(times_s))
    late = rng.random(len(times_s)) < 0.01
    held_back_s[late] += rng.uniform(60, 1200, int(late.sum()))
    order = np.argsort(times_s + held_back_s, kind="stable")
    return Visits(users_of[order], START_US + (times_s[order] * 1e6).astype(np.int64))


def encoded_payments(
    payments: Visits,
) -> Iterator[tuple[list[bytes | None], list[bytes | None]]]:
    """(keys, values) by the block: about 800 bytes of JSON a payment."""
    encode = msgspec.json.Encoder().encode
    for first in range(0, len(payments.users), BLOCK):
        users = payments.users[first : first + BLOCK].tolist()
        times = format_timestamps(payments.times_us[first : first + BLOCK])
        yield (
            [b"u-%07d" % user for user in users],
            [
                encode(_payment(first + i, user, time))
                for i, (user, time) in enumerate(zip(users, times, strict=True))
            ],
        )


def _payment(number: int, user: int, time: str) -> _Payment:
    price, country = f"{number % 200 + 1}.99", _COUNTRIES[user % len(_COUNTRIES)]
    scrambled = number * 0x9E3779B97F4A7C15 % 2**64  # ids do not compress
    return _Payment(
        transaction_id=f"{scrambled:016x}{number:016x}",
        user_id=f"u-{user:07d}",
        event_timestamp=time,
        total_amount=price,
        currency="EUR",
        items=[_Item(f"P{number % 900:05d}", 1, price, price)],
        status="captured",
        payment=_Means("card", f"card-{user:07d}-{number % 50 // 49}", country),
        device=_Device(f"d-{user * 0x9E3779B97F4A7C15 % 2**64:016x}", _AGENT, "de-DE"),
        ip_address=f"198.51.{user % 256}.{number % 256}",
        shipping_country=country,
        order_id=f"O-{number:07d}",
        device_class="desktop",
        customer=_Customer("regular", _Address(country)),
        lateness="on_time",
        arrived_at=time,
        raw_offset=number,
    )
