"""Whether payments still look as they did when the champion was trained, and whether the stream
scores them as the past does."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.models import Card, Model, ModelError, check_features
from dataflows.detection.payment_model import readable
from dataflows.detection.profile import CHANGED, MUCH_CHANGED, Shift, shift
from dataflows.features.catalogue import DAY_US
from dataflows.features.columns import as_rows
from dataflows.runtime.config import Config
from services.history.features import History, column_of
from services.warehouse.held_lake import hold_lake

SCORE = "score"
_RECENT = """
    SELECT * FROM history WHERE event_us > (SELECT max(event_us) FROM history) - $span
    ORDER BY event_us"""
_PUBLISHED = """
    SELECT transaction_id, model_score FROM read_parquet($files, union_by_name = true)
    WHERE model = $version"""
_SKEW = """
    SELECT count(*), count(*) FILTER (published.model_score <> recent.served)
    FROM recent JOIN published USING (transaction_id)"""


class Drift(msgspec.Struct, frozen=True):
    """Of the payments of the last days. `shifts` holds the score and every feature, the furthest
    moved first; `compared` payments were scored on the stream by this model, and `differing` of
    them otherwise than they are now."""

    version: str
    first: str
    last: str
    payments: int
    shifts: dict[str, Shift]
    compared: int
    differing: int

    @property
    def moved(self) -> list[str]:
        """What has changed much."""
        return [name for name, each in self.shifts.items() if each.index >= MUCH_CHANGED]

    @property
    def is_sound(self) -> bool:
        return not self.moved and not self.differing


def drift(config: Config, history: History, card: Card, model: Model, days: int) -> Drift:
    """Compares the payments of the last days with those that the model was trained on.

    Raises:
        ModelError: the card has no profile: the model was trained before cards had one; or it reads
            what is declared no longer.
        LakeError: the lake cannot be read.
    """
    if isinstance(card.profile, msgspec.UnsetType):
        raise ModelError(
            f"{card.name} {card.version}: its card does not say what payments looked like: train "
            "it again"
        )
    check_features(card, readable(history.declared), f"{card.name} {card.version}")
    with duckdb.connect() as connection:
        connection.read_parquet(str(history.payments)).create_view("history")
        recent = connection.execute(_RECENT, {"span": days * DAY_US}).to_arrow_table()
        rows = as_rows({name: column_of(recent, name) for name in card.features}, card.features)
        served = np.round(model.score(rows), 6)
        values = {SCORE: served, **dict(zip(card.features, rows.T, strict=True))}
        shifts = {name: shift(card.profile[name], each) for name, each in values.items()}
        connection.register("recent", recent.append_column("served", pa.array(served)))
        compared, differing = _skew(connection, config, card.version)
    first, last = format_timestamps(recent["event_us"].to_numpy()[[0, -1]])
    return Drift(
        version=card.version,
        first=first,
        last=last,
        payments=len(recent),
        shifts=dict(sorted(shifts.items(), key=lambda each: -each[1].index)),
        compared=compared,
        differing=differing,
    )


def _skew(connection: duckdb.DuckDBPyConnection, config: Config, version: str) -> tuple[int, int]:
    with TemporaryDirectory(dir=config.data_path) as held:
        hold_lake(config.lake_path, ("scores",), Path(held))
        files = [str(file) for file in Path(held).rglob("*.parquet")]
        if not files:
            return 0, 0
        published = connection.execute(_PUBLISHED, {"files": files, "version": version})
        connection.register("published", published.to_arrow_table())
    found = connection.execute(_SKEW).fetchone()
    assert found is not None
    return found[0], found[1]


def drift_lines(found: Drift) -> list[str]:
    """As a person reads it: what has moved, the rest in one line."""
    lines = [
        f"{found.payments:,} payments, {found.first[:16]} to {found.last[:16]}, beside those that "
        f"{found.version} was trained on",
    ]
    changed = {name: each for name, each in found.shifts.items() if each.index >= CHANGED}
    for name, each in changed.items():
        word = "has moved" if each.index >= MUCH_CHANGED else "moves"
        lines.append(
            f"  {name:32} {word}: index {each.index:.2f}, missing {each.missing_then:.1%} -> "
            f"{each.missing_now:.1%}"
        )
    others = len(found.shifts) - len(changed)
    if others:
        lines.append(f"  {others} of {len(found.shifts)} are as they were (index below {CHANGED})")
    if not found.compared:
        lines.append("  none of them was scored by it on the stream")
    else:
        same = found.compared - found.differing
        lines.append(
            f"  {same:,} of {found.compared:,} scores of the stream come out the same, bit for bit"
        )
    return lines
