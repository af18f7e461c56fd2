"""A model from events: features, folds, figures, the card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dataflows.detection.models import Card, Family, Model, digest_of
from dataflows.detection.profile import profile
from services.training import metrics
from services.training.errors import TrainingError
from services.training.examples import Examples
from services.training.export import export
from services.training.leakage import check_no_giveaway
from services.training.metrics import Judged
from services.training.protocol import Fold, Protocol, days_of, latest, split

CHECKED = 5_000
"""Rows on which the served form is compared with scikit-learn's, and importance is measured."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """`missed` and `alert` are what a fraud not alerted and an alert cost, in one unit of money;
    `budget` is how many alerts a day can be looked at, `cards` how many cards."""

    name: str
    family: Family
    protocol: Protocol
    missed: float
    alert: float
    budget: float
    cards: int
    trees: int
    seed: int


@dataclass(frozen=True)
class Trained:
    """The model of all the latest data, and its sealed card."""

    card: Card
    model: Model
    arrays: bytes


def estimator(settings: TrainSettings) -> Any:
    """The model that a user gets without tuning; see docs/reference/models.md for how it was
    chosen."""
    match settings.family:
        case Family.FOREST:
            return RandomForestClassifier(
                settings.trees,
                criterion="entropy",
                min_samples_leaf=4,
                max_features=0.3,
                random_state=settings.seed,
                n_jobs=1,
            )
        case Family.BOOSTING:
            return HistGradientBoostingClassifier(
                learning_rate=0.03,
                max_iter=200,
                max_leaf_nodes=8,
                min_samples_leaf=20,
                l2_regularization=10.0,
                max_features=0.3,
                random_state=settings.seed,
            )
        case Family.LINEAR:
            return make_pipeline(
                SimpleImputer(strategy="median", keep_empty_features=True),
                StandardScaler(),
                LogisticRegression(max_iter=1_000),
            )
        case Family.ISOLATION:
            raise TrainingError("isolation_forest: learns without labels: not by this command")


def train(
    examples: Examples, settings: TrainSettings, say: Callable[[str], None] = lambda line: None
) -> Trained:
    """Judge by the protocol's folds, then train on the latest data. Raises TrainingError."""
    rows, names = examples.rows, examples.names
    folds = split(settings.protocol, examples.times_us, examples.known_us, examples.cards)
    for fold in folds:
        check_no_giveaway(names, rows[fold.train], fold.known)
    judged = []
    for number, fold in enumerate(folds, 1):
        say(f"fold {number} of {len(folds)}: test {fold.name}")
        judged.append(_judge(fold, examples, settings))
    say("the model")
    chosen, known = latest(settings.protocol, examples.times_us, examples.known_us)
    model = _fit(settings, rows[chosen], known, names)
    arrays = model.arrays()
    card = Card(
        name=settings.name,
        family=settings.family,
        features=names,
        spec=examples.source,
        spec_version=examples.version,
        arrays=digest_of(arrays),
        trained={
            "from": _instant(examples.times_us[chosen].min()),
            "to": _instant(examples.times_us[chosen].max()),
            "events": len(chosen),
            "positive": int(known.sum()),
            "protocol": asdict(settings.protocol),
            "seed": settings.seed,
            "trees": settings.trees,
        },
        metrics=_metrics(folds, judged, settings),
        thresholds=_thresholds(judged, settings),
        calibration=metrics.calibration(_pooled(judged)),
        importance=_importance(model, rows[folds[-1].test], judged[-1], settings.seed),
        profile={
            "score": profile(_pooled(judged).scores),
            **{name: profile(rows[chosen, f]) for f, name in enumerate(names)},
        },
    )
    return Trained(card.sealed(), model, arrays)


def _fit(
    settings: TrainSettings,
    rows: NDArray[np.float64],
    positive: NDArray[np.bool_],
    names: tuple[str, ...],
) -> Model:
    fitted = estimator(settings).fit(rows, positive)
    return export(fitted, names, rows[:CHECKED])


def _judge(fold: Fold, examples: Examples, settings: TrainSettings) -> Judged:
    model = _fit(settings, examples.rows[fold.train], fold.known, examples.names)
    return Judged(
        scores=model.score(examples.rows[fold.test]),
        positive=examples.positive[fold.test],
        days=days_of(examples.times_us)[fold.test],
        cards=examples.cards[fold.test],
    )


def _pooled(judged: list[Judged]) -> Judged:
    return Judged(
        scores=np.concatenate([fold.scores for fold in judged]),
        positive=np.concatenate([fold.positive for fold in judged]),
        days=np.concatenate([fold.days for fold in judged]),
        cards=np.concatenate([fold.cards for fold in judged]),
    )


def _metrics(folds: list[Fold], judged: list[Judged], settings: TrainSettings) -> dict[str, Any]:
    precision = [metrics.average_precision(fold) for fold in judged]
    low, high = metrics.interval(judged, settings.seed)
    return {
        "average_precision": {"value": float(np.mean(precision)), "low": low, "high": high},
        "roc_auc": {"value": float(np.mean([metrics.roc_auc(fold) for fold in judged]))},
        f"card_precision_at_{settings.cards}": {
            "value": float(np.mean([metrics.card_precision(f, settings.cards) for f in judged]))
        },
        "brier": {"value": float(np.mean([metrics.brier(fold) for fold in judged]))},
        "folds": [
            {
                "test": fold.name,
                "trained_on": len(fold.train),
                "trained_on_positive": int(fold.known.sum()),
                "tested_on": len(fold.test),
                "tested_on_positive": int(found.positive.sum()),
                "average_precision": value,
            }
            for fold, found, value in zip(folds, judged, precision, strict=True)
        ],
    }


def _thresholds(judged: list[Judged], settings: TrainSettings) -> dict[str, Any]:
    pooled, missed, alert = _pooled(judged), settings.missed, settings.alert
    return {
        "by_cost": {
            **asdict(metrics.by_cost(pooled, missed, alert)),
            "missed": missed,
            "alert": alert,
        },
        "by_budget": {
            **asdict(metrics.by_budget(pooled, settings.budget, missed, alert)),
            "budget": settings.budget,
        },
    }


def _importance(
    model: Model, rows: NDArray[np.float64], judged: Judged, seed: int
) -> dict[str, float]:
    """How much average precision falls when a feature's values are dealt out anew, largest first.

    By the served model on the last test, of which it may have seen some days: an order, no more.
    """
    rng = np.random.default_rng(seed)
    some = np.flatnonzero(judged.positive)
    others = np.flatnonzero(~judged.positive)
    some = np.sort(np.concatenate([some, rng.choice(others, min(len(others), CHECKED), False)]))
    kept, positive = rows[some], judged.positive[some]

    def precision(of: NDArray[np.float64]) -> float:
        found = Judged(model.score(of), positive, judged.days[some], judged.cards[some])
        return metrics.average_precision(found)

    whole, falls = precision(kept), {}
    for k, name in enumerate(model.features):
        dealt = kept.copy()
        dealt[:, k] = rng.permutation(dealt[:, k])
        falls[name] = round(whole - precision(dealt), 6)
    return dict(sorted(falls.items(), key=lambda item: -item[1]))


def _instant(us: np.int64) -> str:
    return datetime.fromtimestamp(int(us) / 1e6, UTC).isoformat(timespec="seconds")
