"""Figures equal plain definitions."""

from __future__ import annotations

import numpy as np
import pytest

from services.training.metrics import (
    Judged,
    average_precision,
    by_budget,
    by_cost,
    calibration,
    card_precision,
    interval,
)


def drawn(seed: int, n: int = 2_000) -> Judged:
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.05
    scores = 0.2 * rng.random(n) + np.where(positive, 0.4 * rng.random(n), 0.0)
    return Judged(
        np.round(scores, 3), positive, np.sort(rng.integers(0, 7, n)), rng.integers(0, 300, n)
    )


def test_a_card_that_was_caught_is_not_looked_at_again() -> None:
    judged = Judged(
        scores=np.array([0.9, 0.8, 0.1, 0.9, 0.5, 0.4]),
        positive=np.array([True, False, False, True, True, False]),
        days=np.array([0, 0, 0, 1, 1, 1]),
        cards=np.array([1, 2, 3, 1, 2, 3]),
    )
    # day 0: cards 1 and 2 are looked at, 1 is caught; day 1: 2 and 3, 2 is caught
    assert card_precision(judged, 2) == pytest.approx((0.5 + 0.5) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_are_the_best_of_all(seed: int) -> None:
    judged = drawn(seed)
    missed, alert = 50.0, 7.0

    def cost(cut: float) -> float:
        alerted = judged.scores >= cut
        return float(alert * alerted.sum() + missed * (judged.positive & ~alerted).sum()) / 7

    cuts = [*np.unique(judged.scores), 2.0]
    best = by_cost(judged, missed, alert)
    assert best.cost_per_day == pytest.approx(min(map(cost, cuts)))
    assert best.cost_per_day == pytest.approx(cost(best.score))
    budget = by_budget(judged, 10, missed, alert)
    assert budget.alerts_per_day <= 10
    lower = [cut for cut in cuts if cut < budget.score]
    assert not lower or (judged.scores >= max(lower)).sum() > 70
    alerted = judged.scores >= budget.score
    assert budget.recall == pytest.approx(judged.positive[alerted].sum() / judged.positive.sum())


def test_nothing_may_be_alerted() -> None:
    judged = drawn(1)
    assert by_cost(judged, 0.0, 1.0).alerts_per_day == 0


def test_the_interval_is_around_the_figure() -> None:
    folds = [drawn(1), drawn(2)]
    low, high = interval(folds, 0)
    middle = np.mean([average_precision(fold) for fold in folds])
    assert low < middle < high
    assert high - low < 0.25


def test_calibration_counts_every_row_once() -> None:
    judged = drawn(3)
    bins = calibration(judged)
    assert sum(each["rows"] for each in bins) == len(judged.scores)
    assert [each["score"] for each in bins] == sorted(each["score"] for each in bins)
    total = sum(each["positive"] * each["rows"] for each in bins)
    assert total == pytest.approx(judged.positive.sum())
