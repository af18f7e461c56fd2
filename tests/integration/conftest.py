"""Flows in this process, on an embedded log of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataflows.connectors.records import Headers, published
from dataflows.flows.opening import builder, open_shop
from dataflows.flows.shop import Shop
from dataflows.runtime.config import load_config
from dataflows.runtime.slot import run_slot
from services.status.peek import Record, peek_records


class Bench:
    """A shop on a log of its own; flows run to the end of what is there."""

    def __init__(self, directory: Path, **overrides: object):
        settings = {"data_dir": str(directory), **overrides}
        self.shop: Shop = open_shop(load_config(None, {}, settings))
        self.log = self.shop.log

    def publish(
        self, topic: str, values: list[bytes | None], headers: list[Headers] | None = None
    ) -> None:
        """Records without keys into partition 0."""
        self.log.append([published(topic, [None] * len(values), values, headers, partition=0)])

    def run(self, *flows: str, topic: str | None = None) -> None:
        for flow in flows:
            threads = []
            for slot in self.shop.slots(flow):
                if topic is None or slot.topic == topic:
                    slot.stop_at_end = True
                    args = (slot, builder(self.shop, flow))
                    threads.append(threading.Thread(target=run_slot, args=args))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def records(self, topic: str) -> list[Record]:
        return list(peek_records(self.log, topic, None, 0, 2**62))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes a bench; overrides are dotted configuration keys."""
    made: list[Bench] = []

    def make(name: str = "data", **overrides: object) -> Bench:
        dotted = {key.replace("__", "."): value for key, value in overrides.items()}
        made.append(Bench(tmp_path / name, **dotted))
        return made[-1]

    yield make
    for each in made:
        each.log.close()
