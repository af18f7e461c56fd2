"""The law: a slot is a pure function of its log, wherever batches, snapshots and restarts fall."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Bench

from dataflows.connectors.records import Headers
from dataflows.runtime.config import Config, load_config
from services.replay import replay
from services.simulator.driver import publish_chunks
from services.simulator.settings import SimulationSettings
from services.simulator.simulate import Simulation, simulate
from services.status.peek import Record, peek_records, to_json_line

REFERENCE = ("product_catalog", "customer_profiles")
OUTPUTS = {
    "ingest": ("events.{}", "late.{}", "dlq.{}"),
    "late": ("buffered.{}", "reprocess.requests", "dlq.late"),
    "sessionize": ("sessions", "late.sessionize", "dlq.sessionize"),
    "features": ("scoring.requests", "dlq.features"),
    "score": ("scores", "alerts", "dlq.score"),
}
PURE = [  # each with the source whose log it reads, and the partition
    ("ingest", "clickstream", 0),
    ("ingest", "clickstream", 1),
    ("ingest", "transactions", 0),
    ("late", "clickstream", 0),
    ("sessionize", "clickstream", 1),
    ("features", "transactions", 0),
    ("score", "transactions", 0),
]
PREFIX = 600  # records for the runs that take one at a time
Row = tuple[bytes | None, bytes | None]


class Live(NamedTuple):
    """A bench whose flows ran live, and its simulated month."""

    bench: Bench
    simulation: Simulation

    def input(self, flow: str, source: str, partition: int) -> list[Record]:
        """What the slot has read."""
        topic = next(t for t in self.bench.shop.topology.inputs[flow] if _is_of(t, flow, source))
        return list(peek_records(self.bench.log, topic, partition, 0, 2**62))

    def outputs(self, flow: str, source: str, partition: int) -> dict[str, list[Row]]:
        """What the slot has published, heartbeats left out."""
        return {
            topic: [
                (record.key, record.value)
                for record in peek_records(self.bench.log, topic, partition, 0, 2**62)
                if not _is_heartbeat(record.headers)
            ]
            for topic in (name.format(source) for name in OUTPUTS[flow])
            if partition < self.bench.shop.topology.topics[topic]
        }


def _is_of(topic: str, flow: str, source: str) -> bool:
    return flow in ("sessionize", "features", "score") or topic.endswith(f".{source}")


def _is_heartbeat(headers: Headers) -> bool:
    return any(name == "tidegate-heartbeat" for name, _ in headers)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """Twelve days through all flows. Without the reference sources: what ingest looks up in them
    is a fact of the moment, not of the slot's log."""
    bench = Bench(tmp_path_factory.mktemp("live"), **{"slots.batch_records": 500})
    simulation = simulate(
        SimulationSettings(
            start=date(2026, 3, 2),
            days=12,
            customers=200,
            target_events=20_000,
            partitions={s: bench.shop.topology.topics[f"raw.{s}"] for s in bench.shop.contracts},
        )
    )
    chunks = (
        chunk.__class__(
            **{
                **{name: getattr(chunk, name) for name in chunk.__dataclass_fields__},
                "parts": tuple(part for part in chunk.parts if part.source not in REFERENCE),
            }
        )
        for chunk in simulation.chunks()
    )
    publish_chunks(bench.log, chunks, None, threading.Event())
    bench.run("ingest", "late", "sessionize", "features", "score")
    return Live(bench, simulation)
