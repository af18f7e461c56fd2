"""A series in, its scores out: as many rows, in their order, their timestamps as they were."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.anomalies import AnomalyDetector, Scores
from services.anomalies.errors import SeriesError
from services.anomalies.series import Rows, SeriesFile
from services.publisher.files import InputFile
from services.whole_file import whole_file

HEADER = "timestamp,value,anomaly_score\n"
STDOUT = "-"
_NAME = "series"  # the only one


class Alert(msgspec.Struct, frozen=True):
    """A row whose score reaches the threshold."""

    line: int
    timestamp: str
    value: float
    score: float
    expected: float | None
    lower: float | None
    upper: float | None


@dataclass
class Summary:
    """What was scored."""

    file: str
    threshold: float
    ignored_columns: list[str]
    rows: int = 0
    missing: int = 0
    from_us: int | None = None
    to_us: int | None = None
    out_of_order: int = 0
    first_out_of_order: int | None = None  # line
    repeated: int = 0
    first_repeated: int | None = None
    alerts: list[Alert] = field(default_factory=list)

    def take(self, rows: Rows, scores: Scores, last_us: int | None) -> None:
        """Count some more rows; `last_us` is the time of the row before them."""
        self.rows += len(rows.lines)
        self.missing += int(np.isnan(rows.values).sum())
        before = np.empty_like(rows.times_us)
        before[1:], before[0] = rows.times_us[:-1], rows.times_us[0]
        if last_us is not None:
            before[0] = last_us
        earlier, same = rows.times_us < before, rows.times_us == before
        same[0] &= last_us is not None
        self.out_of_order += int(earlier.sum())
        self.repeated += int(same.sum())
        if self.first_out_of_order is None and earlier.any():
            self.first_out_of_order = rows.lines[int(earlier.argmax())]
        if self.first_repeated is None and same.any():
            self.first_repeated = rows.lines[int(same.argmax())]
        low, high = int(rows.times_us.min()), int(rows.times_us.max())
        self.from_us = low if self.from_us is None else min(self.from_us, low)
        self.to_us = high if self.to_us is None else max(self.to_us, high)
        for row in np.flatnonzero(scores.score >= self.threshold).tolist():
            expected, lower, upper = (
                None if np.isnan(column[row]) else float(column[row]) for column in scores[1:]
            )
            self.alerts.append(
                Alert(
                    line=rows.lines[row],
                    timestamp=rows.timestamps[row],
                    value=float(rows.values[row]),
                    score=float(scores.score[row]),
                    expected=expected,
                    lower=lower,
                    upper=upper,
                )
            )

    def document(self) -> dict[str, object]:
        """For programs."""
        times = [None if us is None else _instant(us) for us in (self.from_us, self.to_us)]
        return {
            "file": self.file,
            "rows": self.rows,
            "missing": self.missing,
            "from": times[0],
            "to": times[1],
            "out_of_order": self.out_of_order,
            "repeated_timestamps": self.repeated,
            "ignored_columns": self.ignored_columns,
            "threshold": self.threshold,
            "alerts": self.alerts,
        }


def _instant(us: int) -> str:
    return format_timestamps(np.array([us], np.int64))[0]


@dataclass
class Track:
    """The scored series, kept for a plot."""

    times_us: list[NDArray[np.int64]] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)

    def take(self, rows: Rows, scores: Scores) -> None:
        self.times_us.append(rows.times_us)
        self.values.append(rows.values)
        self.scores.append(scores)


def score_series(
    file: InputFile,
    out: str,
    threshold: float,
    timestamp_format: str | None,
    track: Track | None,
    progress: Callable[[InputFile, int], None],
) -> Summary:
    """Score a file's rows into `out`, a file's name or `-` for standard output.

    The file appears when it is complete, or not at all. Raises SeriesError.
    """
    series = SeriesFile(file, timestamp_format)
    summary = Summary(file.name, threshold, series.ignored)
    detector = AnomalyDetector()
    last_us = None
    with _writing(out) as stream:
        stream.write(HEADER)
        for rows in series.rows():
            if not rows.lines:
                continue
            names = [_NAME] * len(rows.lines)
            scores = detector.score(names, rows.times_us, rows.values)
            stream.writelines(_lines(rows, scores.score))
            summary.take(rows, scores, last_us)
            last_us = int(rows.times_us[-1])
            if track is not None:
                track.take(rows, scores)
            progress(file, summary.rows)
        if not summary.rows:
            raise SeriesError(f"{file.name}: there is no row below the header")
    return summary


def _lines(rows: Rows, scores: NDArray[np.float64]) -> Iterator[str]:
    for timestamp, value, score in zip(rows.timestamps, rows.texts, scores.tolist(), strict=True):
        yield f"{_cell(timestamp)},{_cell(value)},{score:.6f}\n"


def _cell(text: str) -> str:
    if "," in text or '"' in text:
        return '"' + text.replace('"', '""') + '"'
    return text


@contextmanager
def _writing(out: str) -> Iterator[TextIO]:
    if out == STDOUT:
        yield sys.stdout
        return
    with (
        whole_file(out, SeriesError) as made,
        open(made, "w", encoding="utf-8", newline="\n") as stream,
    ):
        yield stream
