"""How good scores are: ranking, cards caught a day, cost, calibration; with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

RESAMPLES = 200
BINS = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """A fold's test rows: scores, what they were, day and card of each."""

    scores: NDArray[np.float64]
    positive: NDArray[np.bool_]
    days: NDArray[np.int64]
    cards: NDArray[np.int64]


def average_precision(judged: Judged) -> float:
    return float(average_precision_score(judged.positive, judged.scores))


def roc_auc(judged: Judged) -> float:
    return float(roc_auc_score(judged.positive, judged.scores))


def card_precision(judged: Judged, k: int) -> float:
    """Of the k cards with the highest score of a day, the share with a fraud on it; mean of days.

    A card that was caught on a day is not looked at on later ones.
    """
    caught: set[int] = set()
    shares = []
    for day in np.unique(judged.days):
        rows = np.flatnonzero((judged.days == day) & (judged.cards >= 0))
        rows = rows[~np.isin(judged.cards[rows], list(caught))]
        cards, place = np.unique(judged.cards[rows], return_inverse=True)
        if not len(cards):
            continue
        best, fraud = np.zeros(len(cards)), np.zeros(len(cards), np.bool_)
        np.maximum.at(best, place, judged.scores[rows])
        np.logical_or.at(fraud, place, judged.positive[rows])
        top = np.argsort(-best, kind="stable")[:k]
        shares.append(fraud[top].sum() / k)
        caught.update(cards[top][fraud[top]].tolist())
    return float(np.mean(shares)) if shares else 0.0


def interval(folds: Sequence[Judged], seed: int) -> tuple[float, float]:
    """95 % of the mean average precision of the folds, by resampling the rows of each."""
    rng = np.random.default_rng(seed)
    means = np.mean([_resampled(judged, rng) for judged in folds], axis=0)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _resampled(judged: Judged, rng: np.random.Generator) -> NDArray[np.float64]:
    """Average precision with every row drawn a Poisson number of times; ties in order of rows."""
    order = np.argsort(-judged.scores, kind="stable")
    positive = judged.positive[order]
    found = np.empty(RESAMPLES)
    for k in range(RESAMPLES):
        weights = rng.poisson(1.0, len(order))
        hits, seen = np.cumsum(weights * positive), np.cumsum(weights)
        gained = (weights * positive)[seen > 0]
        precision = hits[seen > 0] / seen[seen > 0]
        found[k] = (precision * gained).sum() / max(hits[-1], 1)
    return found


def calibration(judged: Judged) -> list[dict[str, float]]:
    """Up to ten groups of rows by score, of equal size: mean score, share of positives, rows."""
    order = np.argsort(judged.scores, kind="stable")
    return [
        {
            "score": float(judged.scores[rows].mean()),
            "positive": float(judged.positive[rows].mean()),
            "rows": len(rows),
        }
        for rows in np.array_split(order, BINS)
        if len(rows)
    ]


def brier(judged: Judged) -> float:
    """Mean squared distance of the scores from what was."""
    return float(((judged.scores - judged.positive) ** 2).mean())


@dataclass(frozen=True, slots=True)
class Threshold:
    """An event alerts from `score` on."""

    score: float
    alerts_per_day: float
    precision: float
    recall: float
    cost_per_day: float


def by_cost(judged: Judged, missed: float, alert: float) -> Threshold:
    """The threshold that costs least: `missed` for each fraud not alerted, `alert` each alert."""
    scores, alerts, hits = _cuts(judged)
    costs = alert * alerts + missed * (judged.positive.sum() - hits)
    return _threshold(judged, scores, alerts, hits, int(np.argmin(costs)), missed, alert)


def by_budget(judged: Judged, per_day: float, missed: float, alert: float) -> Threshold:
    """The lowest threshold with at most so many alerts a day."""
    scores, alerts, hits = _cuts(judged)
    allowed = np.flatnonzero(alerts <= per_day * len(np.unique(judged.days)))
    return _threshold(judged, scores, alerts, hits, int(allowed[-1]), missed, alert)


def _cuts(judged: Judged) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Every threshold that makes a difference, from none alerted on: alerts and hits of each."""
    order = np.argsort(-judged.scores, kind="stable")
    scores = judged.scores[order]
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    alerts = np.concatenate([[0], last + 1])
    hits = np.concatenate([[0], np.cumsum(judged.positive[order])[last]])
    return np.concatenate([[np.nextafter(scores[0], np.inf)], scores[last]]), alerts, hits


def _threshold(
    judged: Judged,
    scores: NDArray[np.float64],
    alerts: NDArray[np.int64],
    hits: NDArray[np.int64],
    at: int,
    missed: float,
    alert: float,
) -> Threshold:
    days, total = len(np.unique(judged.days)), int(judged.positive.sum())
    cost = alert * alerts[at] + missed * (total - hits[at])
    return Threshold(
        score=float(scores[at]),
        alerts_per_day=float(alerts[at] / days),
        precision=float(hits[at] / max(alerts[at], 1)),
        recall=float(hits[at] / max(total, 1)),
        cost_per_day=float(cost / days),
    )
