"""What every system is asked to do, over which events, and the right answer, asked of DuckDB.

A run has two loads: one to warm up, and a day of event time later the one that is measured. Behind
each come a few events far later, of a user of their own, so that every window can be closed. All
times are whole milliseconds, and no event is later than any system is told to wait for; so there is
one right answer, whatever a system thinks of late events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.payments import BURST_PAYMENTS, encoded_payments
from benchmarks.visits import START_US, Visits, encoded, make_visits, steady_span_s

GAP_MS = 1_800_000
WINDOW_MS = 600_000
WAIT_MS = 1_800_000  # the latest event is 21 minutes late
FLAGGED_FROM = 4  # payments in ten minutes: rules/card_burst.yaml
CLOSER = 9_999_999  # the user who only closes windows
CLOSERS = 120
CLOSER_STEP_MS = 7_200_000
DAY_MS = 86_400_000
PAYS_EVERY_MS = 14_400_000
BURST_SHARE = 0.005

Key = tuple[object, ...]
Answer = dict[Key, object]
Record = tuple[bytes | None, bytes | None]


@dataclass(frozen=True)
class Events:
    """n events in order of arrival; `number` is that of the first one in its stream."""

    users: np.ndarray
    times_ms: np.ndarray
    number: int

    def visits(self) -> Visits:
        return Visits(self.users, self.times_ms * 1_000)

    def table(self) -> pa.Table:
        """Columns n (the event's number), user and ms."""
        numbers = np.arange(self.number, self.number + len(self.users))
        return pa.table({"n": numbers, "user": self.users, "ms": self.times_ms})


@dataclass(frozen=True)
class Workload:
    """A task: the topic it reads, its events, and the query that answers it.

    Args:
        make: (events, keys, seed) -> the events, in order of arrival.
        encode: events -> blocks of keys and values.
        oracle: SQL over `events` with columns n, user, ms; its last column is the value of the key
            that the others are.
    """

    name: str
    topic: str
    make: Callable[[int, int, int], Visits]
    encode: Callable[[Visits], Iterator[tuple[list[bytes | None], list[bytes | None]]]]
    oracle: str

    def answer(self, events: Events) -> Answer:
        """The right answer over these events."""
        with duckdb.connect() as db:
            db.register("events", events.table())
            return {tuple(row[:-1]): row[-1] for row in db.execute(self.oracle).fetchall()}


@dataclass(frozen=True)
class Stream:
    """The records of a run, and the right answers to its two loads."""

    warm_up: list[Record]
    warm_up_closers: list[Record]
    load: list[Record]
    load_closers: list[Record]
    warm_up_answer: Answer
    load_answer: Answer


def make_stream(workload: Workload, keys: int, warm_up: int, events: int) -> Stream:
    first = _in_milliseconds(workload.make(warm_up, keys, 1), start_ms=0, number=0)
    after = _closers(first, CLOSERS)
    number = len(first.users) + len(after.users)
    start_ms = int(after.times_ms[-1]) + DAY_MS
    second = _in_milliseconds(workload.make(events, keys, 2), start_ms, number)
    last = _closers(second, CLOSERS)
    everything = Visits(
        np.concatenate([part.users for part in (first, after, second, last)]),
        np.concatenate([part.times_ms for part in (first, after, second, last)]) * 1_000,
    )
    records = [
        record for block in workload.encode(everything) for record in zip(*block, strict=True)
    ]
    end = number + len(second.users)
    return Stream(
        warm_up=records[: after.number],
        warm_up_closers=records[after.number : number],
        load=records[number:end],
        load_closers=records[end:],
        warm_up_answer=workload.answer(first),
        load_answer=workload.answer(second),
    )


def _in_milliseconds(visits: Visits, start_ms: int, number: int) -> Events:
    """Moved so that nothing is before `start_ms`; where that is 0, left where it is."""
    times_ms = visits.times_us // 1_000
    if start_ms:
        times_ms = times_ms - times_ms.min() + start_ms
    return Events(visits.users, times_ms, number)


def _closers(events: Events, count: int) -> Events:
    last = int(events.times_ms.max())
    times_ms = last + CLOSER_STEP_MS * np.arange(1, count + 1)
    users = np.full(count, CLOSER, events.users.dtype)
    return Events(users, times_ms, events.number + len(events.users))


def _make_visits(events: int, keys: int, seed: int) -> Visits:
    return make_visits(events, keys, steady_span_s(keys, events), seed)


def _make_payments(events: int, keys: int, seed: int) -> Visits:
    """In order of event time, so that who scores at once and who waits for the watermark agree. Who
    pays does so every four hours; one time in 200 it is a burst of six within ten minutes."""
    rng = np.random.default_rng(seed)
    span_ms = PAYS_EVERY_MS * events / keys
    users = rng.integers(0, keys, events)
    times_ms = rng.uniform(0, span_ms, events)
    more = np.repeat(np.flatnonzero(rng.random(events) < BURST_SHARE), BURST_PAYMENTS - 1)
    users = np.concatenate([users, users[more]])
    times_ms = np.concatenate([times_ms, times_ms[more] + rng.uniform(0, WINDOW_MS, len(more))])
    order = np.argsort(times_ms, kind="stable")[:events]
    return Visits(users[order], START_US + times_ms[order].astype(np.int64) * 1_000)


_PASS_THROUGH = """
    select printf('e-%09d', n), strftime(epoch_ms(ms), '%Y-%m-%d') from events"""
_TUMBLING = f"""
    select printf('u-%07d', user), ms - ms % {WINDOW_MS}, count(*) from events group by all"""
_SESSIONS = f"""
    with breaks as (
        select *, coalesce(ms - lag(ms) over visits > {GAP_MS}, true) as opens
        from events window visits as (partition by user order by ms)),
    numbered as (
        select *, sum(opens::int) over (partition by user order by ms) as number from breaks)
    select printf('u-%07d', user), min(ms), [max(ms), count(*)]
    from numbered group by user, number"""
_SCORING = f"""
    select n, [count(*) over recent, (sum((n % 200 + 1) * 100 + 99) over recent)::bigint]
    from events window recent as (
        partition by user order by ms range between {WINDOW_MS - 1} preceding and current row)"""

WORKLOADS: Mapping[str, Workload] = {
    each.name: each
    for each in (
        Workload("sessions", "events.clickstream", _make_visits, encoded, _SESSIONS),
        Workload("tumbling", "events.clickstream", _make_visits, encoded, _TUMBLING),
        Workload("pass_through", "raw.clickstream", _make_visits, encoded, _PASS_THROUGH),
        Workload("scoring", "events.transactions", _make_payments, encoded_payments, _SCORING),
    )
}
