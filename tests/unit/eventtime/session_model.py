"""Sessions by brute force, and a driver that plays records into the real ones."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from dataflows.eventtime.lateness import NOT_AN_EVENT, Lateness
from dataflows.eventtime.sessions import EVENT, HEARTBEAT, SKIP, Sessions, SessionSettings

END_OF_TIME = 2**62
UNLIMITED = SessionSettings(
    gap_us=10, bound_us=5, lateness_us=40, max_duration_us=10**9, max_events=10**6, horizon_us=80
)


class Record(NamedTuple):
    kind: int
    time: int
    user: str | None
    stage: int = 0


class Row(NamedTuple):
    record: int
    user: str
    started: int
    ended: int
    size: int
    stage: int
    revision: int
    capped: bool
    superseded_by: int

    @property
    def is_retraction(self) -> bool:
        return self.size == 0


class Session(NamedTuple):
    ended: int
    size: int
    stage: int
    capped: bool


Key = tuple[str, int]


def final_sessions(events: Iterable[Record], settings: SessionSettings) -> dict[Key, Session]:
    """What the sessions of these events are, by definition."""
    by_user: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for event in events:
        assert event.user is not None
        by_user[event.user].append((event.time, event.stage))
    return {
        (user, piece[0][0]): Session(
            ended=piece[-1][0],
            size=len(piece),
            stage=max(stage for _, stage in piece),
            capped=len(pieces) > 1,
        )
        for user, found in by_user.items()
        for chain in _chains(sorted(found), settings.gap_us)
        for pieces in [_pieces(chain, settings)]
        for piece in pieces
    }


def _chains(events: list[tuple[int, int]], gap: int) -> list[list[tuple[int, int]]]:
    chains = [[events[0]]]
    for event in events[1:]:
        if event[0] - chains[-1][-1][0] > gap:
            chains.append([])
        chains[-1].append(event)
    return chains


def _pieces(chain: list[tuple[int, int]], settings: SessionSettings) -> list[list[tuple[int, int]]]:
    pieces = [[chain[0]]]
    for event in chain[1:]:
        started = pieces[-1][0][0]
        too_many = len(pieces[-1]) >= settings.max_events and event[0] != started
        if too_many or event[0] - started > settings.max_duration_us:
            pieces.append([])
        pieces[-1].append(event)
    return pieces


@dataclass
class Accepted:
    """Which events count, told record by record."""

    settings: SessionSettings
    watermark: int = -(2**62)

    def take(self, record: Record) -> int:
        """The lateness class of the next record."""
        if record.kind == SKIP:
            return NOT_AN_EVENT
        self.watermark = max(self.watermark, record.time - self.settings.bound_us)
        if record.kind == HEARTBEAT:
            return NOT_AN_EVENT
        behind = self.watermark - record.time
        if behind <= 0:
            return Lateness.ON_TIME
        if behind <= self.settings.lateness_us:
            return Lateness.LATE
        return Lateness.BUFFERED if behind <= self.settings.horizon_us else Lateness.EXPIRED


def accepted(records: Sequence[Record], settings: SessionSettings) -> list[Record]:
    clock = Accepted(settings)
    return [record for record in records if clock.take(record) <= Lateness.LATE]


def play(
    sessions: Sessions, records: Sequence[Record], first: int = 0
) -> tuple[list[Row], list[int]]:
    """Play a batch whose first record has the number `first`; return its rows and classes."""
    rows = sessions.process(
        np.array([record.time for record in records], np.int64),
        [record.user for record in records],
        np.array([record.stage for record in records], np.uint8),
        np.array([record.kind for record in records], np.uint8),
    )
    columns = (
        (rows.row + first).tolist(),
        rows.user,
        rows.started_us.tolist(),
        rows.ended_us.tolist(),
        rows.event_count.tolist(),
        rows.stage.tolist(),
        rows.revision.tolist(),
        rows.capped.tolist(),
        rows.superseded_by_started_us.tolist(),
    )
    return [Row(*values) for values in zip(*columns, strict=True)], rows.lateness.tolist()


def play_in_batches(
    settings: SessionSettings, records: Sequence[Record], cuts: Iterable[int], restart: bool
) -> list[Row]:
    """Play records in batches cut at the given places, restarting from a snapshot in between."""
    sessions = Sessions(settings)
    rows = []
    edges = [0, *sorted({cut % (len(records) + 1) for cut in cuts}), len(records)]
    for start, end in pairwise(edges):
        rows += play(sessions, records[start:end], start)[0]
        if restart:
            sessions = Sessions.restore(settings, [sessions.snapshot()])
    return rows


class Published:
    """What someone who reads the rows in order knows; checks what any row must obey."""

    def __init__(self) -> None:
        self.live: dict[Key, Session] = {}
        self.revisions: dict[Key, int] = {}
        self.last_record = 0

    def read(self, rows: Iterable[Row]) -> None:
        for row in rows:
            key = (row.user, row.started)
            assert row.record >= self.last_record
            assert row.revision == self.revisions.get(key, 0) + 1
            self.last_record = row.record
            self.revisions[key] = row.revision
            if row.is_retraction:
                assert (row.user, row.superseded_by) in self.live
                assert (row.ended, row.stage, row.capped) == (row.started, 0, False)
                del self.live[key]
            else:
                assert row.superseded_by == -1
                self.live[key] = Session(row.ended, row.size, row.stage, row.capped)


def shuffled(records: Sequence[Record], seed: int) -> list[Record]:
    records = list(records)
    random.Random(seed).shuffle(records)
    return records


@st.composite
def settings_strategy(draw: st.DrawFn) -> SessionSettings:
    """Small caps more often than not."""
    lateness = draw(st.sampled_from([0, 7, 40, 120]))
    return replace(
        UNLIMITED,
        gap_us=draw(st.sampled_from([0, 4, 10])),
        bound_us=draw(st.sampled_from([0, 5, 12])),
        lateness_us=lateness,
        horizon_us=lateness + draw(st.sampled_from([0, 20])),
        max_duration_us=draw(st.sampled_from([0, 3, 15, 40, 10**9])),
        max_events=draw(st.sampled_from([1, 2, 3, 5, 10**6])),
    )


@st.composite
def records_strategy(draw: st.DrawFn, settings: SessionSettings) -> list[Record]:
    """A log: the front of event time moves on, records come in at it or behind it."""
    most = settings.bound_us + settings.horizon_us + 10
    step = st.tuples(
        st.sampled_from([EVENT] * 8 + [HEARTBEAT, SKIP]),
        st.sampled_from([0, 0, 0, 0, 1, 2, 5, 11, 60]),
        st.one_of(st.integers(0, 12), st.integers(0, most)),
        st.sampled_from(["ann", "bob"]),
        st.integers(0, 7),
    )
    front = -20
    records = []
    length = draw(st.integers(1, 60))
    for kind, ahead, behind, user, stage in draw(st.lists(step, min_size=length, max_size=length)):
        front += ahead
        if kind == EVENT:
            records.append(Record(kind, front - behind, user, stage))
        else:
            records.append(Record(kind, front - behind, None))
    return records


@st.composite
def log_strategy(draw: st.DrawFn) -> tuple[SessionSettings, list[Record]]:
    settings = draw(settings_strategy())
    return settings, draw(records_strategy(settings))
