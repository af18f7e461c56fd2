"""The watermark against a loop that follows its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.eventtime.watermark import END_OF_TIME_US, START_OF_TIME_US, Watermark

TIMES = st.one_of(st.integers(-50, 50), st.integers(-(2**63), 2**63 - 1))
LOGS = st.lists(st.tuples(TIMES, st.booleans()), max_size=40)


def by_definition(log: list[tuple[int, bool]], bound: int) -> list[int]:
    newest = START_OF_TIME_US
    watermarks = []
    for time, counts in log:
        if counts:
            newest = max(newest, min(time, END_OF_TIME_US))
        watermarks.append(max(newest - bound, START_OF_TIME_US))
    return watermarks


@given(LOGS, st.sampled_from([0, 7, 30_000_000]), st.integers(0, 40))
@settings(deadline=None, max_examples=200)
def test_advance_follows_the_definition_across_batches_and_restarts(
    log: list[tuple[int, bool]], bound: int, cut: int
) -> None:
    watermark = Watermark(bound)
    found: list[int] = []
    for part in (log[:cut], log[cut:]):
        times = np.array([time for time, _ in part], np.int64)
        counts = np.array([counts for _, counts in part], np.bool_)
        found += watermark.advance(times, counts).tolist()
        assert watermark.value_us == (found[-1] if found else START_OF_TIME_US)
        watermark = Watermark(bound, watermark.snapshot())
    assert found == by_definition(log, bound)


def test_it_starts_before_all_time_and_ends_with_the_final_heartbeat() -> None:
    watermark = Watermark(30)
    assert watermark.value_us == -(2**62)
    watermark.advance(np.array([2**62]), np.array([True]))
    assert watermark.value_us == 2**62 - 30


def test_a_record_that_does_not_count_cannot_move_it() -> None:
    watermark = Watermark(30)
    times = np.array([100, 2**60, 101])
    assert watermark.advance(times, np.array([True, False, True])).tolist() == [70, 70, 71]


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="bound_us"):
        Watermark(-1)
