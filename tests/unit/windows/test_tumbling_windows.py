"""TumblingWindows: what is known last equals SQL, revisions count up, batches do not matter."""

from itertools import pairwise

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.eventtime.snapshots import SnapshotError
from dataflows.eventtime.tumbling import TumblingRows, TumblingWindows

SIZE, LATENESS, BOUND = 10, 15, 4
END = 2**62
Event = tuple[str | None, int, int]  # key, time, value

events = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "é", None]),
        st.tuples(st.integers(0, 8), st.integers(0, 40)),
        st.integers(-100, 100),
    ),
    max_size=80,
).map(
    lambda drawn: [
        (key, 100 + sum(step for _, (step, _), _ in drawn[: i + 1]) - behind, value)
        for i, (key, (_, behind), value) in enumerate(drawn)
    ]
)


def watermarks(arrived: list[Event]) -> np.ndarray:
    times = np.array([time for _, time, _ in arrived], np.int64)
    return np.maximum.accumulate(times) - BOUND if len(times) else times


def feed(windows: TumblingWindows, arrived: list[Event], marks: np.ndarray) -> list[tuple]:
    rows = windows.process(
        [key for key, _, _ in arrived],
        np.array([time for _, time, _ in arrived], np.int64),
        np.array([value for _, _, value in arrived], np.int64),
        marks,
    )
    return as_tuples(rows)


def as_tuples(rows: TumblingRows) -> list[tuple]:
    return list(zip(rows.keys, rows.starts_us, rows.counts, rows.sums, rows.revisions, strict=True))


def finish(windows: TumblingWindows) -> list[tuple]:
    return feed(windows, [(None, 0, 0)], np.array([END]))


@settings(deadline=None, max_examples=150)
@given(events, st.lists(st.integers(0, 80)), st.booleans())
def test_batches_and_restores_do_not_matter(
    arrived: list[Event], cuts: list[int], restore: bool
) -> None:
    marks = watermarks(arrived)
    whole = TumblingWindows(SIZE, LATENESS)
    expected = feed(whole, arrived, marks) + finish(whole)
    windows, got = TumblingWindows(SIZE, LATENESS), []
    edges = sorted({0, len(arrived), *(c for c in cuts if c < len(arrived))})
    for begin, end in pairwise(edges):
        got += feed(windows, arrived[begin:end], marks[begin:end])
        if restore:
            saved = windows.snapshot()
            windows = TumblingWindows(SIZE, LATENESS)
            windows.restore(saved)
    assert got + finish(windows) == expected
    assert len(windows) == 0


@settings(deadline=None, max_examples=60)
@given(events)
def test_the_last_revisions_equal_sql(arrived: list[Event]) -> None:
    marks = watermarks(arrived)
    windows = TumblingWindows(SIZE, LATENESS)
    rows = feed(windows, arrived, marks) + finish(windows)
    last = {(key, start): (count, total) for key, start, count, total, _ in rows}
    revisions: dict[tuple[str, int], int] = {}
    for key, start, _, _, revision in rows:
        assert revision == revisions.get((key, start), -1) + 1
        revisions[key, start] = revision
    with duckdb.connect() as sql:
        table = {
            "seq": pa.array(range(len(arrived)), pa.int64()),
            "key": pa.array([key for key, _, _ in arrived], pa.string()),
            "t": pa.array([time for _, time, _ in arrived], pa.int64()),
            "v": pa.array([value for _, _, value in arrived], pa.int64()),
        }
        sql.register("e", pa.table(table))
        expected = sql.execute(
            f"""
            SELECT key, t - t % {SIZE} AS start, count(*), sum(v)
            FROM (SELECT *, max(t) OVER (ORDER BY seq) - {BOUND} AS watermark FROM e)
            WHERE key IS NOT NULL AND t >= watermark - {LATENESS}
            GROUP BY ALL
            """
        ).fetchall()
    assert last == {(key, start): (count, int(total)) for key, start, count, total in expected}


def test_a_window_is_emitted_when_the_watermark_reaches_its_end_and_revised_by_late_events() -> (
    None
):
    windows = TumblingWindows(10, 15)
    arrived: list[Event] = [("b", 1, 5), ("a", 3, 7), ("a", 9, 1), ("b", 12, 2), ("a", 4, 100)]
    marks = np.array([0, 0, 9, 10, 10])
    rows = windows.process(
        [e[0] for e in arrived],
        np.array([e[1] for e in arrived]),
        np.array([e[2] for e in arrived]),
        marks,
    )
    assert as_tuples(rows) == [("a", 0, 2, 8, 0), ("b", 0, 1, 5, 0), ("a", 0, 3, 108, 1)]
    assert rows.causes == [3, 3, 4]
    assert finish(windows) == [("b", 10, 1, 2, 0)]


def test_a_snapshot_for_another_size_is_refused() -> None:
    with pytest.raises(SnapshotError, match="size_us was 10, is 20"):
        TumblingWindows(20, 15).restore(TumblingWindows(10, 15).snapshot())
