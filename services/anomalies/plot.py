"""The plot of a scored series: one HTML file that needs nothing else, and no network."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.anomalies import Scores
from services.anomalies.errors import SeriesError
from services.anomalies.scoring import Summary, Track
from services.report.figures import BLUE, ORANGE, SKY, VERMILLION
from services.report.page import TEMPLATE as REPORT
from services.report.page import as_data, digest

MOST_POINTS = 20_000
"""A longer series is drawn by the rows that stand out in each stretch of it."""

_TEMPLATE = Path(__file__).parent / "template"


def write_plot(summary: Summary, track: Track, file: Path) -> None:
    """Write the page, about 5 MB, nearly all of it the library that draws. Raises SeriesError."""
    try:
        file.write_text(_page(summary, track), encoding="utf-8", newline="\n")
    except OSError as error:
        raise SeriesError(f"{file}: cannot be written: {error.strerror or error}") from error


def _page(summary: Summary, track: Track) -> str:
    times_us, values = np.concatenate(track.times_us), np.concatenate(track.values)
    scores = Scores(*map(np.concatenate, zip(*track.scores, strict=True)))
    drawn = standing_out(values, scores.score)
    shown = Scores(*(column[drawn] for column in scores))
    scripts = {
        "plotly": get_plotlyjs(),
        "script": (REPORT / "page.js").read_text(encoding="utf-8"),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("plot.html").render(
        summary=summary,
        drawn=len(drawn),
        figures=as_data(_figures(times_us[drawn], values[drawn], shown, summary.threshold)),
        style=(REPORT / "page.css").read_text(encoding="utf-8"),
        allowed=" ".join(digest(script) for script in scripts.values()),
        **scripts,
    )


def standing_out(values: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rows to draw, ascending: all, or the least, the greatest and the highest score of each
    stretch."""
    n = len(values)
    if n <= MOST_POINTS:
        return np.arange(n)
    stretches = MOST_POINTS // 3
    bounds = np.linspace(0, n, stretches + 1).astype(np.int64)
    kept = []
    for first, end in pairwise(bounds.tolist()):
        some = values[first:end]
        if np.isnan(some).all():
            kept.append(first)
        else:
            kept += [first + int(np.nanargmin(some)), first + int(np.nanargmax(some))]
        kept.append(first + int(scores[first:end].argmax()))
    return np.unique(np.array(kept))


def _figures(
    times_us: NDArray[np.int64], values: NDArray[np.float64], scores: Scores, threshold: float
) -> dict[str, Any]:
    at = format_timestamps(times_us)
    alerts = np.flatnonzero(scores.score >= threshold)

    def line(name: str, y: NDArray[np.float64], **more: object) -> dict[str, Any]:
        points = [None if np.isnan(value) else value for value in y.tolist()]
        return {"type": "scatter", "mode": "lines", "name": name, "x": at, "y": points} | more

    def marks(y: NDArray[np.float64]) -> dict[str, Any]:
        return {
            "type": "scatter",
            "mode": "markers",
            "name": "alert",
            "x": [at[row] for row in alerts.tolist()],
            "y": y[alerts].tolist(),
            "marker": {"color": VERMILLION, "symbol": "diamond", "size": 9},
        }

    hidden = {"width": 0}
    values_plot = [
        line("lower", scores.lower, line=hidden, showlegend=False, hoverinfo="skip"),
        line("expected band", scores.upper, line=hidden, fill="tonexty", fillcolor=f"{SKY}55"),
        line("expected", scores.expected, line={"width": 1, "color": ORANGE}),
        line("value", values, line={"width": 1, "color": BLUE}),
        marks(values),
    ]
    scores_plot = [
        line("anomaly score", scores.score, line={"width": 1, "color": BLUE}),
        line(
            "threshold",
            np.full(len(values), threshold),
            line={"width": 1, "dash": "dot", "color": VERMILLION},
        ),
        marks(scores.score),
    ]

    def layout(title: str, **axis: object) -> dict[str, Any]:
        return {
            "xaxis": {"title": {"text": "time (UTC)"}},
            "yaxis": {"title": {"text": title}} | axis,
            "hovermode": "x unified",
        }

    return {
        "values": {"data": values_plot, "layout": layout("value")},
        "scores": {"data": scores_plot, "layout": layout("anomaly score", range=[0, 1.05])},
    }
