"""Flows in this process, on an embedded log of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

from dataflows.connectors.embedded import EmbeddedLog
from dataflows.connectors.records import Headers, published
from dataflows.flows.opening import builder, open_shop
from dataflows.flows.shop import Shop
from dataflows.runtime.config import load_config
from dataflows.runtime.slot import run_slot
from services.simulator.driver import publish_chunks
from services.simulator.settings import SimulationSettings
from services.simulator.simulate import simulate
from services.status.peek import Record, peek_records

REFERENCE = ("product_catalog", "customer_profiles")


class Bench:
    """A shop on a log of its own; flows run to the end of what is there.

    `clock` gives the log's arrival times, in microseconds; overrides are dotted configuration keys.
    """

    def __init__(
        self, directory: Path, clock: Callable[[], int] | None = None, **overrides: object
    ):
        config = load_config(None, {}, {"data_dir": str(directory), **overrides})
        if clock is None:
            self.shop = open_shop(config)
        else:
            self.shop = Shop(config, EmbeddedLog(directory / "log.db", clock))
            self.shop.log.create_topics(self.shop.topology.topics)
        self.log = self.shop.log

    def publish(
        self, topic: str, values: list[bytes | None], headers: list[Headers] | None = None
    ) -> None:
        """Records without keys into partition 0."""
        self.log.append([published(topic, [None] * len(values), values, headers, partition=0)])

    def simulate(self, days: int, events: int, reference: bool = False) -> None:
        """Some days of the shop; without the reference sources where two runs shall be alike: what
        ingest looks up in them is a fact of the moment, not of the slot's log."""
        topics = self.shop.topology.topics
        simulation = simulate(
            SimulationSettings(
                start=date(2026, 3, 2),
                days=days,
                customers=200,
                target_events=events,
                partitions={source: topics[f"raw.{source}"] for source in self.shop.contracts},
            )
        )
        left_out = () if reference else REFERENCE
        chunks = (
            replace(chunk, parts=tuple(p for p in chunk.parts if p.source not in left_out))
            for chunk in simulation.chunks()
        )
        publish_chunks(self.log, chunks, None, threading.Event())

    def run(self, *flows: str, topic: str | None = None) -> None:
        """Each flow after the one before; raises what the first slot that failed raised."""
        for flow in flows:
            slots = [s for s in self.shop.slots(flow) if topic is None or s.topic == topic]
            with ThreadPoolExecutor(len(slots)) as pool:
                for slot in slots:
                    slot.stop_at_end = True
                runs = [pool.submit(run_slot, slot, builder(self.shop, flow)) for slot in slots]
            for run in runs:
                run.result()

    def records(self, topic: str) -> list[Record]:
        return list(peek_records(self.log, topic, None, 0, 2**62))
