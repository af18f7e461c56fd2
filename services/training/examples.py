"""What a model learns from: rows of features with labels, from a spec and a file, or the past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from dataflows.detection.payment_model import readable
from dataflows.features.catalogue import DAY_US
from dataflows.features.columns import as_rows
from dataflows.features.engine import NEVER
from dataflows.features.spec import FeatureSpec, Label, Windowed
from services.features.build import compute_features
from services.features.events import EventTable
from services.history.features import History, column_of
from services.training.errors import TrainingError
from services.training.leakage import check_against_the_past

PAST = "the stream's own features"
LABELS_TAKE_DAYS = 7
_LABELLED = """
    SELECT h.*, coalesce(v.is_fraud, false) AS positive,
        CASE WHEN v.is_fraud THEN v.known_us ELSE $never END AS known_us
    FROM history h LEFT JOIN verdicts v USING (transaction_id)
    WHERE event_us < (SELECT max(event_us) FROM history) - $delay"""


@dataclass(frozen=True)
class Examples:
    """n events. `known_us` is since when it is known that an event is positive, NEVER if it is not;
    `cards` are numbers of who pays, -1 for nobody."""

    source: str
    version: str
    names: tuple[str, ...]
    rows: NDArray[np.float64]  # [n, names]
    times_us: NDArray[np.int64]
    positive: NDArray[np.bool_]
    known_us: NDArray[np.int64]
    cards: NDArray[np.int64]


def labels_of(spec: FeatureSpec) -> Label:
    """Raises TrainingError if it names none."""
    if spec.label is None:
        raise TrainingError(
            f"{spec.source}: names no label, and training needs one: add "
            "`label: {field: ..., delay: 7d}`"
        )
    return spec.label


def examples_of(spec: FeatureSpec, events: EventTable, card: str | None) -> Examples:
    """Rows by a spec, checked for features that know the future. Raises TrainingError."""
    labels_of(spec)
    assert events.positive is not None

    def compute(of: EventTable) -> Any:
        return compute_features(spec, of)

    features = compute(events)
    check_against_the_past(compute, events, features)
    return Examples(
        source=spec.source,
        version=spec.version,
        names=tuple(spec.names),
        rows=as_rows(features, spec.names),
        times_us=events.times_us,
        positive=events.positive,
        known_us=events.known_us,
        cards=_cards(spec, events, card),
    )


def examples_of_past(history: History, delay_days: int) -> Examples:
    """Rows as the stream saw them, with the labels of the lake; events whose labels may still come
    are left out. Raises TrainingError if none is left."""
    with duckdb.connect() as connection:
        connection.read_parquet(str(history.payments)).create_view("history")
        connection.register("verdicts", history.verdicts)
        limits = {"never": NEVER, "delay": delay_days * DAY_US}
        table = connection.execute(_LABELLED, limits).to_arrow_table()
    if not len(table):
        raise TrainingError(
            f"the past is shorter than the {delay_days} days that labels may take: let more come "
            "in, or say --delay-days"
        )
    users = table["user_id"].combine_chunks().dictionary_encode().indices
    names = tuple(readable(history.declared))
    columns = {name: column_of(table, name) for name in names}
    return Examples(
        source=PAST,
        version=history.version,
        names=names,
        rows=as_rows(columns, names),
        times_us=table["event_us"].to_numpy(),
        positive=table["positive"].to_numpy(),
        known_us=table["known_us"].to_numpy(),
        cards=users.to_numpy(zero_copy_only=False).astype(np.int64),
    )


def _cards(spec: FeatureSpec, events: EventTable, card: str | None) -> NDArray[np.int64]:
    """The field asked for, else the first entity of the spec."""
    entities = [f.entity for f in spec.features if isinstance(f, Windowed)]
    field = card or next(iter(entities), None)
    if field is None:
        return np.full(len(events), -1)
    if field not in events.fields:
        raise TrainingError(
            f"--card {field}: {spec.source} has no such field: it has {', '.join(spec.fields)}"
        )
    column = events.fields[field]
    names = np.where(column.valid, column.values, "").astype(str)
    numbers = np.unique(names, return_inverse=True)[1]
    return np.where(column.valid, numbers, -1)
