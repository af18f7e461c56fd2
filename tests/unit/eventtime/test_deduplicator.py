"""The deduplicator against a loop that looks at every id it remembers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.eventtime.dedup import Deduplicator
from dataflows.eventtime.snapshots import SnapshotError

Occurrence = tuple[str | bytes, int, int]  # id, event time, watermark

IDS = st.one_of(st.integers(0, 12).map(str), st.integers(0, 5).map(lambda i: str(i).encode()))
STEPS = st.tuples(IDS, st.sampled_from([0, 0, 1, 5, 40]), st.integers(0, 300))


@st.composite
def logs(draw: st.DrawFn) -> list[Occurrence]:
    front = 0
    log = []
    for key, ahead, behind in draw(st.lists(STEPS, max_size=80)):
        front += ahead
        log.append((key, front - behind, front - 10))
    return log


def play(deduplicator: Deduplicator, log: list[Occurrence]) -> list[bool]:
    times = np.array([time for _, time, _ in log], np.int64)
    watermarks = np.array([watermark for _, _, watermark in log], np.int64)
    return deduplicator.seen([key for key, _, _ in log], times, watermarks).tolist()


def by_definition(log: list[Occurrence], retention: int, most: int) -> tuple[list[bool], int]:
    width = max(retention // 64, 1)
    remembered: dict[str | bytes, int] = {}
    found, evicted = [], 0
    for key, time, watermark in log:
        remembered = {
            known: bucket
            for known, bucket in remembered.items()
            if (bucket + 1) * width > watermark - retention
        }
        found.append(key in remembered)
        if key in remembered or (time // width + 1) * width <= watermark - retention:
            continue
        if len(remembered) == most:
            oldest = min(remembered.values())
            kept = {known: bucket for known, bucket in remembered.items() if bucket > oldest}
            evicted += len(remembered) - len(kept)
            remembered = kept
        remembered[key] = time // width
    return found, evicted


@given(logs(), st.sampled_from([0, 50, 200, 10**6]), st.sampled_from([1, 3, 8, 100]))
@settings(deadline=None, max_examples=200)
def test_it_follows_the_definition(log: list[Occurrence], retention: int, most: int) -> None:
    deduplicator = Deduplicator(retention, most)
    found, evicted = by_definition(log, retention, most)
    assert play(deduplicator, log) == found
    assert deduplicator.evicted == evicted
    assert len(deduplicator) <= most


@given(logs(), st.lists(st.integers(0, 80), max_size=5), st.sampled_from([3, 100]))
@settings(deadline=None, max_examples=100)
def test_batch_cuts_and_restarts_change_nothing(
    log: list[Occurrence], cuts: list[int], most: int
) -> None:
    whole = Deduplicator(200, most)
    expected = play(whole, log)
    parts = Deduplicator(200, most)
    found = []
    edges = [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    for start, end in pairwise(edges):
        found += play(parts, log[start:end])
        parts = Deduplicator.restore(200, most, [parts.snapshot()])
    assert found == expected
    assert (len(parts), parts.evicted) == (len(whole), whole.evicted)


def test_an_id_within_the_retention_is_never_missed() -> None:
    deduplicator = Deduplicator(1000, 10**6)
    first: list[Occurrence] = [(f"{time}", time, time) for time in range(1000)]
    assert not any(play(deduplicator, first))
    again: list[Occurrence] = [(key, 5000, time + 1000) for key, time, _ in first]
    assert all(play(deduplicator, again))


def test_passing_ids_leave_nothing_behind() -> None:
    deduplicator = Deduplicator(1000, 10**6)
    sizes = []
    for start in range(0, 20_000, 500):
        log: list[Occurrence] = [(f"id {i}", i, i) for i in range(start, start + 500)]
        assert not any(play(deduplicator, log))
        sizes.append(len(deduplicator))
    assert max(sizes) <= 1000 + 1000 // 64 + 1


def test_a_full_one_drops_its_oldest_times_first() -> None:
    deduplicator = Deduplicator(64, 2)
    assert play(deduplicator, [("a", 7, 0), ("b", 5, 0), ("c", 9, 0)]) == [False] * 3
    assert deduplicator.evicted == 1
    assert play(deduplicator, [("a", 7, 0), ("c", 9, 0)]) == [True, True]


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="retention_us"):
        Deduplicator(-1, 5)
    with pytest.raises(ValueError, match="max_ids"):
        Deduplicator(1, 0)


def test_a_foreign_snapshot_is_refused() -> None:
    snapshot = Deduplicator(64, 2).snapshot()
    with pytest.raises(SnapshotError, match="retention_us was 64, is 65"):
        Deduplicator.restore(65, 2, [snapshot])
    with pytest.raises(SnapshotError, match="version 3, this code reads up to 2"):
        Deduplicator.restore(64, 2, [snapshot.replace(b"\x96\x02", b"\x96\x03")])
    for damaged in (b"", b"\x05", snapshot[:-1]):
        with pytest.raises(SnapshotError, match="damaged"):
            Deduplicator.restore(64, 2, [damaged])


@given(
    logs(),
    st.lists(st.integers(0, 80), max_size=8),
    st.lists(st.booleans(), min_size=1, max_size=4),
    st.sampled_from([3, 100]),
)
@settings(deadline=None, max_examples=60)
def test_changes_add_up_to_the_state(
    log: list[Occurrence], cuts: list[int], restart: list[bool], most: int
) -> None:
    whole = Deduplicator(200, most)
    expected = play(whole, log)
    parts, found = Deduplicator(200, most), []
    before: list[bytes] = []
    since: list[bytes] = []
    edges = [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    for number, (start, end) in enumerate(pairwise(edges)):
        found += play(parts, log[start:end])
        written, complete = parts.changes()
        since.append(b"".join(written))
        if complete:
            before, since = since, []
        if restart[number % len(restart)]:
            parts = Deduplicator.restore(200, most, [*before, *since])
            before, since = [b"".join(parts.changes(everything=True).parts)], []
    assert found == expected
    assert (len(parts), parts.evicted) == (len(whole), whole.evicted)


def test_an_id_that_had_to_go_is_gone_after_a_restart() -> None:
    deduplicator = Deduplicator(64, 40)
    play(deduplicator, [(f"id {i}", 39 - i, 0) for i in range(40)])
    frames = [b"".join(deduplicator.changes(everything=True).parts)]
    assert play(deduplicator, [("more", 50, 0)]) == [False]  # id 39 has to go
    frames.append(b"".join(deduplicator.changes().parts))
    restored = Deduplicator.restore(64, 40, frames)
    assert (len(restored), restored.evicted) == (len(deduplicator), 1)
    again: list[Occurrence] = [("id 38", 1, 0), ("id 39", 0, 0)]
    assert play(restored, again) == play(deduplicator, again) == [True, False]


def test_ids_long_gone_leave_neither_memory_nor_bytes_behind() -> None:
    deduplicator = Deduplicator(1000, 10**6)
    many: list[Occurrence] = [(f"id {i}", 0, 0) for i in range(100_000)]
    play(deduplicator, many)
    memory, whole = deduplicator.nbytes, len(b"".join(deduplicator.changes(True).parts))
    sizes = []
    for start in range(5_000, 105_000, 500):
        play(deduplicator, [(f"later {i}", i, i) for i in range(start, start + 500)])
        written = len(b"".join(deduplicator.changes().parts))
        sizes.append((deduplicator.nbytes, len(deduplicator.snapshot()), written))
    assert max(sizes[10:]) <= tuple(1.2 * size for size in max(sizes[10:50]))
    assert sizes[-1][0] < memory / 10
    assert sizes[-1][1] < whole / 30
    assert sizes[-1][2] < whole / 30
