"""SlidingWindows equal brute force and SQL: any order, any batches, across restores."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import NamedTuple, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.eventtime.snapshots import SnapshotError
from dataflows.eventtime.windows import SlidingWindows, WindowColumns

LATENESS = 20
WINDOWS = (1, 7, 30)
RETENTION = 45


class Record(NamedTuple):
    entity: str | None
    time: int
    value: int
    others: tuple[str | None, str | None]
    watermark: int


class Answer(NamedTuple):
    counts: tuple[int, ...]
    sums: tuple[int, ...]
    maxima: tuple[int, ...]
    distinct: tuple[tuple[int, int], ...]
    seen: tuple[bool, bool]
    since: int


Drawn: TypeAlias = tuple[str | None, int, int, int, tuple[str | None, str | None]]

names = st.one_of(st.none(), st.sampled_from(["ann", "bob", "zoë"]))
others = st.one_of(st.none(), st.sampled_from(["x", "y", "z", ""]))
arrivals = st.lists(
    st.tuples(
        names,
        st.integers(-3, 12),  # how far event time moves
        st.integers(0, 40),  # how far behind the event is
        st.integers(-(10**6), 10**6),
        st.tuples(others, others),
    ),
    max_size=120,
)


def as_records(drawn: list[Drawn]) -> list[Record]:
    records = []
    now, watermark = 1000, -(2**62)
    for entity, step, behind, value, other in drawn:
        now += step
        watermark = max(watermark, now - 5)
        records.append(Record(entity, now - behind, value, other, watermark))
    return records


def windows(settle: int = 0) -> SlidingWindows:
    return SlidingWindows(WINDOWS, LATENESS, others=2, retention_us=RETENTION, settle_us=settle)


def feed(state: SlidingWindows, records: list[Record]) -> WindowColumns:
    return state.process(
        [r.entity for r in records],
        np.array([r.time for r in records], np.int64),
        np.array([r.value for r in records], np.int64),
        [[r.others[m] for r in records] for m in range(2)],
        np.array([r.watermark for r in records], np.int64),
    )


def rows(columns: WindowColumns) -> list[Answer]:
    return [
        Answer(
            tuple(columns.counts[:, i].tolist()),
            tuple(columns.sums[:, i].tolist()),
            tuple(columns.maxima[:, i].tolist()),
            tuple((int(a), int(b)) for a, b in columns.distinct[:, :, i]),
            (bool(columns.seen[0, i]), bool(columns.seen[1, i])),
            int(columns.since_us[i]),
        )
        for i in range(columns.counts.shape[1])
    ]


def brute_force(records: list[Record], settle: int) -> Iterator[Answer]:
    """Look at every record so far, one at a time."""
    arrived: list[Record] = []
    for record in records:
        if record.entity is None:
            yield Answer((0,) * 3, (0,) * 3, (0,) * 3, ((0, 0),) * 3, (False, False), -1)
            continue
        floor = record.watermark - LATENESS - RETENTION
        beside = [r for r in arrived if r.entity == record.entity and floor < r.time <= record.time]
        alone = record.time <= floor
        if not alone:
            arrived.append(record)
        within = [
            [r for r in beside if r.time > record.time - w] + [record]
            for w in (*WINDOWS, RETENTION)
        ]
        if alone:
            within = [[record]] * 4
        before = within[3][:-1]
        settled = [r.others for r in before if r.time <= record.time - settle]
        yield Answer(
            tuple(len(w) for w in within[:3]),
            tuple(sum(r.value for r in w) for w in within[:3]),
            tuple(max(r.value for r in w) for w in within[:3]),
            tuple(
                (
                    len({r.others[0] for r in w} - {None}),
                    len({r.others[1] for r in w} - {None}),
                )
                for w in within[:3]
            ),
            (
                record.others[0] in {other[0] for other in settled} - {None},
                record.others[1] in {other[1] for other in settled} - {None},
            ),
            record.time - max(r.time for r in before) if before else -1,
        )


@settings(deadline=None, max_examples=200)
@given(
    arrivals,
    st.lists(st.integers(0, 120)),
    st.sampled_from([0, 1, 9, 44]),
    st.randoms(use_true_random=False),
)
def test_equals_brute_force_whatever_the_batches_and_restores(
    drawn: list[Drawn], cuts: list[int], settle: int, random: Random
) -> None:
    records = as_records(drawn)
    expected = list(brute_force(records, settle))
    state, got = windows(settle), []
    edges = sorted({0, len(records), *(c for c in cuts if c < len(records))})
    for begin, end in pairwise(edges):
        got += rows(feed(state, records[begin:end]))
        if random.random() < 0.3:
            saved = state.snapshot()
            state = windows(settle)
            state.restore([saved])
            assert state.snapshot() == saved
    assert got == expected


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_equals_sql(seed: int, shuffled: bool) -> None:
    rng = np.random.default_rng(seed)
    n = 400
    times = rng.choice(5_000, n, replace=False).astype(np.int64)
    times = times if shuffled else np.sort(times)
    records = [
        Record(f"e{e}", int(t), int(v), (f"o{o}", None), -(2**62))
        for e, t, v, o in zip(
            rng.integers(0, 5, n),
            times,
            rng.integers(-1000, 1000, n),
            rng.integers(0, 6, n),
            strict=True,
        )
    ]
    spans = (10, 200, 3_000)
    columns = feed(SlidingWindows(spans, 0, others=2), records)
    query = by_arrival(spans) if shuffled else by_range(spans)
    with duckdb.connect() as sql:
        arrived = pa.table(
            {
                "seq": range(n),
                "entity": [r.entity for r in records],
                "t": pa.array([r.time for r in records], pa.timestamp("us")),
                "v": [r.value for r in records],
                "o": [r.others[0] for r in records],
            }
        )
        sql.register("r", arrived)
        expected = sql.execute(query).fetchall()
    got = [
        tuple(
            int(figure[w, i])
            for w in range(3)
            for figure in (columns.counts, columns.sums, columns.maxima, columns.distinct[:, 0])
        )
        for i in range(n)
    ]
    assert got == expected


def by_range(spans: tuple[int, ...]) -> str:
    """In order of time, SQL's own window frames; (t-w, t] has whole microseconds, so w - 1."""
    figures = ", ".join(
        f"count(*) OVER w{w}, sum(v) OVER w{w}, max(v) OVER w{w}, count(DISTINCT o) OVER w{w}"
        for w in spans
    )
    frames = ", ".join(
        f"w{w} AS (PARTITION BY entity ORDER BY t RANGE BETWEEN INTERVAL {w - 1} MICROSECONDS "
        "PRECEDING AND CURRENT ROW)"
        for w in spans
    )
    return f"SELECT {figures} FROM r WINDOW {frames} ORDER BY seq"


