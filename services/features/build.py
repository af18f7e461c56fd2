"""Rows of features: what would have been known of each event when it came."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from dataflows.features.columns import Column, Kind
from dataflows.features.engine import FeatureEngine
from dataflows.features.spec import FeatureSpec
from services.features.arrival import in_order
from services.features.errors import EventsError
from services.features.events import EventTable
from services.whole_file import whole_file

SPEC_VERSION = b"tidegate.spec"
"""In the metadata of the written file: the version of the spec that made it."""


def compute_features(
    spec: FeatureSpec,
    events: EventTable,
    bound_us: int | None = None,
    lateness_us: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Column]:
    """The features of n events, in the order of the file, by name.

    Each is computed from what came before it and the labels known by then, in order of event time;
    or, with `bound_us`, as the events come in the file, as a stream with that bound and lateness
    would. `progress` is told how many events are done.
    """
    engine, done = FeatureEngine(spec, lateness_us), 0
    made: dict[str, NDArray[np.float64]] = {}
    valid: dict[str, NDArray[np.bool_]] = {}
    for part in in_order(events.times_us, events.known_us, events.fields, bound_us):
        mine = part.rows >= 0
        for name, column in engine.process(part.events).items():
            if name not in made:
                made[name] = np.zeros(len(events))
                valid[name] = np.zeros(len(events), np.bool_)
            made[name][part.rows[mine]] = column.values[mine]
            valid[name][part.rows[mine]] = column.valid[mine]
        done += int(mine.sum())
        progress(done)
    return {name: Column(made[name], valid[name]) for name in spec.names}


def as_table(spec: FeatureSpec, events: EventTable, features: dict[str, Column]) -> pa.Table:
    """Id, time and label as they came, then the features; null where there is nothing to say."""
    columns: dict[str, pa.Array] = {}
    if spec.id is not None:
        columns[spec.id] = events.ids
    columns[spec.time] = pa.array(events.times_us, pa.timestamp("us", "UTC"))
    if spec.label is not None:
        columns[spec.label.field] = pa.array(events.positive)
    for feature in spec.features:
        column = features[feature.name]
        kind = pa.bool_() if feature.spec.kind is Kind.BOOLEAN else pa.float64()
        values = column.values.astype(np.bool_) if kind == pa.bool_() else column.values
        columns[feature.name] = pa.array(values, kind, mask=~column.valid)
    return pa.table(columns).replace_schema_metadata({SPEC_VERSION: spec.version.encode()})


def write_table(table: pa.Table, out: str) -> None:
    """Write a Parquet file: whole, or not at all. Raises EventsError."""
    with whole_file(out, EventsError) as made:
        pa.parquet.write_table(table, made, compression="zstd")
