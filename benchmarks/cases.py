"""One measurement a function. Each runs in a process of its own and prints one JSON line."""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.bigquery_dataset import emulated_dataset
from benchmarks.history_cases import history_features, rule_backtest
from benchmarks.kafka_cases import (
    features_on_kafka,
    ingest_on_kafka,
    scoring_on_kafka,
    sessionize_on_kafka,
    sessionize_on_kafka_unsaved,
)
from benchmarks.library_cases import (
    anomaly_scores_river,
    forest_batches_treelite,
    timelines_river,
)
from benchmarks.measured import NOT_MEASURED, Measured, NotMeasured
from benchmarks.model_cases import (
    forest_batches,
    forest_batches_scikit_learn,
    model_batches,
    model_batches_scikit_learn,
    model_one_row,
    model_one_row_scikit_learn,
    timelines_kernel,
)
from benchmarks.nab import best, read_corpus, shown
from benchmarks.payments import encoded_payments, make_payments
from benchmarks.visits import Visits, encoded, make_visits, steady_span_s
from benchmarks.warehouse_cases import warehouse_day, warehouse_full, warehouse_late
from dataflows.connectors.records import published
from dataflows.detection.anomalies import ALERT_AT, AnomalyDetector
from dataflows.eventtime.sessions import Sessions, SessionSettings
from dataflows.eventtime.snapshots import Buffer
from dataflows.flows.opening import builder, open_shop
from dataflows.flows.shop import Shop
from dataflows.runtime.config import HOUSE, load_config
from dataflows.runtime.slot import run_slot
from dataflows.runtime.state import Keeper, read_saved

KERNEL_BATCH = 2_000
HALF_HOUR_US = 1_800_000_000
SETTLED = 300  # rows of each series before the measured ones, when every channel is at work
_SESSIONS = SessionSettings(
    gap_us=1_800_000_000,
    bound_us=30_000_000,
    lateness_us=3_600_000_000,
    max_duration_us=86_400_000_000,
    max_events=10_000,
)
HOPS = (("features", "events.transactions"), ("score", "scoring.requests"))


class Stopwatch:
    """CPU and wall time of this process between start and stop."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def stop(self, events: int, note: str = "") -> Measured:
        return Measured(
            events=events,
            cpu_seconds=time.process_time() - self._cpu,
            wall_seconds=time.perf_counter() - self._wall,
            rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            note=note,
        )


def sessions_kernel(users: int, events: int) -> Measured:
    """The session kernel on columns, without log, JSON and Bytewax."""
    sessions = Sessions(_SESSIONS)
    visits = _visits(users, events)
    names: list[str | None] = list(visits.names)
    zeros = np.zeros(KERNEL_BATCH, np.uint8)
    watch = Stopwatch()
    for first in range(0, events, KERNEL_BATCH):
        some = visits.times_us[first : first + KERNEL_BATCH]
        size = len(some)
        sessions.process(some, names[first : first + KERNEL_BATCH], zeros[:size], zeros[:size])
    return watch.stop(events)


def sessionize(users: int, events: int) -> Measured:
    """The flow: embedded log -> decode -> sessions -> embedded log, exactly once, snapshots on."""
    with tempfile.TemporaryDirectory() as directory:
        shop = _shop(Path(directory))
        _fill(shop, "events.clickstream", _visits(users, events))
        _run(shop, "sessionize", "events.clickstream", warm_up=True)
        watch = Stopwatch()
        _run(shop, "sessionize", "events.clickstream")
        return watch.stop(events)


def ingest(users: int, events: int) -> Measured:
    """The flow: embedded log -> decode, validate, lateness, dedup, enrich -> embedded log."""
    with tempfile.TemporaryDirectory() as directory:
        shop = _shop(Path(directory))
        _fill(shop, "raw.clickstream", _visits(users, events))
        _run(shop, "ingest", "raw.clickstream", warm_up=True)
        watch = Stopwatch()
        _run(shop, "ingest", "raw.clickstream")
        return watch.stop(events)


def scoring(users: int, events: int) -> Measured:
    """Both hops: payments -> customer features -> device features -> rules -> scores, alerts."""
    with tempfile.TemporaryDirectory() as directory:
        shop = _shop(Path(directory))
        _fill_payments(shop, users, events)
        _warm_up_payments()
        watch = Stopwatch()
        for flow, topic in HOPS:
            _run(shop, flow, topic)
        return watch.stop(events)


def load(users: int, events: int) -> Measured:
    """The flow: embedded log -> Parquet, hive-partitioned, each record once."""
    with tempfile.TemporaryDirectory() as directory:
        shop = _shop(Path(directory))
        _fill(shop, "events.clickstream", _visits(users, events))
        _run(shop, "load", "events.clickstream", warm_up=True)
        watch = Stopwatch()
        _run(shop, "load", "events.clickstream")
        return watch.stop(events)


def load_into_bigquery(users: int, events: int) -> Measured:
    """The flow: embedded log -> Arrow -> PENDING streams of an emulator, whose own time is not
    counted."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        with emulated_dataset(place) as dataset:
            shop = _shop(place / "data", dataset)
            _fill(shop, "events.clickstream", _visits(users, events))
            _run(shop, "load", "events.clickstream", warm_up=True)
            watch = Stopwatch()
            _run(shop, "load", "events.clickstream")
            return watch.stop(events)


