"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import kafka_broker
import pytest
from ground import Ground, Make
from proxy import Proxy

from services.broker.broker import Broker


@pytest.fixture
def ground(tmp_path: Path, broker: Broker) -> Iterator[Make]:
    """Makes a shop on a Kafka of its own, from a seed; whatever runs is ended."""
    made: list[Ground] = []

    def make(seed: int, **options: object) -> Ground:
        made.append(Ground(tmp_path / "shop", broker.url, seed, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[tuple[Proxy, Broker]]:
    """A Kafka that clients reach by a proxy, and directly, too."""
    kafka_broker.require_kafka()
    proxy = Proxy()
    broker = Broker(tmp_path / "kafka", proxy.listener())
    yield proxy, broker
    broker.kill()
    proxy.close()