def by_arrival(spans: tuple[int, ...]) -> str:
    """In any order, a join with what had arrived."""
    figures = ", ".join(
        "count(*) FILTER ({0}), sum(b.v) FILTER ({0}), max(b.v) FILTER ({0}), "
        "count(DISTINCT b.o) FILTER ({0})".format(f"b.t > a.t - INTERVAL {w} MICROSECONDS")
        for w in spans
    )
    return (
        f"SELECT {figures} FROM r a JOIN r b "
        "ON a.entity = b.entity AND b.seq <= a.seq AND b.t <= a.t GROUP BY a.seq ORDER BY a.seq"
    )


def test_a_burst_of_one_entity_is_exact_and_its_memory_comes_back() -> None:
    state = SlidingWindows((1_000,), 0, others=1)
    n = 20_000
    times = np.arange(n, dtype=np.int64)
    columns = state.process(["hot"] * n, times, np.ones(n, np.int64), [["o"] * n], times)
    assert columns.counts[0].tolist() == np.minimum(times + 1, 1_000).tolist()
    before = state.nbytes
    for begin in range(n, 20 * n, n):
        state.process(["hot"] * n, times + begin, np.ones(n, np.int64), [["o"] * n], times + begin)
    assert state.nbytes == before


def test_entities_and_others_without_events_are_removed() -> None:
    state = SlidingWindows((10,), 5, others=1)
    n = 30_000
    times = np.arange(n, dtype=np.int64) * 20
    for begin in range(0, n, 500):
        part = range(begin, begin + 500)
        state.process(
            [f"e{i}" for i in part],
            times[part],
            times[part],
            [[f"o{i}" for i in part]],
            times[part],
        )
    assert len(state) < 1_500
    assert len(state.snapshot()) < 100_000
    assert state.nbytes < 1_000_000
    state.process([None], np.zeros(1, np.int64), np.zeros(1, np.int64), [[None]], np.array([2**62]))
    assert len(state) < 1_500


