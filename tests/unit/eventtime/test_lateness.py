"""The four lateness classes against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.eventtime.lateness import Lateness, classify

PAIRS = st.lists(st.tuples(st.integers(-60, 60), st.integers(-60, 60)), max_size=50)


def by_definition(time: int, watermark: int, lateness: int, horizon: int) -> Lateness:
    if time >= watermark:
        return Lateness.ON_TIME
    if time >= watermark - lateness:
        return Lateness.LATE
    if time >= watermark - horizon:
        return Lateness.BUFFERED
    return Lateness.EXPIRED


@given(PAIRS, st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None, max_examples=200)
def test_classes_follow_the_definition(
    pairs: list[tuple[int, int]], lateness: int, more: int
) -> None:
    times = np.array([time for time, _ in pairs], np.int64)
    watermarks = np.array([watermark for _, watermark in pairs], np.int64)
    found = classify(times, watermarks, lateness, lateness + more)
    assert found.dtype == np.uint8
    assert found.tolist() == [
        by_definition(time, watermark, lateness, lateness + more) for time, watermark in pairs
    ]


def test_the_ends_of_time_do_not_overflow() -> None:
    times = np.array([-(2**62), 2**62, 0])
    watermarks = np.array([-(2**62), 2**62 - 30, 2**62])
    expected = [Lateness.ON_TIME, Lateness.ON_TIME, Lateness.EXPIRED]
    assert classify(times, watermarks, 3600, 7 * 86400).tolist() == expected


@pytest.mark.parametrize(("lateness", "horizon"), [(-1, 5), (6, 5)])
def test_impossible_limits_are_refused(lateness: int, horizon: int) -> None:
    with pytest.raises(ValueError, match="horizon"):
        classify(np.array([1]), np.array([2]), lateness, horizon)
