"""Features that know the future are caught, before a model learns from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from dataflows.features.columns import Column
from dataflows.features.engine import NEVER
from services.features.events import EventTable
from services.training.errors import TrainingError

TOO_GOOD = 0.95
"""A single feature whose average precision reaches this was filled in afterwards, as a rule."""
_FEW = 1_000

Compute = Callable[[EventTable], dict[str, Column]]


def check_against_the_past(
    compute: Compute, events: EventTable, features: dict[str, Column]
) -> None:
    """Refuse features that come out differently when what came later has not happened yet.

    Everything after a moment is taken away, events and labels; what then comes out for the last
    events before that moment must be what came out with the future there. Raises TrainingError.
    """
    moment = int(np.quantile(events.times_us, 0.6))
    past = np.flatnonzero(events.times_us <= moment)
    made = compute(_until(events, past, moment))
    nearest = np.argsort(events.times_us[past], kind="stable")[-_FEW:]
    for name, column in made.items():
        now, then = column, features[name]
        rows = past[nearest]
        same = (now.valid[nearest] == then.valid[rows]) & (
            ~now.valid[nearest] | (now.values[nearest] == then.values[rows])
        )
        if not same.all():
            raise TrainingError(
                f"{name}: knows the future: {int((~same).sum())} of {len(rows)} values change when "
                "what came later is taken away: a model would learn what it cannot know; remove it"
            )


def _until(events: EventTable, rows: NDArray[np.int64], moment: int) -> EventTable:
    known_us = events.known_us[rows]
    return EventTable(
        name=events.name,
        times_us=events.times_us[rows],
        fields={
            name: Column(column.values[rows], column.valid[rows])
            for name, column in events.fields.items()
        },
        ids=None,
        positive=None,
        known_us=np.where(known_us <= moment, known_us, NEVER),
    )


def check_no_giveaway(
    names: Sequence[str], rows: NDArray[np.float64], positive: NDArray[np.bool_]
) -> None:
    """Refuse a feature that tells the label all alone. Raises TrainingError."""
    for name, values in zip(names, rows.T, strict=True):
        missing = np.isnan(values)
        low, high = (np.nanmin(values), np.nanmax(values)) if not missing.all() else (0.0, 0.0)
        for filled in (
            np.where(missing, low - 1, values),
            -np.where(missing, high + 1, values),
            missing.astype(np.float64),
        ):
            found = float(average_precision_score(positive, filled))
            if found >= TOO_GOOD:
                raise TrainingError(
                    f"{name}: tells the label all alone (average precision {found:.2f}): it looks "
                    "as if it were filled in afterwards; remove it from the spec"
                )
