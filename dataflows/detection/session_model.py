"""Models of sessions: how unlike the others one is, and in what.

An isolation forest learns from sessions as the log has them, without labels. What it thinks is a
column of behaviours, as are the features that it reads and the score from which on a session
counts as unusual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.detection.models import Card, Model, ModelError, check_features
from dataflows.detection.sentences import in_words
from dataflows.eventtime.funnel import FUNNEL
from dataflows.features.catalogue import HOUR_US
from dataflows.features.columns import (
    Column,
    Columns,
    ColumnsOnDemand,
    ColumnSpec,
    Kind,
    Unit,
    as_rows,
    from_list,
    from_numbers,
    full,
)
from dataflows.features.rolling import SECOND_US

NAME: Final = "sessions"
"""The models of this name in the registry; those of payments have another."""
SPEC: Final = "the stream's own sessions"
_DIGITS: Final = 6  # as scores of rules
_MOST_REASONS: Final = 3

FEATURES: Final = {
    spec.name: spec
    for spec in (
        ColumnSpec("session_events", Kind.NUMBER, "events of the session", Unit.COUNT),
        ColumnSpec(
            "session_seconds", Kind.NUMBER, "seconds from its first event to its last", Unit.SECONDS
        ),
        ColumnSpec(
            "session_seconds_per_event",
            Kind.NUMBER,
            "seconds from one of its events to the next, on average; null where there is only one",
            Unit.RATIO,
        ),
        ColumnSpec("session_hour", Kind.NUMBER, "the hour of its first event, in UTC", Unit.HOUR),
        ColumnSpec(
            "session_stage",
            Kind.NUMBER,
            f"how far it came: {', '.join(f'{n} {step}' for n, step in enumerate(FUNNEL))}",
            Unit.COUNT,
        ),
    )
}
"""What a model of sessions may read."""
VERSION: Final = "1"
"""Of what the features mean: a model that was trained on others is not served."""
COLUMNS: Final = {
    **FEATURES,
    **{
        spec.name: spec
        for spec in (
            ColumnSpec("session_score", Kind.NUMBER, "how unlike other sessions it is, 0 to 1"),
            ColumnSpec(
                "session_threshold", Kind.NUMBER, "the score from which on a session is unusual"
            ),
            ColumnSpec("session_why", Kind.TEXT, "what is unusual of it, the most telling first"),
            ColumnSpec("session_model", Kind.TEXT, "the version of the model that says so"),
        )
    },
}
"""What a behaviour of sessions may name. The last four are null without a model."""
_SAYS: Final = {
    "session_events": "{} events",
    "session_seconds": "{} long",
    "session_seconds_per_event": "{} s from one event to the next",
    "session_hour": "begun at {} UTC",
    "session_stage": "as far as {}",
}


@dataclass(frozen=True, slots=True)
class EndedSessions:
    """n sessions: when they began and ended in microseconds, how many events they had, and how far
    they came, as a place in FUNNEL."""

    started_us: NDArray[np.int64]
    ended_us: NDArray[np.int64]
    events: NDArray[np.int64]
    stages: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.events)


def features_of(sessions: EndedSessions) -> dict[str, Column]:
    """FEATURES of n sessions, for training and for the stream alike."""
    seconds = (sessions.ended_us - sessions.started_us) / SECOND_US
    gaps = sessions.events - 1
    return {
        "session_events": full(sessions.events),
        "session_seconds": full(seconds),
        "session_seconds_per_event": Column(seconds / np.maximum(gaps, 1), gaps > 0),
        "session_hour": full(sessions.started_us // HOUR_US % 24),
        "session_stage": full(sessions.stages),
    }


def scores_of(model: Model, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of float64[n, features], as they are told and held against the threshold."""
    return np.round(model.score(rows), _DIGITS)


class Usual(msgspec.Struct, frozen=True):
    """What a feature was in training: nine sessions of ten lie between `low` and `high`."""

    low: float
    middle: float
    high: float


def usual(values: NDArray[np.float64]) -> Usual:
    """Of float64[n], of which at least one is not NaN."""
    present = values[~np.isnan(values)]
    return Usual(*np.quantile(present, (0.05, 0.5, 0.95), method="inverted_cdf").tolist())