def test_sums_are_exact_beyond_what_floats_hold() -> None:
    state = SlidingWindows((10,), 0, others=0)
    values = np.array([2**60, 1, -(2**60)], np.int64)
    columns = state.process(
        ["a"] * 3, np.arange(3, dtype=np.int64), values, [], np.zeros(3, np.int64)
    )
    assert columns.sums[0].tolist() == [2**60, 2**60 + 1, 1]


def test_no_records() -> None:
    columns = windows().process(
        [], np.empty(0, np.int64), np.empty(0, np.int64), [[], []], np.empty(0, np.int64)
    )
    assert columns.counts.shape == (3, 0)


def test_a_snapshot_for_other_windows_is_refused() -> None:
    saved = windows().snapshot()
    with pytest.raises(SnapshotError, match="windows_us was"):
        SlidingWindows((1, 8, 30), LATENESS, others=2, retention_us=RETENTION).restore([saved])


@pytest.mark.parametrize("blob", [b"", b"\x00", b"\x92\x01\x02", b"\xff" * 40])
def test_a_damaged_snapshot_is_refused(blob: bytes) -> None:
    with pytest.raises(SnapshotError, match="damaged"):
        windows().restore([blob])


def test_a_snapshot_of_another_version_is_refused() -> None:
    saved = windows().snapshot()
    with pytest.raises(SnapshotError, match="version 99, this code reads up to 2"):
        windows().restore([saved.replace(b"\x97\x02", b"\x97\x63", 1)])


@settings(deadline=None, max_examples=100)
@given(
    arrivals,
    st.lists(st.integers(0, 120), max_size=12),
    st.sampled_from([0, 9]),
    st.lists(st.booleans(), min_size=1, max_size=4),
)
def test_changes_add_up_to_the_state(
    drawn: list[Drawn], cuts: list[int], settle: int, restart: list[bool]
) -> None:
    records = as_records(drawn)
    expected = list(brute_force(records, settle))
    state, got = windows(settle), []
    before: list[bytes] = []
    since: list[bytes] = []
    edges = sorted({0, len(records), *(c for c in cuts if c < len(records))})
    for number, (begin, end) in enumerate(pairwise(edges)):
        got += rows(feed(state, records[begin:end]))
        parts, complete = state.changes()
        since.append(b"".join(parts))
        if complete:
            before, since = since, []
        if restart[number % len(restart)]:
            state = windows(settle)
            state.restore([*before, *since])
    assert got == expected


def test_changes_of_a_few_of_many_entities_add_up() -> None:
    rng = Random(5)
    records = [
        Record(f"e{rng.randrange(400)}", i, i, (f"o{rng.randrange(90)}", None), i - LATENESS)
        for i in range(2_000)
    ]
    expected = rows(feed(windows(), records))
    state, got = windows(), rows(feed(whole := windows(), records[:1_000]))
    state.restore([b"".join(whole.changes(everything=True).parts)])
    frames = [state.snapshot()]
    for begin in range(1_000, 2_000, 5):
        got += rows(feed(state, records[begin : begin + 5]))
        frames.append(b"".join(state.changes().parts))
        state = windows()
        state.restore(frames)
    assert got == expected


def test_entities_long_gone_leave_neither_memory_nor_bytes_behind() -> None:
    state = SlidingWindows((10,), 5, others=1)

    def pay(entities: range, time: int) -> None:
        times = np.full(len(entities), time)
        names = [f"entity {i}" for i in entities]
        state.process(names, times, times, [[f"card {i % 50}" for i in entities]], times)

    for first in range(0, 100_000, 10_000):
        pay(range(first, first + 10_000), 0)
    memory, whole = state.nbytes, len(b"".join(state.changes(everything=True).parts))
    sizes = []
    for time in range(100, 3_000, 20):
        pay(range(3_000), time)
        written = len(b"".join(state.changes().parts))
        sizes.append((state.nbytes, len(state.snapshot()), written))
    assert len(state) == 3_000
    assert max(sizes[60:]) <= tuple(1.1 * size for size in max(sizes[20:60]))
    assert sizes[-1][0] < memory / 4
    assert sizes[-1][1] < whole / 10


@pytest.mark.parametrize("spans", [(), (0,), (-5,)])
def test_windows_without_length_are_refused(spans: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 1 us"):
        SlidingWindows(spans, 0)
