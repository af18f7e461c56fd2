"""What `changes` gives adds up to the state; memory and what is written follow what is alive."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_model import (
    END_OF_TIME,
    UNLIMITED,
    Published,
    Record,
    Row,
    accepted,
    final_sessions,
    log_strategy,
    play,
)

from dataflows.eventtime import sessions as sessions_module
from dataflows.eventtime.sessions import EVENT, HEARTBEAT, Sessions, SessionSettings

FINAL = Record(HEARTBEAT, END_OF_TIME, None)


class Written:
    """A journal in memory: frames since the last complete one, that one included."""

    def __init__(self) -> None:
        self.before: list[bytes] = []  # up to the last complete frame
        self.since: list[bytes] = []
        self.sizes: list[int] = []

    def add(self, sessions: Sessions, everything: bool = False) -> None:
        parts, complete = sessions.changes(everything)
        self.since.append(b"".join(parts))
        self.sizes.append(len(self.since[-1]))
        if complete:
            self.before, self.since = self.since, []

    def restored(self, rules: SessionSettings) -> Sessions:
        return Sessions.restore(rules, [*self.before, *self.since])


def play_with_journal(
    rules: SessionSettings, records: list[Record], cuts: list[int], restart: list[bool]
) -> list[Row]:
    """Plays batches, writes the changes after each, and goes on from them where told to."""
    sessions, journal, rows = Sessions(rules), Written(), []
    edges = [0, *sorted({cut % (len(records) + 1) for cut in cuts}), len(records)]
    journal.add(sessions, everything=True)
    for number, (start, end) in enumerate(pairwise(edges)):
        rows += play(sessions, records[start:end], start)[0]
        journal.add(sessions)
        if restart[number % len(restart)]:
            sessions = journal.restored(rules)
            journal.add(sessions, everything=True)
    return rows


@pytest.fixture(params=[0, 4096], ids=["always compact", "compact when large"])
def sparse_from(request: pytest.FixtureRequest) -> Iterator[None]:
    with mock.patch.object(sessions_module, "_SPARSE_FROM", request.param):
        yield


@pytest.mark.usefixtures("sparse_from")
@given(
    log_strategy(),
    st.lists(st.integers(0, 60), max_size=8),
    st.lists(st.booleans(), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=60)
def test_changes_add_up_to_the_state(
    log: tuple[SessionSettings, list[Record]], cuts: list[int], restart: list[bool]
) -> None:
    rules, records = log
    records = [*records, FINAL]
    expected = play(Sessions(rules), records)[0]
    assert play_with_journal(rules, records, cuts, restart) == expected
    published = Published()
    published.read(expected)
    assert published.live == final_sessions(accepted(records[:-1], rules), rules)


@pytest.mark.usefixtures("sparse_from")
def test_changes_add_up_over_many_rounds() -> None:
    rng, front, records = random.Random(3), 0, []
    for _ in range(20_000):
        front += rng.randrange(3)
        user, time = f"user {rng.randrange(400)}", front - rng.randrange(45)
        records.append(Record(EVENT, time, user, rng.randrange(8)))
    expected = play(Sessions(UNLIMITED), records)[0]
    for step, restart in ((37, [False] * 99 + [True]), (5, [True])):
        cuts = list(range(0, 20_000, step))
        assert play_with_journal(UNLIMITED, records, cuts, restart) == expected


def crowd(sessions: Sessions, users: range, time: int) -> int:
    """An event of each user at a time; how many rows came."""
    n, rows = len(users), 0
    for first in range(0, n, 10_000):
        names: list[str | None] = [f"user {i}" for i in users[first : first + 10_000]]
        m = len(names)
        zeros = np.zeros(m, np.uint8)
        rows += len(sessions.process(np.full(m, time), names, zeros, zeros))
    return rows


def test_a_round_writes_about_twice_what_there_is_and_never_all_at_once() -> None:
    sessions, journal = Sessions(UNLIMITED), Written()
    crowd(sessions, range(100_000), 0)
    journal.add(sessions, everything=True)
    (whole,) = journal.sizes
    journal.sizes.clear()
    complete = 0
    for step in range(200):
        crowd(sessions, range(step * 300, step * 300 + 1_000), 1)
        journal.add(sessions)
        complete += not journal.since
        written = sum(map(len, (*journal.before, *journal.since)))
        assert written < 4.5 * sessions.snapshot_bytes
    assert complete >= 2
    assert max(journal.sizes) < whole / 20
    assert len(journal.restored(UNLIMITED)) == len(sessions)


def test_users_long_gone_leave_neither_memory_nor_bytes_behind() -> None:
    rules = replace(UNLIMITED, gap_us=10, lateness_us=40)
    sessions, journal = Sessions(rules), Written()
    crowd(sessions, range(100_000), 0)
    journal.add(sessions, everything=True)
    memory, whole, stored = sessions.nbytes, len(sessions.snapshot()), sum(journal.sizes)
    sizes = []
    for time in range(100, 2_000, 20):  # two or three sessions of each user are kept
        crowd(sessions, range(5_000), time)
        journal.add(sessions)
        stored_now = sum(map(len, (*journal.before, *journal.since)))
        sizes.append((sessions.nbytes, len(sessions.snapshot()), stored_now))
    assert len(sessions) == 5_000
    settled = max(sizes[30:60])
    assert max(sizes[60:]) <= tuple(1.2 * size for size in settled)
    assert sizes[-1][0] < memory / 3
    assert sizes[-1][1] < whole / 3
    assert sizes[-1][2] < stored
    restored = journal.restored(rules)
    assert crowd(restored, range(5_000), 3_000) == crowd(sessions, range(5_000), 3_000) > 0
