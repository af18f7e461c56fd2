"""The flows on a real Kafka, each in a process of its own, as `tidegate run` starts them.

A measurement is the same for whatever reads a topic: the processes first drain a small topic, so
that imports, compilation and connections are behind them; then a transaction commits the whole load
at once, and the CPU time that they take until they have drained that, too, is what counts: user and
system, all threads. The broker's is not counted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka import Producer

from benchmarks.measured import Measured
from benchmarks.payments import encoded_payments, make_payments
from benchmarks.peers.workloads import Record
from benchmarks.visits import encoded, make_visits, steady_span_s
from dataflows.connectors.log import Log
from dataflows.flows.opening import open_shop
from dataflows.runtime.config import load_config
from services.broker.broker import Broker

WARM_UP_EVENTS = 20_000
PIECE = 10_000
WAIT_S = 300.0
POLL_S = 0.05
ONE_EACH = {"clickstream": 1, "transactions": 1}
SNAPSHOT_INTERVAL = "10s"  # the default of the configuration

Block = tuple[list[bytes | None], list[bytes | None]]


class Meter:
    """CPU and wall time of other processes since the meter was made."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]):
        self._pids = [process.pid for process in processes]
        self._cpu, self._wall = self._cpu_seconds(), time.perf_counter()

    def _cpu_seconds(self) -> float:
        return sum(map(_cpu_seconds, self._pids))

    def stop(self, events: int) -> Measured:
        return Measured(
            events=events,
            cpu_seconds=self._cpu_seconds() - self._cpu,
            wall_seconds=time.perf_counter() - self._wall,
            rss_mb=sum(map(_peak_mb, self._pids)),
        )


def _cpu_seconds(pid: int) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class Feed:
    """Commits records to the one partition of a topic; each commit is readable as a whole."""

    def __init__(self, servers: str, topic: str):
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "transactional.id": "benchmark",
                "transaction.timeout.ms": 600_000,
                "linger.ms": 20,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self._producer.init_transactions(60)

    def commit(self, records: Sequence[Record]) -> None:
        self._producer.begin_transaction()
        for first in range(0, len(records), PIECE):
            piece = [{"key": k, "value": v} for k, v in records[first : first + PIECE]]
            if self._producer.produce_batch(self._topic, piece, partition=0) < len(piece):
                raise RuntimeError("the producer's queue is full")
            while len(self._producer) > PIECE:
                self._producer.poll(0.01)
        self._producer.commit_transaction(60)


@contextmanager
def broker() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory() as directory:
        started = Broker(Path(directory))
        try:
            yield started
        finally:
            started.kill()


def throughput(
    hops: Mapping[str, str],
    blocks: Iterable[Block],
    events: int,
    snapshot_interval: str = SNAPSHOT_INTERVAL,
) -> Measured:
    """Flows over partition 0 of their topics, each on the output of the one before, in a process of
    its own: exactly once, snapshots on. `blocks` holds WARM_UP_EVENTS more than `events`."""
    with broker() as kafka, tempfile.TemporaryDirectory() as directory:
        overrides = {"data_dir": directory, "bus": kafka.url, "partitions": ONE_EACH}
        log = open_shop(load_config(None, {}, overrides)).log
        feed = Feed(kafka.url.removeprefix("kafka://"), next(iter(hops.values())))
        records = [record for keys, values in blocks for record in zip(keys, values, strict=True)]
        feed.commit(records[:WARM_UP_EVENTS])
        with ExitStack() as running:
            workers = [
                running.enter_context(worker({flow: topic}, overrides, snapshot_interval))
                for flow, topic in hops.items()
            ]
            _await_drained(log, hops, workers)
            feed.commit(records[WARM_UP_EVENTS:])
            meter = Meter(workers)
            _await_drained(log, hops, workers)
            return meter.stop(events)


def sessionize_on_kafka(users: int, events: int) -> Measured:
    """Kafka -> decode -> sessions -> Kafka."""
    return throughput({"sessionize": "events.clickstream"}, _visits(users, events), events)


def sessionize_on_kafka_unsaved(users: int, events: int) -> Measured:
    """The same without any snapshot on the way."""
    hops = {"sessionize": "events.clickstream"}
    return throughput(hops, _visits(users, events), events, snapshot_interval="1h")


def ingest_on_kafka(users: int, events: int) -> Measured:
    """Kafka -> decode, validate, lateness, dedup, enrich -> Kafka."""
    return throughput({"ingest": "raw.clickstream"}, _visits(users, events), events)


def features_on_kafka(users: int, events: int) -> Measured:
    """Kafka -> decode -> customer features -> Kafka."""
    return throughput({"features": "events.transactions"}, _payments(users, events), events)


def scoring_on_kafka(users: int, events: int) -> Measured:
    """Kafka -> customer features -> Kafka -> device features, rules, scores, alerts -> Kafka."""
    hops = {"features": "events.transactions", "score": "scoring.requests"}
    return throughput(hops, _payments(users, events), events)


def _visits(users: int, events: int) -> Iterator[Block]:
    span_s = steady_span_s(users, events)
    return encoded(make_visits(WARM_UP_EVENTS + events, users, span_s))


def _payments(users: int, events: int) -> Iterator[Block]:
    return encoded_payments(make_payments(WARM_UP_EVENTS + events, users))


@contextmanager
def worker(
    hops: Mapping[str, str], settings: Mapping[str, object], snapshot_interval: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`tidegate run` on partition 0 of each flow's topic; must stop cleanly."""
    data_dir, bus = str(settings["data_dir"]), str(settings["bus"])
    slots = [part for topic in hops.values() for part in ("--slot", f"{topic}/0")]
    command = [sys.executable, "-m", "services.cli", "--data-dir", data_dir, "run", *hops]
    environment = {
        "TIDEGATE_BUS": bus,
        "TIDEGATE_CONFIG": _config_file(Path(data_dir)),
        "TIDEGATE_SLOTS_SNAPSHOT_INTERVAL": snapshot_interval,
        "OMP_NUM_THREADS": "1",
        "RUST_BACKTRACE": "0",
    }
    process = subprocess.Popen([*command, *slots], env={**os.environ, **environment})
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        if process.wait(WAIT_S):
            raise RuntimeError(f"the worker ended with {process.returncode}")
    finally:
        process.kill()


def _config_file(directory: Path) -> str:
    file = directory / "benchmark.toml"
    file.write_text('[partitions]\nclickstream = 1\ntransactions = 1\n[slots]\npark_after = "1h"\n')
    return str(file)


def _await_drained(
    log: Log, hops: Mapping[str, str], workers: Sequence[subprocess.Popen[bytes]]
) -> None:
    """Waits until everything that is committed to the topics has its outputs committed."""
    give_up = time.monotonic() + WAIT_S
    for flow, topic in hops.items():
        slot, place = f"{flow}.{topic}.0", (topic, 0)
        while True:
            marker = log.markers().get(slot)
            if log.unread({place: marker.next_offset if marker else 0})[place] == 0:
                break
            if ended := [process for process in workers if process.poll() is not None]:
                raise RuntimeError(f"a worker ended with {ended[0].returncode}")
            if time.monotonic() > give_up:
                raise RuntimeError(f"{flow} does not catch up")
            time.sleep(POLL_S)
