"""Features of a spec and models: events and rows a CPU-second, beside scikit-learn's."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from benchmarks.measured import Measured
from dataflows.detection.models import Model
from dataflows.eventtime.timelines import Ask, Given, Keeps, Timeline, Timelines, What
from services.training.export import export

BATCH = 20_000
ROWS_AT_ONCE = 1_000
FEATURES = 25
TRAINED = 20_000
NAMES = tuple(f"feature_{k}" for k in range(FEATURES))
HOUR_US = 3_600_000_000
WINDOWS_US = tuple(hours * HOUR_US for hours in (1, 24, 168, 720, 2_160))
SPAN_US = 60 * 24 * HOUR_US


def timelines_kernel(users: int, events: int) -> Measured:
    """Count and sum of five windows for every event; as many events went before them."""
    state = five_windows()
    entities, times, values = spread_events(users, events)
    names, ones, started = entities.tolist(), np.ones(2 * events, np.bool_), 0.0
    for first in range(0, 2 * events, BATCH):
        if first <= events < first + BATCH:
            started = time.process_time()
        some = slice(first, first + BATCH)
        given = [Given(ones[some], values[some])]
        state.process(names[some], times[some], ones[some], given, times[some])
    return _measured(events, started, f"state {state.nbytes / 1e6:.0f} MB")


def five_windows() -> Timelines:
    """Count and sum of each."""
    asks = tuple(Ask(what, window) for window in WINDOWS_US for what in (What.COUNT, What.SUM))
    return Timelines([Timeline(Keeps.NUMBER, asks)], 0)


def spread_events(
    users: int, events: int
) -> tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.int64]]:
    """Entities, event times and values of twice as many events, in order of time."""
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, SPAN_US, 2 * events))
    names = np.array([f"customer {number}" for number in range(users)])
    return names[rng.integers(0, users, 2 * events)], times, rng.integers(0, 10**9, 2 * events)


def model_batches(users: int, events: int) -> Measured:
    """Gradient boosting of 100 trees, rows a thousand at a time."""
    model, _, rows = _boosting(events)
    return _scored(model.score, rows, ROWS_AT_ONCE)


def model_batches_scikit_learn(users: int, events: int) -> Measured:
    _, estimator, rows = _boosting(events)
    return _scored(estimator.predict_proba, rows, ROWS_AT_ONCE)


def model_one_row(users: int, events: int) -> Measured:
    """The same model, one row at a time."""
    model, _, rows = _boosting(events)
    return _scored(model.score, rows, 1)


def model_one_row_scikit_learn(users: int, events: int) -> Measured:
    _, estimator, rows = _boosting(events)
    return _scored(estimator.predict_proba, rows, 1)


def forest_batches(users: int, events: int) -> Measured:
    """The random forest that `train` makes by default, rows a thousand at a time."""
    model, _, rows = _forest(events)
    return _scored(model.score, rows, ROWS_AT_ONCE)


def forest_batches_scikit_learn(users: int, events: int) -> Measured:
    _, estimator, rows = _forest(events)
    return _scored(estimator.predict_proba, rows, ROWS_AT_ONCE)


def _boosting(events: int) -> tuple[Model, Any, NDArray[np.float64]]:
    return _fitted(HistGradientBoostingClassifier(max_iter=100, random_state=0), events)


def _forest(events: int) -> tuple[Model, Any, NDArray[np.float64]]:
    return _fitted(forest_problem(events)[0], events)


def forest_problem(
    events: int,
) -> tuple[RandomForestClassifier, NDArray[np.float64], NDArray[np.bool_]]:
    """The forest that `train` makes by default, rows, and labels of the first of them."""
    forest = RandomForestClassifier(
        100, criterion="entropy", min_samples_leaf=4, max_features=0.3, random_state=0, n_jobs=1
    )
    return forest, *_problem(events)


def _fitted(estimator: Any, events: int) -> tuple[Model, Any, NDArray[np.float64]]:
    rows, labels = _problem(events)
    estimator.fit(rows[: len(labels)], labels)
    return export(estimator, NAMES, rows[:100]), estimator, rows[:events]


def _problem(events: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(max(events, TRAINED), FEATURES))
    rows[rng.random(rows.shape) < 0.05] = np.nan
    signal = np.nan_to_num(rows[:TRAINED, :3]).sum(axis=1) + rng.normal(size=TRAINED)
    return rows, signal > 3


def _scored(score: Callable[[Any], Any], rows: NDArray[np.float64], at_once: int) -> Measured:
    score(rows[:at_once])
    started = time.process_time()
    for first in range(0, len(rows), at_once):
        score(rows[first : first + at_once])
    return _measured(len(rows), started, "")


def _measured(events: int, started: float, note: str) -> Measured:
    seconds = time.process_time() - started
    return Measured(
        events=events,
        cpu_seconds=seconds,
        wall_seconds=seconds,
        rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        note=note,
    )
