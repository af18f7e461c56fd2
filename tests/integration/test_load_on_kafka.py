"""Load and late on a real Kafka: every record in the lake once, whenever their process is killed.

Offsets have holes there, so this is also about file names, next offsets and counts that know it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from flow_bench import Bench

from dataflows.connectors.lake import lake_files
from dataflows.connectors.records import heartbeat_time
from services.broker.broker import Broker
from services.simulator.driver import publish_chunks
from services.simulator.settings import FaultRates, SimulationSettings
from services.simulator.simulate import simulate
from services.status.slots import SlotStatus, slot_statuses

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SEED, PATIENCE_S = 11, 120.0
KILLED_AT = ("before commit", "mid transaction", "after commit")
STRUCK = Path(__file__).parents[1] / "faults" / "struck_worker.py"
LATE = ("late.clickstream/0", "late.clickstream/1")
LOADED = {
    "clickstream": ("events.clickstream", "buffered.clickstream"),
    "dead_letters": ("dlq.clickstream",),
    "reprocess_requests": ("reprocess.requests",),
}
Settings = Mapping[str, str | int]
SETTINGS: Settings = {
    "slots.snapshot_interval": "200ms",
    "slots.batch_records": 50,
    "slots.lease_wait": "2s",
    "lake.file_records": 100,
    "lake.compact_below_records": 1_000,
    "lake.compact_files": 3,
}


@pytest.fixture
def bench(broker: Broker, tmp_path: Path) -> Bench:
    """Three days of clicks, ingested: some late, some broken."""
    made = Bench(tmp_path / "data", bus=broker.url, **SETTINGS)
    simulation = simulate(
        SimulationSettings(
            start=date(2026, 3, 2),
            days=3,
            customers=200,
            target_events=6_000,
            faults=FaultRates(buffered=0.15),
        )
    )
    publish_chunks(made.log, simulation.chunks(), None, threading.Event())
    made.run("ingest")
    return made


@pytest.mark.timeout(600)
def test_every_record_is_in_the_lake_once(bench: Bench, broker: Broker, tmp_path: Path) -> None:
    moments = random.Random(SEED)
    lake = tmp_path / "data" / "lake"
    run_killed(bench, broker, "late", LATE, moments)
    run_killed(bench, broker, "load", loaded_slots(), moments)

    for table, topics in LOADED.items():
        wanted = Counter(
            (topic, record.partition, record.offset)
            for topic in topics
            for record in bench.records(topic)
            if heartbeat_time(record.headers) is None
        )
        files = lake_files(lake, table)
        rows = Counter(row for file in files for row in lineage(file))
        assert rows == wanted, table
        assert len(wanted) > 1 or table == "reprocess_requests"
    assert len(bench.records("buffered.clickstream")) > 10
    assert compacted(lake), "nothing was merged"
    requested = Counter[str]()
    for record in bench.records("reprocess.requests"):
        request = msgspec.json.decode(record.value or b"")
        requested[request["source"]] += request["late_events"]
    buffered = len([r for r in bench.records("buffered.clickstream") if r.value is not None])
    assert 0 < requested["clickstream"] <= buffered
    assert [s for s in statuses(bench) if s.lag_records or s.difference] == []
    bench.log.close()


def loaded_slots() -> list[str]:
    topics = [topic for topics in LOADED.values() for topic in topics]
    return [f"{t}/{p}" for t in topics for p in range(1 if t == "reprocess.requests" else 2)]


def lineage(file: Path) -> list[tuple[str, int, int]]:
    columns = ["_topic", "_partition", "_offset"]
    rows = pq.read_table(file, partitioning=None, columns=columns).to_pylist()
    return [(row["_topic"], row["_partition"], row["_offset"]) for row in rows]


def compacted(lake: Path) -> bool:
    """Whether a file holds more than a write puts into one."""
    return any(pq.read_metadata(file).num_rows > 150 for file in lake_files(lake, "clickstream"))


def statuses(bench: Bench) -> list[SlotStatus]:
    """Those of the slots that ran."""
    ran = {*LATE, *loaded_slots()}
    found = slot_statuses(bench.shop, ("late", "load"))
    return [s for s in found if f"{s.topic}/{s.partition}" in ran]


def run_killed(
    bench: Bench, broker: Broker, flow: str, slots: Sequence[str], moments: random.Random
) -> None:
    """Runs the slots until nothing is left, killed a few times: right before a commit, when the
    lake has taken something that the log does not know of yet, in the middle of one, after one."""
    for point in KILLED_AT:
        strike = [str(STRUCK), f"{point}:{moments.randint(1, 4)}"]
        # Other sizes each time: what is written anew never falls where the last run stopped.
        sizes: Settings = {
            "slots.batch_records": moments.randrange(20, 60),
            "lake.file_records": moments.randrange(60, 140),
        }
        process = start(broker, bench, strike, flow, slots, {**SETTINGS, **sizes})
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
        assert lag(bench, flow), "killed too late: give the flows more to do"
    process = start(broker, bench, ["-m", "services.cli"], flow, slots, SETTINGS)
    give_up = time.monotonic() + PATIENCE_S
    while lag(bench, flow):
        assert process.poll() is None, "the worker ended by itself"
        assert time.monotonic() < give_up, f"{flow} does not catch up"
        time.sleep(0.1)
    process.terminate()
    assert process.wait(60) == 0


def lag(bench: Bench, flow: str) -> int:
    return sum(s.lag_records for s in statuses(bench) if s.flow == flow)


def start(
    broker: Broker,
    bench: Bench,
    program: Sequence[str],
    flow: str,
    slots: Sequence[str],
    configured: Settings,
) -> subprocess.Popen[bytes]:
    chosen = [argument for slot in slots for argument in ("--slot", slot)]
    settings = {f"TIDEGATE_{k.upper().replace('.', '_')}": str(v) for k, v in configured.items()}
    settings["TIDEGATE_DATA_DIR"] = str(bench.shop.config.data_dir)
    return subprocess.Popen(
        [sys.executable, "-P", *program, "run", flow, *chosen],
        env={**os.environ, **settings, "TIDEGATE_BUS": broker.url},
    )
