"""Models that score payments on the stream: the champion, whose score is a column for rules, and
challengers in shadow, whose scores are only published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from dataflows.detection.models import Card, Model, check_features
from dataflows.detection.registry import Registry
from dataflows.features.catalogue import OBSERVED
from dataflows.features.columns import Column, Columns, ColumnSpec, Kind, as_rows
from dataflows.features.declared import NOTHING_DECLARED, DeclaredFeatures

NAME: Final = "payments"
"""The models of this name in the registry; others serve elsewhere, or nowhere."""
READABLE: Final = {name: spec for name, spec in OBSERVED.items() if spec.kind is not Kind.TEXT}
"""The columns that such a model may read."""
_DIGITS = 6  # as scores of rules


@dataclass(frozen=True)
class PaymentModel:
    """A model that reads columns of payments, and its version."""

    model: Model
    version: str

    def column(self, columns: Columns) -> Column:
        """What it thinks of n payments, 0..1."""
        scores = self.model.score(as_rows(columns, self.model.features))
        return Column(np.round(scores, _DIGITS), np.ones(len(scores), np.bool_))


@dataclass(frozen=True)
class Panel:
    """Who scores payments."""

    champion: PaymentModel | None = None
    challengers: Sequence[PaymentModel] = ()


def readable(declared: DeclaredFeatures) -> dict[str, ColumnSpec]:
    """The columns that a model may read where features are declared."""
    numbers = {n: spec for n, spec in declared.columns.items() if spec.kind is not Kind.TEXT}
    return {**READABLE, **numbers}


def payment_model(
    card: Card, model: Model, place: str, declared: DeclaredFeatures = NOTHING_DECLARED
) -> PaymentModel:
    """A model as one of payments. Raises ModelError if it reads what the stream does not make."""
    check_features(card, readable(declared), place)
    return PaymentModel(model, card.version)


def open_champion(
    folder: Path, declared: DeclaredFeatures = NOTHING_DECLARED
) -> PaymentModel | None:
    """The champion of a folder of models, if there is one.

    Raises ModelError if it cannot be served: damaged, or it reads what the stream does not make.
    """
    registry = Registry(folder)
    if not registry.champions(NAME):
        return None
    card, model = registry.open(NAME)
    return payment_model(card, model, f"{folder / NAME / card.version}", declared)


def model_column(champion: PaymentModel | None, columns: Columns, n: int) -> Column:
    """`model_score` of n payments; null without a champion."""
    if champion is None:
        return Column(np.zeros(n), np.zeros(n, np.bool_))
    return champion.column(columns)
