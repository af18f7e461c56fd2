"""The Numenta Anomaly Benchmark's score of a detector, and its data where they are at hand.

After "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark" (Lavin and
Ahmad, 2015) and the sweeper of NAB 1.1. Each labelled window is worth what its earliest detection
is: nearly 1 at its left end, 0 at its right one; a window without a detection costs 1. Every
detection outside of windows costs up to 1, less shortly after a window. The first rows of a file do
not count. One threshold serves all files: the best. 100 is a detection at the left end of each
window and nothing else, 0 is no detection at all.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PROBATION = 0.15
PROBATION_OF = 5_000
"""A file's first rows do not count: 15 % of them, or of so many if it has more."""


class Profile(NamedTuple):
    """What a detection and a miss are worth."""

    hit: float = 1.0
    false_alarm: float = 1.0
    miss: float = 1.0


STANDARD = Profile()
LOW_FALSE_POSITIVES = Profile(1.0, 2.0, 0.5)
LOW_FALSE_NEGATIVES = Profile(1.0, 0.5, 2.0)


class Window(NamedTuple):
    """First and last row of a labelled anomaly."""

    first: int
    last: int


@dataclass(frozen=True)
class LabelledSeries:
    """One file: n rows and its windows, in order of time, which do not overlap."""

    name: str
    times_us: NDArray[np.int64]  # [n]
    values: NDArray[np.float64]  # [n]
    windows: Sequence[Window]

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]

    @property
    def probation(self) -> int:
        """How many rows do not count."""
        return math.floor(min(PROBATION * len(self.values), PROBATION * PROBATION_OF))


class Result(NamedTuple):
    """A score, and the threshold it was reached with; detections are scores at least that high."""

    score: float
    threshold: float


def _worth(position: float) -> float:
    """By the position in, or past, a window: -1 is its left end, 0 its right one."""
    return -1.0 if position >= 3 else 2 / (1 + math.exp(5 * position)) - 1