def restart(users: int, events: int) -> Measured:
    """From the start of a slot to its first poll, with the state of so many users to restore."""
    with tempfile.TemporaryDirectory() as directory:
        shop = _shop(Path(directory))
        _fill(shop, "events.clickstream", _visits(users, events))
        _run(shop, "sessionize", "events.clickstream")
        slot = shop.slots("sessionize")[0]
        slot.stop_at_end = True
        watch = Stopwatch()
        run_slot(slot, builder(shop, "sessionize"))
        return watch.stop(0, note=f"state {slot.stats.state_bytes / 1e6:.0f} MB")


def snapshot_stall(users: int, events: int) -> Measured:
    """The longest of 60 snapshots of so many users, 10,000 events of other users after each."""
    with tempfile.TemporaryDirectory() as directory:
        return _stalls(Path(directory), users, events, between=10_000)


def snapshot_stall_10s(users: int, events: int) -> Measured:
    """The same with 100,000 events between, as at 10,000 events/s and the default interval."""
    with tempfile.TemporaryDirectory() as directory:
        return _stalls(Path(directory), users, events, between=100_000)


def _stalls(directory: Path, users: int, events: int, between: int) -> Measured:
    def restore(frames: Iterable[Buffer]) -> Sessions:
        return Sessions.restore(_SESSIONS, frames)

    keeper = Keeper(directory / "journal", 1, restore, None)
    visits = _visits(users, events + 60 * between)
    names: list[str | None] = list(visits.names)
    zeros = np.zeros(KERNEL_BATCH, np.uint8)

    def process(first: int, last: int) -> None:
        for at in range(first, last, KERNEL_BATCH):
            some = slice(at, min(at + KERNEL_BATCH, last))
            size = some.stop - at
            keeper.state.process(visits.times_us[some], names[some], zeros[:size], zeros[:size])

    process(0, events)
    started = time.perf_counter()
    keeper.save()
    first_s, stalls, busy = time.perf_counter() - started, [], []
    for start in range(events, events + 60 * between, between):
        process(start, start + between)
        started, cpu = time.perf_counter(), time.process_time()
        blob = keeper.save()
        stalls.append(time.perf_counter() - started)
        busy.append(time.process_time() - cpu)
    size = sum(file.stat().st_size for file in (directory / "journal").iterdir())
    started = time.perf_counter()
    Keeper(directory / "journal", 1, restore, read_saved(blob))
    return Measured(
        events=0,
        cpu_seconds=statistics.median(busy),
        wall_seconds=max(stalls),
        rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        note=f"median {statistics.median(stalls) * 1e3:.0f} ms, all rows {first_s * 1e3:.0f} ms, "
        f"state {keeper.state.snapshot_bytes / 1e6:.0f} MB, journal {size / 1e6:.0f} MB, "
        f"read back in {time.perf_counter() - started:.2f} s",
    )


