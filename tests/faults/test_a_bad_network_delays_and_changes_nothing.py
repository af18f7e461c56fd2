"""Latency, broken connections, black holes, lost replies between the flows and the broker."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from faults_table import Figures
from ground import Ground
from places import Running, wait_until
from proxy import Proxy

from services.broker.broker import Broker

pytestmark = pytest.mark.kafka

PER_SECOND = 120
LATENCY_S = 0.02


def worry(shop: Ground, proxy: Proxy, rounds: int, hole_s: float) -> Running:
    """A service under load, on a network that gets worse in every way."""
    service = shop.up()
    with shop.feeding(PER_SECOND):
        for _ in range(rounds):
            proxy.delay_s = LATENCY_S
            shop.await_progress("score", shop.progress("score") + 10)
            proxy.delay_s = 0.0
            for _ in range(4):
                time.sleep(shop.dice.uniform(0.05, 0.5))
                proxy.reset()
            lost = proxy.lost_replies
            proxy.lose_replies(3)
            wait_until(lambda n=lost + 3: proxy.lost_replies >= n, "replies to be lost")
            proxy.swallows = True
            time.sleep(hole_s)
            proxy.swallows = False
            shop.await_progress("score", shop.progress("score") + 10)
    assert service.process.poll() is None, service.stderr
    return service


@pytest.mark.faults
@pytest.mark.survives(13, 26, 27, 28)
@pytest.mark.timeout(900)
def test_a_service_on_a_bad_network(
    proxy: tuple[Proxy, Broker], tmp_path: Path, figures: Figures
) -> None:
    through, broker = proxy
    servers = broker.url.removeprefix("kafka://")
    shop = Ground(tmp_path / "shop", through.url, figures.seed, servers)
    try:
        service = worry(shop, through, rounds=1, hole_s=8.0)
        figures.add(lost_replies=through.lost_replies, **shop.settle(service).exact())
    finally:
        shop.close()


@pytest.mark.faults
@pytest.mark.survives(13, 26, 27, 28)
@pytest.mark.timeout(3600)
def test_a_service_on_a_bad_network_for_long(
    proxy: tuple[Proxy, Broker], tmp_path: Path, figures: Figures
) -> None:
    through, broker = proxy
    servers = broker.url.removeprefix("kafka://")
    shop = Ground(tmp_path / "shop", through.url, figures.seed + 1, servers)
    try:
        service = worry(shop, through, rounds=6, hole_s=20.0)
        figures.add(lost_replies=through.lost_replies, **shop.settle(service).exact())
    finally:
        shop.close()
