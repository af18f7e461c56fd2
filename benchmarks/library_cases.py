"""The work of the detection layer by treelite and river, each in an environment of its own.

What they answer is held against what Tidegate answers; a difference ends the case.
"""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measured import Measured, NotMeasured
from benchmarks.model_cases import (
    NAMES,
    ROWS_AT_ONCE,
    WINDOWS_US,
    five_windows,
    forest_problem,
    spread_events,
)
from benchmarks.peers.environments import PROGRAMS, NoPeer, python_environment
from dataflows.eventtime.timelines import Given
from services.training.export import export

PATIENCE_S = 1_800
SERIES = 100


def forest_batches_treelite(users: int, events: int) -> Measured:
    """The forest of `forest_batches`, compiled to C."""
    forest, rows, labels = forest_problem(events)
    given = {
        "rows": rows,
        "labels": labels,
        "settings": json.dumps(forest.get_params()),
        "at_once": ROWS_AT_ONCE,
    }
    seconds, scores = _by("treelite", [], given, "scores")
    count = len(scores)
    model = export(forest.fit(rows[: len(labels)], labels), NAMES, rows[:100])
    _same(model.score(rows[:count].astype(np.float32).astype(float)), scores, 1e-5)
    return _measured(count, seconds)


def timelines_river(users: int, events: int) -> Measured:
    """The windows of `timelines_kernel` by TimeRolling, as many events before those measured."""
    names, times, values = spread_events(users, events)
    given = {
        "windows_us": np.array(WINDOWS_US),
        "entities": names,
        "times_us": times,
        "values": values,
        "warm_up": events,
    }
    seconds, answers = _by("river", ["features"], given, "answers")
    state, ones = five_windows(), np.ones(len(times), np.bool_)
    (found,) = state.process(names.tolist(), times, ones, [Given(ones, values)], times)
    _same(found.numbers[:, events:].T.astype(float), answers, 1e-9)
    return _measured(events, seconds)


def anomaly_scores_river(users: int, events: int) -> Measured:
    """Half-space trees on a hundred series, half as many rows before those measured."""
    rng = np.random.default_rng(1)
    rows, warm_up = max(events // SERIES, 1), max(events // SERIES // 2, 1)
    values = rng.normal(size=(warm_up + rows, SERIES))
    given = {"rows": values, "warm_up": warm_up}
    seconds, _ = _by("river", ["anomalies"], given, "answers")
    return _measured(rows * SERIES, seconds)


def _by(
    library: str, arguments: list[str], given: dict[str, Any], left: str
) -> tuple[float, NDArray[np.float64]]:
    """The CPU seconds that a library's program took, and what it left behind."""
    try:
        python = python_environment(library)
    except NoPeer as reason:
        raise NotMeasured(f"{library}: {reason}") from reason
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "given.npz"
        np.savez(file, **given)
        command = [
            str(python),
            str(PROGRAMS / library / "program.py"),
            *arguments,
            str(file),
            directory,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        if done.returncode:
            raise RuntimeError(f"{library}: {done.stderr}")
        return float(done.stdout.split()[-1]), np.load(Path(directory) / f"{left}.npy")


def _same(ours: NDArray[np.float64], theirs: NDArray[np.float64], tolerance: float) -> None:
    apart = float(np.abs(ours - theirs).max())
    if apart > tolerance * max(1.0, float(np.abs(ours).max())):
        raise RuntimeError(f"the answers are {apart} apart")


def _measured(events: int, seconds: float) -> Measured:
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Measured(events=events, cpu_seconds=seconds, wall_seconds=seconds, rss_mb=peak_mb)