def anomaly_scores(users: int, events: int) -> Measured:
    """The anomaly detector on so many series with a daily season, a row of each in turn."""
    detector, rng = AnomalyDetector(), np.random.default_rng(1)
    names = [f"series {number}" for number in range(users)]
    size, phase = rng.uniform(0, 5, users), rng.uniform(0, 2 * np.pi, users)
    detector.score(names[:1], np.zeros(1, np.int64), np.zeros(1))  # compiled or loaded
    rows = max(events // users, 1)
    for row in range(SETTLED + rows):
        if row == SETTLED:
            watch = Stopwatch()
        at = np.full(users, row * HALF_HOUR_US, np.int64)
        values = size * np.sin(row * 2 * np.pi / 48 + phase) + rng.normal(0, 1, users)
        detector.score(names, at, values)
    return watch.stop(users * rows, note=f"state {detector.nbytes / 1e6:.0f} MB")


def nab_score(users: int, events: int) -> Measured:
    """The anomaly detector's score on those groups of NAB that are at hand, standard profile."""
    folder = HOUSE.parent / "shared" / "data" / "nab"
    if not folder.exists():
        return Measured(events=0, cpu_seconds=0, wall_seconds=0, figure="no data")
    corpus, watch = read_corpus(folder), Stopwatch()
    scores = [
        AnomalyDetector().score(["a"] * len(series.values), series.times_us, series.values).score
        for series in corpus
    ]
    measured = watch.stop(sum(len(series.values) for series in corpus))
    measured.figure, measured.note = (
        f"{best(corpus, scores).score:.1f} of 100",
        shown(corpus, scores, ALERT_AT),
    )
    return measured


def stock_bytewax(users: int, events: int) -> Measured:
    """Bytewax's own session windows over the same events, from memory, without any durability."""
    from benchmarks.stock_bytewax import run

    visits = _visits(users, events)
    values = [value for _, block in encoded(visits) for value in block if value]
    watch = Stopwatch()
    sessions = run(values)
    return watch.stop(events, note=f"{sessions:,} sessions")


CASES: dict[str, Callable[[int, int], Measured]] = {
    case.__name__: case
    for case in (
        *(sessions_kernel, sessionize, ingest, scoring, load, load_into_bigquery, restart),
        *(snapshot_stall, snapshot_stall_10s, stock_bytewax, anomaly_scores, nab_score),
        *(sessionize_on_kafka, sessionize_on_kafka_unsaved, ingest_on_kafka),
        *(features_on_kafka, scoring_on_kafka),
        *(warehouse_full, warehouse_day, warehouse_late),
        *(timelines_kernel, model_batches, model_batches_scikit_learn),
        *(model_one_row, model_one_row_scikit_learn),
        *(forest_batches, forest_batches_scikit_learn, forest_batches_treelite),
        *(timelines_river, anomaly_scores_river),
        *(history_features, rule_backtest),
    )
}


def _visits(users: int, events: int) -> Visits:
    return make_visits(events, users, steady_span_s(users, events))


def _shop(directory: Path, dataset: str = "") -> Shop:
    partitions = {"clickstream": 1, "transactions": 1}
    settings = {"data_dir": str(directory), "partitions": partitions, "bigquery.dataset": dataset}
    return open_shop(load_config(None, {}, settings))


def _fill(shop: Shop, topic: str, visits: Visits) -> None:
    for keys, values in encoded(visits):
        for first in range(0, len(values), 5_000):
            part = slice(first, first + 5_000)
            shop.log.append([published(topic, keys[part], values[part], partition=0)])


def _fill_payments(shop: Shop, users: int, events: int) -> None:
    for keys, values in encoded_payments(make_payments(events, users)):
        for first in range(0, len(values), 5_000):
            part = slice(first, first + 5_000)
            shop.log.append([published("events.transactions", keys[part], values[part])])


def _warm_up_payments() -> None:
    with tempfile.TemporaryDirectory() as directory:
        small = _shop(Path(directory))
        _fill_payments(small, 10, 100)
        for flow, topic in HOPS:
            _run(small, flow, topic)


def _run(shop: Shop, flow: str, topic: str, warm_up: bool = False) -> None:
    """Runs the flow's slot of `topic` to the end of it; a warm-up runs it on an empty log."""
    if warm_up:
        with tempfile.TemporaryDirectory() as directory:
            small = _shop(Path(directory))
            _fill(small, topic, make_visits(100, 10, 60))
            _run(small, flow, topic)
        return
    (slot,) = (slot for slot in shop.slots(flow) if slot.topic == topic)
    slot.stop_at_end = True
    run_slot(slot, builder(shop, flow))


def main() -> None:
    name, users, events = sys.argv[1:]
    try:
        measured = CASES[name](int(users), int(events))
    except NotMeasured as reason:
        print(f"not measured: {reason}", file=sys.stderr)
        sys.exit(NOT_MEASURED)
    print(msgspec.json.encode(measured).decode())


if __name__ == "__main__":
    main()