class _Learned(msgspec.Struct, frozen=True):
    """What the card of a model of sessions has in `trained`, beside what people want to know."""

    usual: Mapping[str, Usual]


class ByShare(msgspec.Struct, frozen=True):
    """The threshold that such a card has, and which share of the sessions of training is there or
    above; `budget` is the share that was asked for."""

    score: float
    share: float
    budget: float


class _Thresholds(msgspec.Struct, frozen=True):
    by_share: ByShare


@dataclass(frozen=True)
class SessionModel:
    """A model that reads FEATURES, and what its card says of usual sessions."""

    model: Model
    version: str
    threshold: float
    usual: Mapping[str, Usual]

    def why(self, rows: NDArray[np.float64]) -> list[str]:
        """What is out of the ordinary of each of n sessions, beside what is usual.

        First comes what would lower the score most, were it as in the middle of all sessions; where
        nothing is out of the ordinary by itself, that alone is told.
        """
        names = self.model.features
        scores, falls = self.model.score(rows), np.empty(rows.shape)
        for k, name in enumerate(names):
            tamed = rows.copy()
            tamed[:, k] = self.usual[name].middle
            falls[:, k] = np.where(np.isnan(rows[:, k]), -1.0, scores - self.model.score(tamed))
        order = np.argsort(-falls, axis=1, kind="stable")
        low = np.array([self.usual[name].low for name in names])
        high = np.array([self.usual[name].high for name in names])
        is_out = (rows < low) | (rows > high)
        told = []
        for values, out, ranked in zip(rows.tolist(), is_out.tolist(), order.tolist(), strict=True):
            chosen = [k for k in ranked if out[k]][:_MOST_REASONS] or ranked[:1]
            told.append(
                "; ".join(_beside_usual(names[k], values[k], self.usual[names[k]]) for k in chosen)
            )
        return told


def _beside_usual(name: str, value: float, usually: Usual) -> str:
    low, high = _in_words(name, usually.low), _in_words(name, usually.high)
    between = low if low == high else f"{low} to {high}"
    return f"{_SAYS[name].format(_in_words(name, value))} (usually {between})"


def _in_words(name: str, value: float) -> str:
    return FUNNEL[int(value)] if name == "session_stage" else in_words(value, FEATURES[name])


def session_model(card: Card, model: Model, place: str) -> SessionModel:
    """A model as one of sessions; `place` says where it comes from.

    Raises ModelError: it reads what sessions do not have, it was trained when features meant
    something else, or its card does not say what is usual.
    """
    check_features(card, FEATURES, place)
    if card.spec_version != VERSION:
        raise ModelError(
            f"{place}: was trained on features of version {card.spec_version}, here they are "
            f"{VERSION}: train it again with `tidegate train --sessions`"
        )
    try:
        learned = msgspec.convert(card.trained, _Learned)
        threshold = msgspec.convert(card.thresholds, _Thresholds).by_share.score
        of_features = {name: learned.usual[name] for name in card.features}
    except (msgspec.ValidationError, KeyError) as error:
        raise ModelError(
            f"{place}: the card does not say which sessions are usual ({error}): train the model "
            "with `tidegate train --sessions`"
        ) from error
    return SessionModel(model, card.version, threshold, of_features)


def session_columns(sessions: EndedSessions, judge: SessionModel | None) -> Columns:
    """COLUMNS of n sessions."""
    features, n = features_of(sessions), len(sessions)
    if judge is None:
        no_number, no_text = np.full(n, np.nan), [None] * n
        return {
            **features,
            "session_score": from_numbers(Kind.NUMBER, no_number),
            "session_threshold": from_numbers(Kind.NUMBER, no_number),
            "session_why": from_list(Kind.TEXT, no_text),
            "session_model": from_list(Kind.TEXT, no_text),
        }
    rows = as_rows(features, judge.model.features)

    def text(values: Sequence[Any]) -> Column:
        return from_list(Kind.TEXT, values)

    return ColumnsOnDemand(
        {
            **{name: partial(features.__getitem__, name) for name in features},
            "session_score": lambda: full(scores_of(judge.model, rows)),
            "session_threshold": lambda: full(np.full(n, judge.threshold)),
            "session_why": lambda: text(judge.why(rows)),
            "session_model": lambda: text([judge.version] * n),
        }
    )
