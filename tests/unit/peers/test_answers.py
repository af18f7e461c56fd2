"""An answer's errors are found, of whatever kind; right answers in any order have none."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import pytest

from benchmarks.peers.answers import GONE, Judged
from benchmarks.peers.workloads import (
    CLOSER,
    FLAGGED_FROM,
    GAP_MS,
    WAIT_MS,
    WINDOW_MS,
    WORKLOADS,
    Answer,
    make_stream,
)

RIGHT: Answer = {("u-1", 0): [50, 3], ("u-1", 9_000_000): [9_000_001, 2], ("u-2", 7): [7, 1]}


def heard(rows: list[tuple[tuple[object, ...], object]], corrects: bool = False) -> Judged:
    judged = Judged(RIGHT, corrects, frozenset({("u-1", -5)}))
    for key, value in rows:
        judged.hear(key, value)
    return judged


def test_the_right_answer_has_no_error_in_any_order() -> None:
    rows = list(RIGHT.items())
    random.Random(1).shuffle(rows)
    judged = heard(rows)
    assert judged.complete
    assert judged.error == 0


@pytest.mark.parametrize(
    "sabotage",
    [
        pytest.param(lambda rows: rows[1:], id="missing"),
        pytest.param(lambda rows: [(rows[0][0], [50, 2]), *rows[1:]], id="wrong count"),
        pytest.param(lambda rows: [(rows[0][0], [51, 3]), *rows[1:]], id="wrong end"),
        pytest.param(lambda rows: [*rows, (("u-3", 0), [1, 1])], id="unknown"),
        pytest.param(lambda rows: [*rows, rows[0]], id="repeated"),
    ],
)
def test_each_kind_of_wrong_session_counts(sabotage: object) -> None:
    assert heard(sabotage(list(RIGHT.items()))).error == pytest.approx(1 / 3)  # type: ignore[operator]


def test_a_session_split_in_two_counts_as_wrong_and_unknown() -> None:
    rows = [*list(RIGHT.items())[1:], (("u-1", 0), [20, 2]), (("u-1", 50), [50, 1])]
    assert heard(rows).error == pytest.approx(2 / 3)


def test_who_corrects_is_judged_by_the_last_word() -> None:
    rows = [(("u-1", 0), [20, 1]), (("u-1", 20), [20, 1]), *RIGHT.items()]
    assert heard([*rows, (("u-1", 20), GONE)], corrects=True).error == 0
    assert heard(rows, corrects=True).error == pytest.approx(1 / 3)
    assert not heard([*rows, (("u-1", 0), GONE)], corrects=True).complete


def test_what_was_known_before_is_of_no_interest() -> None:
    assert heard([(("u-1", -5), [0, 1]), *RIGHT.items()]).error == 0


def columns(name: str) -> tuple[list[tuple[int, int]], Answer]:
    """(user, ms) of the load of a small stream, closers left out, and the oracle's answer."""
    workload = WORKLOADS[name]
    stream = make_stream(workload, keys=30, warm_up=200, events=2_000)
    visits = workload.make(2_000, 30, 2)
    moved = visits.times_us // 1_000
    if stream.load_answer and name in ("sessions", "tumbling"):
        first = min(int(str(key[1])) for key in stream.load_answer)
        start = first if name == "sessions" else first + (int(moved.min()) - first) % WINDOW_MS
        moved = moved - moved.min() + start
    return list(zip(visits.users.tolist(), moved.tolist(), strict=True)), stream.load_answer


def test_the_oracle_of_sessions_is_a_plain_loop() -> None:
    events, answer = columns("sessions")
    of_user: dict[int, list[int]] = defaultdict(list)
    for user, ms in events:
        of_user[user].append(ms)
    expected: Answer = {}
    for user, times in of_user.items():
        times.sort()
        start = 0
        for i in range(1, len(times) + 1):
            if i == len(times) or times[i] - times[i - 1] > GAP_MS:
                expected[(f"u-{user:07d}", times[start])] = [times[i - 1], i - start]
                start = i
    assert answer == expected


def test_the_oracle_of_scoring_is_a_plain_loop() -> None:
    workload = WORKLOADS["scoring"]
    stream = make_stream(workload, keys=5, warm_up=50, events=1_000)
    payments = workload.make(1_000, 5, 2)
    first = min(int(str(key[0])) for key in stream.load_answer)
    times = payments.times_us // 1_000
    for i in range(1_000):
        same = payments.users[: i + 1] == payments.users[i]
        recent = np.flatnonzero(same & (times[: i + 1] > times[i] - WINDOW_MS))
        cents = sum((first + int(n)) % 200 * 100 + 199 for n in recent)
        assert stream.load_answer[(first + i,)] == [len(recent), cents]
    counts = [value[0] for value in stream.load_answer.values()]  # type: ignore[index]
    assert max(counts) >= FLAGGED_FROM


def test_every_system_waits_for_the_latest_event() -> None:
    for workload in WORKLOADS.values():
        times_ms = workload.make(20_000, 1_000, 1).times_us // 1_000
        assert (np.maximum.accumulate(times_ms) - times_ms).max() < WAIT_MS


def test_closers_come_behind_each_load_and_in_no_answer() -> None:
    stream = make_stream(WORKLOADS["sessions"], keys=30, warm_up=300, events=900)
    assert len(stream.warm_up) == 300
    assert len(stream.load) == 900
    name = f"u-{CLOSER:07d}".encode()
    for records in (stream.warm_up_closers, stream.load_closers):
        assert {key for key, _ in records} == {name}
    assert name not in {key for key, _ in [*stream.warm_up, *stream.load]}
    assert not any(key[0] == name.decode() for key in stream.load_answer)
    assert not set(stream.warm_up_answer) & set(stream.load_answer)
