"""The same day of the shop, on the embedded log and on a real Kafka: the same results."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from flow_bench import Bench

from dataflows.connectors.log import Log
from dataflows.connectors.records import heartbeat_time
from dataflows.flows.opening import open_shop
from dataflows.flows.payments import with_names
from dataflows.runtime.config import load_config
from services.broker.broker import Broker
from services.status.peek import peek_records
from services.status.slots import slot_statuses

pytestmark = pytest.mark.kafka

COMPARED = (
    *("events.clickstream", "late.clickstream", "events.transactions", "buffered.clickstream"),
    *("sessions", "late.sessionize", "scoring.requests", "scores", "alerts", "reprocess.requests"),
)
SHARED = "reprocess.requests"  # several slots write to it, in whichever order they come
DEAD_LETTERS = ("dlq.clickstream", "dlq.transactions", "dlq.sessionize", "dlq.score")
SOURCES = ("clickstream", "transactions")
PATIENCE_S = 240.0
KILLS = 12
SETTINGS = {
    "slots.snapshot_interval": "500ms",
    "slots.batch_records": 40,
    "slots.lease_wait": "1s",
}

# When a record arrived, and where it was, differ between two runs.
_ARRIVAL = re.compile(rb'"(arrived_at|source_offset)":("[^"]*"|[0-9]+),?')

Said = dict[str, list[tuple[int, bytes | None, bytes | None]]]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Said:
    bench = Bench(tmp_path_factory.mktemp("embedded"))
    bench.simulate(days=3, events=12_000)
    run_all(bench)
    assert clean(bench) == []
    found = said(bench)
    bench.log.close()
    assert all(found[topic] for topic in ("sessions", "alerts", "scores", "late.clickstream"))
    return found


def run_all(bench: Bench) -> None:
    for source in SOURCES:
        bench.run("ingest", topic=f"raw.{source}")
    bench.run("late", topic="late.clickstream")
    bench.run("sessionize", "features", "score")


def said(bench: Bench) -> Said:
    """Partition, key and value of every record but heartbeats, and of a scoring request each
    payment; no offsets, no arrival times."""
    return {
        topic: [
            (record.partition, record.key, _ARRIVAL.sub(b"", value))
            for record in peek_records(bench.log, topic, None, 0, 2**62)
            if heartbeat_time(record.headers) is None
            for value in with_names(record.value or b"")
        ]
        for topic in (*COMPARED, *DEAD_LETTERS)
    }


def clean(bench: Bench) -> list[str]:
    """The slots that were started and left something, or do not add up."""
    return [
        f"{s.flow}.{s.topic}.{s.partition}: lag {s.lag_records}, difference {s.difference}"
        for s in slot_statuses(bench.shop)
        if s.records_in and (s.lag_records or s.difference)
    ]


def compare(expected: Said, found: Said) -> None:
    for topic, records in expected.items():
        assert len(found[topic]) == len(records), topic
        if topic == SHARED:
            assert Counter(found[topic]) == Counter(records), topic
            continue
        for wanted, given in zip(records, found[topic], strict=True):
            assert given == wanted, topic


def test_every_flow_gives_the_same_on_kafka(broker: Broker, embedded: Said, tmp_path: Path) -> None:
    bench = Bench(tmp_path / "data", bus=broker.url)
    bench.simulate(days=3, events=12_000)
    run_all(bench)
    assert clean(bench) == []
    compare(embedded, said(bench))
    bench.log.close()


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_kills_on_kafka_leave_what_an_undisturbed_run_leaves(
    broker: Broker, embedded: Said, tmp_path: Path
) -> None:
    seed = int(os.environ.get("TIDEGATE_TEST_SEED", "5"))
    moments = random.Random(seed)
    print(f"seed {seed}")
    bench = Bench(tmp_path / "data", bus=broker.url)
    bench.simulate(days=3, events=12_000)
    hits = 0
    for flow, topic in (
        ("ingest", "raw.clickstream"),
        ("ingest", "raw.transactions"),
        ("sessionize", "events.clickstream"),
        ("features", "events.transactions"),
        ("score", "scoring.requests"),
    ):
        hits += run_killed(broker.url, tmp_path / "data", flow, topic, moments)
    assert hits >= KILLS // 2, "the flows were done too early: give them more to do"
    bench.run("late", topic="late.clickstream")
    assert clean(bench) == []
    compare(embedded, said(bench))
    bench.log.close()


def run_killed(url: str, data: Path, flow: str, topic: str, moments: random.Random) -> int:
    """Runs the slots of a flow until they have drained; how many kills hit them at work."""
    shop = open_shop(load_config(None, {}, {"data_dir": str(data), "bus": url}))
    slots = [f"{topic}/{p}" for p in range(shop.topology.topics[topic])]
    give_up, hits = time.monotonic() + PATIENCE_S, 0
    while left := lag(shop.log, flow, topic, slots):
        process = start(url, data, flow, slots)
        while (now := lag(shop.log, flow, topic, slots)) == left or (now and hits == KILLS // 4):
            assert process.poll() is None, "the worker ended by itself"
            assert time.monotonic() < give_up, f"{flow} does not catch up"
            time.sleep(0.05)
        time.sleep(moments.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        hits += lag(shop.log, flow, topic, slots) > 0
    shop.log.close()
    return hits


def lag(log: Log, flow: str, topic: str, slots: list[str]) -> int:
    markers = log.markers()
    offsets = {
        (topic, partition): marker.next_offset
        if (marker := markers.get(f"{flow}.{topic}.{partition}"))
        else 0
        for partition in range(len(slots))
    }
    return sum(log.unread(offsets).values())


def start(url: str, data: Path, flow: str, slots: list[str]) -> subprocess.Popen[bytes]:
    chosen = [argument for slot in slots for argument in ("--slot", slot)]
    settings = {
        f"TIDEGATE_{key.upper().replace('.', '_')}": str(value) for key, value in SETTINGS.items()
    }
    return subprocess.Popen(
        [sys.executable, "-m", "services.cli", "--data-dir", str(data), "run", flow, *chosen],
        env={**os.environ, **settings, "TIDEGATE_BUS": url},
    )
