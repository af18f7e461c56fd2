"""Clickstream events of many users, as ingest publishes them, made by the million."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.contracts.timestamps import format_timestamps

START_US = 1_780_000_000_000_000
EVENTS_A_VISIT = 5
BLOCK = 100_000
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0"


class _Device(msgspec.Struct):
    device_id: str
    user_agent: str = _AGENT


class _Event(msgspec.Struct):
    event_id: str
    event_type: str
    event_timestamp: str
    user_id: str
    device: _Device
    page_url: str = "https://shop.example/category/garden"
    product_id: str = "p-000123"
    referrer: str = "https://search.example/"


@dataclass(frozen=True)
class Visits:
    """n events in order of arrival: up to 20 s out of order, 1 % up to 20 minutes late."""

    users: NDArray[np.int64]
    times_us: NDArray[np.int64]

    @property
    def names(self) -> list[str]:
        return [f"u-{user:07d}" for user in self.users.tolist()]


def steady_span_s(users: int, events: int) -> float:
    """As many sessions an event whatever the number of users: a user comes every 200 minutes.

    With a million users and three million events that is two hours, so all of them are held.
    """
    visits_a_user = events / EVENTS_A_VISIT / users
    return 12_000 * visits_a_user


def make_visits(events: int, users: int, span_s: float, seed: int = 1) -> Visits:
    """Visits of a few clicks a minute apart, spread evenly over `span_s` of event time."""
    rng = np.random.default_rng(seed)
    visits = -(-events // EVENTS_A_VISIT)
    who = np.concatenate([rng.permutation(users) for _ in range(-(-visits // users))])[:visits]
    started_s = rng.uniform(0, span_s, visits)
    clicks_s = rng.exponential(60.0, (visits, EVENTS_A_VISIT)).cumsum(axis=1)
    times_s = (started_s[:, None] + clicks_s).ravel()
    held_back_s = rng.uniform(0, 20, times_s.size)
    late = rng.random(times_s.size) < 0.01
    held_back_s[late] += rng.uniform(60, 1200, int(late.sum()))
    order = np.argsort(times_s + held_back_s, kind="stable")[:events]
    times_us = START_US + (times_s[order] * 1e6).astype(np.int64)
    return Visits(np.repeat(who, EVENTS_A_VISIT)[order], times_us)


def encoded(visits: Visits) -> Iterator[tuple[list[bytes | None], list[bytes | None]]]:
    """(keys, values) by the block: about 345 bytes of JSON an event."""
    encode = msgspec.json.Encoder().encode
    for first in range(0, len(visits.users), BLOCK):
        users = visits.users[first : first + BLOCK].tolist()
        times = format_timestamps(visits.times_us[first : first + BLOCK])
        names = [f"u-{user:07d}" for user in users]
        yield (
            [name.encode() for name in names],
            [
                encode(_Event(f"e-{first + i:09d}", "page_view", time, name, _Device(f"d-{name}")))
                for i, (name, time) in enumerate(zip(names, times, strict=True))
            ],
        )
