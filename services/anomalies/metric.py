"""A metric's series as the stream has judged it, out of the lake."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.anomalies import ALERT_AT, Scores
from services.anomalies.errors import SeriesError
from services.anomalies.scoring import Summary, Track
from services.anomalies.series import Rows
from services.report.lake import Lake


def judged_series(lake: Path, metric: str, segment: str | None) -> tuple[Summary, Track]:
    """The windows of a series of the metric's newest version, as a plot takes them.

    Raises:
        SeriesError: the lake has none.
        LakeError: it cannot be read.
    """
    tables = Lake(lake)
    found = tables.windows(metric, segment)
    if not found:
        raise SeriesError(_nothing(tables, lake, metric, segment))
    times, *columns = zip(*found, strict=True)
    values, *scores = (np.array(column, np.float64) for column in columns)  # None becomes NaN
    times_us, judged = np.array(times, np.int64), Scores(*scores)
    lines = list(range(1, len(found) + 1))
    rows = Rows(lines, format_timestamps(times_us), [], times_us, values)
    name = metric if segment is None else f"{metric} of {segment}"
    summary, track = Summary(name, ALERT_AT, []), Track()
    summary.take(rows, judged, None)
    track.take(rows, judged)
    return summary, track


def _nothing(tables: Lake, lake: Path, metric: str, segment: str | None) -> str:
    known = tables.rows("SELECT DISTINCT metric FROM metrics ORDER BY metric")
    names = ", ".join(name for (name,) in known)
    if (metric,) not in known:
        there = f"there are {names}" if known else "let `tidegate up` run until it has judged some"
        return f"{lake}: has no windows of a metric {metric!r}; {there}"
    segments = tables.rows(
        "SELECT DISTINCT segment FROM metrics WHERE metric = ? AND segment IS NOT NULL ORDER BY 1",
        metric,
    )
    there = ", ".join(name for (name,) in segments)
    what = f"its segments are {there}" if there else "it has no segments: leave --segment out"
    return f"{lake}: has no windows of {metric} of {segment!r}; {what}"
