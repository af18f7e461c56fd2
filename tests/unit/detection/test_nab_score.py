"""The benchmark's scorer, against values worked out by hand and against a slow one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.nab import (
    LOW_FALSE_NEGATIVES,
    LOW_FALSE_POSITIVES,
    STANDARD,
    LabelledSeries,
    Profile,
    Window,
    at_threshold,
    best,
    read_corpus,
)


def labelled(rows: int, *windows: tuple[int, int]) -> LabelledSeries:
    times = np.arange(rows, dtype=np.int64)
    return LabelledSeries("group/file", times, np.zeros(rows), [Window(*w) for w in windows])


def flags(rows: int, *raised: int) -> np.ndarray:
    scores = np.zeros(rows)
    scores[list(raised)] = 1.0
    return scores


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_first_row_of_each_window_alone_is_perfect() -> None:
    corpus = [labelled(200, (50, 60), (100, 139)), labelled(100), labelled(100, (90, 99))]
    scores = [flags(200, 50, 100), flags(100), flags(100, 90)]
    assert best(corpus, scores) == (pytest.approx(100), 1.0)


def test_nothing_raised_is_nothing_gained() -> None:
    corpus = [labelled(200, (50, 60))]
    assert best(corpus, [np.zeros(200)]) == (0.0, math.inf)
    assert at_threshold(corpus, [np.zeros(200)], 0.5) == 0.0


def test_a_detection_is_worth_less_the_later_it_is() -> None:
    """By hand: a window of 11 rows, row 55 of 50..60 is at -(60 - 55 + 1) / 11."""
    worth = (2 * sigmoid(5 * 6 / 11) - 1) / (2 * sigmoid(5) - 1)
    assert worth == pytest.approx(0.8891, abs=1e-4)
    found = at_threshold([labelled(200, (50, 60))], [flags(200, 55)], 0.5)
    assert found == pytest.approx(100 * (1 + worth) / 2)
    both = at_threshold([labelled(200, (50, 60))], [flags(200, 55, 58)], 0.5)
    assert both == pytest.approx(found)


def test_a_false_alarm_costs_less_shortly_after_a_window() -> None:
    """By hand: row 61 is a tenth of the window's width of 11 - 1 behind it, row 100 far off."""
    near = at_threshold([labelled(200, (50, 60))], [flags(200, 61)], 0.5)
    far = at_threshold([labelled(200, (50, 60))], [flags(200, 100)], 0.5)
    before = at_threshold([labelled(200, (50, 60))], [flags(200, 49)], 0.5)
    assert near == pytest.approx(100 * (2 * sigmoid(-0.5) - 1) / 2)
    assert far == before == -50.0


def test_the_first_rows_do_not_count() -> None:
    assert labelled(1_000).probation == 150
    assert labelled(22_695).probation == 750
    corpus = [labelled(200, (50, 60))]
    assert at_threshold(corpus, [flags(200, 29, 50)], 0.5) == pytest.approx(100)
    assert at_threshold(corpus, [flags(200, 30, 50)], 0.5) == pytest.approx(50)


def test_one_threshold_serves_all_files() -> None:
    corpus = [labelled(200, (50, 60)), labelled(200, (50, 60))]
    scores = [flags(200, 50) * 0.3, flags(200, 50) * 0.9 + flags(200, 100, 150, 190) * 0.4]
    assert best(corpus, scores) == (pytest.approx(50), 0.9)


@given(st.data())
def test_it_is_what_a_count_row_by_row_gives(data: st.DataObject) -> None:
    rows = data.draw(st.integers(20, 80))
    edges = sorted(data.draw(st.sets(st.integers(0, rows - 1), max_size=6)))
    windows = list(zip(edges[::2], edges[1::2], strict=False)) or [(rows - 5, rows - 2)]
    scores = np.array(data.draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows))) / 4
    profile = data.draw(st.sampled_from([STANDARD, LOW_FALSE_POSITIVES, LOW_FALSE_NEGATIVES]))
    series = labelled(rows, *windows)
    if all(last < series.probation for _, last in windows):
        return
    for threshold in (0.25, 0.5, 1.0):
        expected = by_rows(series, scores >= threshold, profile)
        assert at_threshold([series], [scores], threshold, profile) == pytest.approx(expected)
    highest = max(0.0, *(by_rows(series, scores >= t, profile) for t in np.unique(scores)))
    assert best([series], [scores], profile).score == pytest.approx(highest)


def by_rows(series: LabelledSeries, raised: np.ndarray, profile: Profile) -> float:
    """The published rules, window after window and alarm after alarm."""
    scorable = [w for w in series.windows if w.last >= series.probation]
    total = 0.0
    for first, last in scorable:
        hits = [row for row in range(max(first, series.probation), last + 1) if raised[row]]
        if hits:
            position = -(last - hits[0] + 1) / (last - first + 1)
            total += profile.hit * (2 * sigmoid(-5 * position) - 1) / (2 * sigmoid(5) - 1)
        else:
            total -= profile.miss
    for row in range(series.probation, len(raised)):
        inside = any(first <= row <= last for first, last in series.windows)
        if raised[row] and not inside:
            before = [w for w in series.windows if w.last < row]
            cost = 1.0
            if before and before[-1].last > before[-1].first:
                past = (row - before[-1].last) / (before[-1].last - before[-1].first)
                cost = 1.0 if past >= 3 else 1 - 2 * sigmoid(-5 * past)
            total -= profile.false_alarm * cost
    nothing = -profile.miss * len(scorable)
    return 100 * (total - nothing) / (profile.hit * len(scorable) - nothing)


def test_the_real_files_have_the_labels_that_they_should(shared_data: Path) -> None:
    corpus = read_corpus(shared_data / "nab")
    assert len(corpus) == 18
    assert sum(len(series.windows) for series in corpus) == 20
    for series in corpus:
        assert (np.diff(series.times_us) >= 0).all()
        covered = sum(last - first + 1 for first, last in series.windows)
        assert covered == 0 or covered / len(series.values) == pytest.approx(0.1, abs=0.02)
