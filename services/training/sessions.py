"""A model of sessions: an isolation forest, the score from which on one is unusual, the card."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from dataflows.detection.models import Card, Family, Model, digest_of
from dataflows.detection.session_model import (
    FEATURES,
    SPEC,
    VERSION,
    ByShare,
    features_of,
    scores_of,
    usual,
)
from dataflows.features.columns import as_rows
from services.history.sessions import LastSessions
from services.training.errors import TrainingError
from services.training.export import export
from services.training.train import CHECKED, Trained

SAMPLE: Final = 256
"""Sessions that a tree is grown from: more make unusual ones hide each other (Liu, Ting and Zhou,
Isolation Forest, 2008)."""
EARLIER: Final = 0.8
"""Of the sessions, those that a forest is made from to see what it finds in the others."""


@dataclass(frozen=True, slots=True)
class ForestSettings:
    """`share` of the sessions of training, at most, are at the threshold or above it."""

    name: str
    share: float
    trees: int
    seed: int


def train(past: LastSessions, settings: ForestSettings) -> Trained:
    """Raises TrainingError: there are too few sessions, or too many that are equally unusual."""
    names, sessions = tuple(FEATURES), past.sessions
    count = len(sessions)
    if count < 2 * SAMPLE:
        raise TrainingError(
            f"the lake holds {count} sessions, and a forest needs {2 * SAMPLE}: let more come in"
        )
    rows = as_rows(features_of(sessions), names)
    earlier, later = np.split(rows, [round(EARLIER * count)])
    judge = _fit(earlier, settings)
    from_on = threshold(scores_of(judge, earlier), settings.share)
    share_of_later = float((scores_of(judge, later) >= from_on).mean())
    model = _fit(rows, settings)
    scores, arrays = scores_of(model, rows), model.arrays()
    score = threshold(scores, settings.share)
    found = ByShare(score, float((scores >= score).mean()), settings.share)
    card = Card(
        name=settings.name,
        family=Family.ISOLATION,
        features=names,
        spec=SPEC,
        spec_version=VERSION,
        arrays=digest_of(arrays),
        trained={
            "from": _instant(sessions.started_us[0]),
            "to": _instant(sessions.started_us[-1]),
            "sessions": count,
            "seed": settings.seed,
            "trees": settings.trees,
            "usual": {name: msgspec.to_builtins(usual(rows[:, k])) for k, name in enumerate(names)},
        },
        metrics={"share_of_later": {"value": share_of_later, "sessions": len(later)}},
        thresholds={"by_share": msgspec.to_builtins(found)},
        calibration=[],
        importance={},
    )
    return Trained(card.sealed(), model, arrays)


def threshold(scores: NDArray[np.float64], share: float) -> float:
    """The lowest of n scores that at most this share of them reaches. Raises TrainingError."""
    most = floor(share * len(scores))
    values, counts = np.unique(scores, return_counts=True)
    reaching = np.cumsum(counts[::-1])[::-1]
    low_enough = values[reaching <= most]
    if not len(low_enough):
        raise TrainingError(
            f"{share:.2%} of {len(scores):,} sessions are {most}, and the most unusual score is "
            f"that of {reaching[-1]:,}: let more come in, or allow a larger --share"
        )
    return float(low_enough[0])


def _fit(rows: NDArray[np.float64], settings: ForestSettings) -> Model:
    forest = IsolationForest(
        n_estimators=settings.trees, max_samples=SAMPLE, random_state=settings.seed, n_jobs=1
    )
    return export(forest.fit(rows), tuple(FEATURES), rows[:CHECKED])


def _instant(us: np.int64) -> str:
    return datetime.fromtimestamp(int(us) / 1e6, UTC).isoformat(timespec="seconds")
