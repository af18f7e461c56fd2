"""The broker dies and comes back: everything goes on where it was, and nothing is late for it."""

from __future__ import annotations

import time

import pytest
from faults_table import Figures
from ground import Make

from dataflows.durations import Duration
from services.broker.broker import Broker

pytestmark = pytest.mark.kafka

PER_SECOND = 120


@pytest.mark.faults
@pytest.mark.survives(10)
@pytest.mark.timeout(900)
def test_a_broker_that_is_killed_and_started_again(
    ground: Make, broker: Broker, figures: Figures
) -> None:
    shop = ground(seed=figures.seed)
    service = shop.up()
    with shop.feeding(PER_SECOND):
        for _ in range(2):
            shop.await_progress("score", shop.progress("score") + 20)
            broker.kill()
            time.sleep(shop.dice.uniform(0.0, 3.0))
            broker.start()
        shop.await_progress("score", shop.progress("score") + 20)
    figures.add(deaths=2, **shop.settle(service).exact())


@pytest.mark.faults
@pytest.mark.survives(10)
@pytest.mark.timeout(3600)
def test_an_outage(
    ground: Make, broker: Broker, figures: Figures, pytestconfig: pytest.Config
) -> None:
    """As long as --outage says. The flows are one service that nobody restarts."""
    outage = Duration.parse(pytestconfig.getoption("outage"))
    shop = ground(seed=figures.seed)
    service = shop.up()
    with shop.feeding(PER_SECOND):
        shop.await_progress("score", 20)
        broker.kill()
        time.sleep(outage.seconds)
        assert service.process.poll() is None, service.stderr
        broker.start()
        shop.await_progress("score", shop.progress("score") + 20)
    figures.add(down=outage, **shop.settle(service).exact())
