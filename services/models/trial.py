"""Challengers beside the champion, on the payments that both scored on the stream."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataflows.detection.models import ModelError
from dataflows.features.catalogue import DAY_US
from dataflows.runtime.config import Config
from services.history.payments import verdicts
from services.training.metrics import Judged, average_precision, by_budget, interval
from services.warehouse.held_lake import hold_lake

_LEAST_FRAUDS: Final = 5
"""With fewer, an average precision says nothing."""

_SCORED = """
    SELECT transaction_id, epoch_us(event_timestamp) // $day AS day, model AS champion,
        model_score AS champion_score, unnest(challengers).model AS challenger,
        unnest(challengers).score AS challenger_score
    FROM read_parquet($files, union_by_name = true)
    WHERE model IS NOT NULL"""
_TRIED = """
    SELECT scored.*, coalesce(is_fraud, false) AS is_fraud
    FROM scored LEFT JOIN verdicts USING (transaction_id)
    WHERE day <= (SELECT max(day) FROM scored) - $delay
    ORDER BY day, transaction_id"""


class Figures(msgspec.Struct, frozen=True):
    """How good one of the two was. Average precision is null with fewer than five frauds."""

    version: str
    average_precision: float | None
    low: float | None
    high: float | None
    precision: float
    recall: float
    threshold: float


class Trial(msgspec.Struct, frozen=True):
    """The two on the same payments. `champion` is whoever was it, the last one's version shown."""

    first_day: str
    last_day: str
    payments: int
    frauds: int
    alerts_per_day: float
    champion: Figures
    challenger: Figures


def trials(config: Config, delay_days: int, alerts_per_day: float) -> list[Trial]:
    """One for each version that was challenger, in order of the version.

    Payments of the last `delay_days` are left out, whose labels may still come; of the others one
    without a label counts as right. Precision and recall are those of an alert budget.

    Raises:
        ModelError: no challenger has scored a payment of those days.
        LakeError: the lake cannot be read.
    """
    rows = _rows(config, delay_days)
    names: list[str] = rows["challenger"].to_pylist()
    if not names:
        raise ModelError(
            f"{config.lake_path}: no challenger has scored a payment that is older than "
            f"{delay_days} days: `tidegate models challenge` one, and wait for labels"
        )
    versions = np.array(names, object)
    return [
        _trial(rows.filter(pa.array(versions == version)), version, alerts_per_day)
        for version in sorted(set(names))
    ]


def _rows(config: Config, delay_days: int) -> pa.Table:
    with TemporaryDirectory(dir=config.data_path) as held, duckdb.connect() as connection:
        work = Path(held)
        hold_lake(config.lake_path, ("scores", "labels"), work)
        files = [str(file) for file in (work / "scores").rglob("*.parquet")]
        if not files:
            raise ModelError(
                f"{config.lake_path}: holds no scores yet: let `tidegate up` load some"
            )
        try:
            scored = connection.execute(_SCORED, {"day": DAY_US, "files": files}).to_arrow_table()
        except duckdb.BinderException:
            raise ModelError(
                f"{config.lake_path}: its scores are of before there were challengers"
            ) from None
        connection.register("scored", scored)
        connection.register("verdicts", verdicts(list((work / "labels").rglob("*.parquet"))))
        return connection.execute(_TRIED, {"delay": delay_days}).to_arrow_table()


def _trial(rows: pa.Table, version: str, alerts_per_day: float) -> Trial:
    days = rows["day"].to_numpy()
    is_fraud = np.array(rows["is_fraud"].to_pylist(), np.bool_)
    champion: str = rows["champion"].to_pylist()[-1]
    return Trial(
        first_day=str(np.datetime64(int(days[0]), "D")),
        last_day=str(np.datetime64(int(days[-1]), "D")),
        payments=len(days),
        frauds=int(is_fraud.sum()),
        alerts_per_day=alerts_per_day,
        champion=_figures(champion, rows["champion_score"], is_fraud, days, alerts_per_day),
        challenger=_figures(version, rows["challenger_score"], is_fraud, days, alerts_per_day),
    )


def _figures(
    version: str,
    scores: pa.ChunkedArray,
    is_fraud: NDArray[np.bool_],
    days: NDArray[np.int64],
    alerts_per_day: float,
) -> Figures:
    nobody = np.full(len(days), -1, np.int64)
    judged = Judged(scores.to_numpy(), is_fraud, days, nobody)
    found, low, high = None, None, None
    if is_fraud.sum() >= _LEAST_FRAUDS:
        found, (low, high) = average_precision(judged), interval([judged], seed=0)
    cut = by_budget(judged, alerts_per_day, missed=0.0, alert=0.0)
    return Figures(version, found, low, high, cut.precision, cut.recall, cut.score)


def trial_lines(trial: Trial) -> list[str]:
    """A trial as a person reads it."""
    both = (trial.champion, trial.challenger)
    budget = f"at {trial.alerts_per_day:g} alerts a day"
    return [
        f"{trial.first_day} to {trial.last_day}: {trial.payments:,} payments that both scored, "
        f"{trial.frauds:,} of them fraud",
        _line("", *(f"{who} {each.version}" for who, each in zip(_WHO, both, strict=True))),
        _line("average precision", *map(_average_precision, both)),
        _line(f"precision {budget}", *(f"{each.precision:.3f}" for each in both)),
        _line(f"recall {budget}", *(f"{each.recall:.3f}" for each in both)),
        _line("score they begin at", *(f"{each.threshold:.4f}" for each in both)),
    ]


_WHO = ("champion", "challenger")


def _line(name: str, *values: str) -> str:
    return f"{name:32}" + "".join(f"{value:26}" for value in values).rstrip()


def _average_precision(of: Figures) -> str:
    if of.average_precision is None:
        return "too few frauds"
    return f"{of.average_precision:.3f} ({of.low:.3f} to {of.high:.3f})"
