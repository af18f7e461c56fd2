"""Sums per window and group: every timely event counts once, every window is told once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataflows.eventtime.watermark import END_OF_TIME_US, START_OF_TIME_US
from dataflows.eventtime.window_sums import Closed, OpenWindows, WindowSums

SIZE, LATENESS, GROUPS = 10, 7, 3


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """(time, group, amount, watermark) of events that are timely: at most LATENESS behind."""
    events, watermark = [], draw(st.integers(-50, 50))
    for _ in range(draw(st.integers(1, 40))):
        watermark += draw(st.sampled_from([0, 0, 1, 3, 8, 40]))
        time = watermark + draw(st.integers(-LATENESS, 15))
        amount = draw(st.integers(-5, 5))
        events.append((time, draw(st.integers(0, GROUPS - 1)), amount, watermark))
    return events


def run(
    windows: WindowSums,
    events: list[tuple[int, int, int, int]],
    sizes: list[int],
    restarts: bool = False,
) -> Any:
    """What was told, in batches of these sizes, each with the index of the event that made it."""
    told, begin = [], 0
    for size in [*sizes, len(events)]:
        batch = events[begin : begin + size]
        windows = restored(windows) if restarts else windows
        if batch:
            times, groups, amounts, watermarks = np.array(batch, np.int64).T
            ones, rows = np.ones(len(batch), np.int64), np.arange(len(batch))
            found = windows.process(times, groups, ones, amounts, rows, watermarks)
            told += [(begin + closed.row, closed.until_us, _plain(closed)) for closed in found]
        begin += size
    return told


def restored(windows: WindowSums) -> WindowSums:
    again = WindowSums(SIZE, LATENESS, GROUPS)
    saved = msgspec.msgpack.encode(windows.snapshot())
    again.restore(msgspec.msgpack.decode(saved, type=OpenWindows))
    return again


def _plain(closed: Closed) -> dict[int, list[list[int]]]:
    return {start: sums.tolist() for start, sums in closed.windows.items()}


@given(streams(), st.lists(st.integers(1, 9), max_size=20))
def test_batches_and_restarts_change_nothing(events: Any, sizes: list[int]) -> None:
    together = run(WindowSums(SIZE, LATENESS, GROUPS), events, [])
    assert run(WindowSums(SIZE, LATENESS, GROUPS), events, sizes, restarts=True) == together


@given(streams())
def test_each_window_is_told_once_with_all_its_events_when_none_can_come_any_more(
    events: Any,
) -> None:
    end = (END_OF_TIME_US - 1, 0, 0, END_OF_TIME_US)  # in a window that stays open
    windows = WindowSums(SIZE, LATENESS, GROUPS)
    told = run(windows, [*events, end], [])
    wanted: Counter[tuple[int, int]] = Counter()
    amounts: Counter[tuple[int, int]] = Counter()
    for time, group, amount, _ in events:
        wanted[time // SIZE * SIZE, group] += 1
        amounts[time // SIZE * SIZE, group] += amount
    found: Counter[tuple[int, int]] = Counter()
    for row, until, sums in told:
        watermark = [*events, end][row][3]
        assert until <= watermark - LATENESS < until + SIZE
        for start, groups in sums.items():
            assert start + SIZE <= until
            for group, (count, amount) in enumerate(groups):
                assert (start, group) not in found
                if count:
                    found[start, group] = count
                assert amount == amounts[start, group]
    assert found == wanted
    assert len(windows.snapshot().windows) == 1
    untils = [until for _, until, _ in told]
    assert untils == sorted(set(untils))


def test_who_begins_in_the_middle_counts_whole_windows_only() -> None:
    windows = WindowSums(SIZE, LATENESS, 1, newest_us=25)
    assert windows.since_us == 30
    told = run(windows, [(26, 0, 1, 20), (30, 0, 2, 24), (35, 0, 3, 60)], [1, 1])
    assert told[-1][2] == {30: [[2, 5]]}
    assert WindowSums(SIZE, LATENESS, 1).since_us == START_OF_TIME_US