def row_worths(series: LabelledSeries) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(worth of a detection at each row, number of the row's window or -1), each [n]."""
    n = len(series.values)
    worths, windows = np.full(n, -1.0), np.full(n, -1, np.int64)
    for number, (first, last) in enumerate(series.windows):
        width = last - first + 1
        for row in range(first, last + 1):
            worths[row] = _worth(-(last - row + 1) / width) / _worth(-1)
            windows[row] = number
        until = series.windows[number + 1].first if number + 1 < len(series.windows) else n
        for row in range(last + 1, until):
            worths[row] = _worth((row - last) / (width - 1)) if width > 1 else -1.0
    return worths, windows


def best(
    corpus: Sequence[LabelledSeries],
    scores: Sequence[NDArray[np.float64]],
    profile: Profile = STANDARD,
) -> Result:
    """The score with the threshold that makes it highest; infinity stands for no detection."""
    worths, windows, flat, labelled = _joined(corpus, scores)
    order = np.argsort(-flat, kind="stable")
    found: dict[int, float] = {}
    highest, raw = Result(0.0, math.inf), -profile.miss * labelled
    for place, row in enumerate(order.tolist()):
        raw += _gain(found, int(windows[row]), float(worths[row]), profile)
        is_step = place + 1 == len(order) or flat[order[place + 1]] != flat[row]
        score = _normal(raw, labelled, profile)
        if is_step and score > highest.score:
            highest = Result(score, float(flat[row]))
    return highest


def at_threshold(
    corpus: Sequence[LabelledSeries],
    scores: Sequence[NDArray[np.float64]],
    threshold: float,
    profile: Profile = STANDARD,
) -> float:
    """The score with a given threshold."""
    worths, windows, flat, labelled = _joined(corpus, scores)
    found: dict[int, float] = {}
    raw = -profile.miss * labelled
    for row in np.flatnonzero(flat >= threshold).tolist():
        raw += _gain(found, int(windows[row]), float(worths[row]), profile)
    return _normal(raw, labelled, profile)


def shown(
    corpus: Sequence[LabelledSeries], scores: Sequence[NDArray[np.float64]], default: float
) -> str:
    """The scores in words: best and default threshold, each group's own best one, and each group
    with the threshold that is best for the others."""
    whole = best(corpus, scores)
    parts = [
        f"best threshold {whole.threshold:.2f}: {whole.score:.1f}",
        f"threshold {default}: {at_threshold(corpus, scores, default):.1f}",
    ]
    for group in dict.fromkeys(series.group for series in corpus):
        own = [row for row, series in enumerate(corpus) if series.group == group]
        rest = [row for row in range(len(corpus)) if row not in own]
        files, scored = [corpus[row] for row in own], [scores[row] for row in own]
        if any(series.windows for series in files):
            alone = best(files, scored).score
            told = best([corpus[row] for row in rest], [scores[row] for row in rest]).threshold
            left_out = at_threshold(files, scored, told)
            parts.append(f"{group}: alone {alone:.1f}, left out {left_out:.1f}")
        else:
            raised = sum(
                int((some >= default)[series.probation :].sum())
                for series, some in zip(files, scored, strict=True)
            )
            parts.append(f"{group}: {raised} alerts")
    return "; ".join(parts)


def _gain(found: dict[int, float], window: int, worth: float, profile: Profile) -> float:
    """What one more detection adds; `found` is what each window's best one was worth."""
    if window < 0:
        return worth * profile.false_alarm
    before = found.get(window, -profile.miss)
    found[window] = max(before, worth * profile.hit)
    return found[window] - before


def _normal(raw: float, labelled: int, profile: Profile) -> float:
    if not labelled:
        raise ValueError("a score needs a labelled window")
    nothing, perfect = -profile.miss * labelled, profile.hit * labelled
    return 100 * (raw - nothing) / (perfect - nothing)


def _joined(
    corpus: Sequence[LabelledSeries], scores: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], int]:
    """Worths, windows (numbered through) and scores of all rows that count; how many windows."""
    worths, windows, flat, numbered, labelled = [], [], [], 0, 0
    for series, scored in zip(corpus, scores, strict=True):
        if len(scored) != len(series.values):
            raise ValueError(f"{series.name}: {len(scored)} scores of {len(series.values)} rows")
        worth, window = (part[series.probation :] for part in row_worths(series))
        labelled += len(set(window.tolist()) - {-1})
        worths.append(worth)
        windows.append(np.where(window < 0, -1, window + numbered))
        flat.append(scored[series.probation :])
        numbered += len(series.windows)
    return np.concatenate(worths), np.concatenate(windows), np.concatenate(flat), labelled


def read_corpus(folder: Path, groups: Iterable[str] | None = None) -> list[LabelledSeries]:
    """The files that `anomaly_windows.json` in the folder names, those of these groups."""
    labels: Mapping[str, list[list[str]]] = json.loads(
        (folder / "anomaly_windows.json").read_text("utf-8")
    )
    wanted = None if groups is None else set(groups)
    return [
        _read(folder, name, windows)
        for name, windows in sorted(labels.items())
        if wanted is None or name.partition("/")[0] in wanted
    ]


def _read(folder: Path, name: str, windows: list[list[str]]) -> LabelledSeries:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    times = np.array([_microseconds(row["timestamp"]) for row in rows], np.int64)
    rows_of: dict[int, int] = {}
    for number, time in enumerate(times.tolist()):
        rows_of.setdefault(time, number)
    return LabelledSeries(
        name,
        times,
        np.array([float(row["value"]) for row in rows]),
        [Window(*(rows_of[_microseconds(end)] for end in window)) for window in windows],
    )


def _microseconds(text: str) -> int:
    return int((datetime.fromisoformat(text) - datetime(1970, 1, 1)).total_seconds() * 1e6)
