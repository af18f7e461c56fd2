"""SIGKILL, at any moment, of any process, on Kafka: every result is there exactly once."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import pytest
from faults_table import Figures
from ground import PATIENCE_S, Ground, Make, strike, strike_a_worker
from places import Running, wait_until
from struck_worker import POINTS

pytestmark = pytest.mark.kafka

PER_SECOND = 150
SLOTS = ("events.clickstream/0", "events.clickstream/1")


def kill_series(shop: Ground, kills: int) -> Running:
    """Kills workers and supervisor of a service under load, so many times; what is left of it.

    Two of three times something was published since the kill before, else they may just start.
    """
    service = shop.up()
    left, give_up = kills, time.monotonic() + PATIENCE_S + 30 * kills
    with shop.feeding(PER_SECOND):
        while left:
            assert time.monotonic() < give_up, f"{left} kills are left"
            if service.process.poll() is not None:
                service = shop.up()
            if shop.dice.random() < 2 / 3:
                published = shop.progress()
                wait_until(lambda n=published: shop.progress() > n, "work", 0.05, PATIENCE_S)
            time.sleep(shop.dice.uniform(0.0, 1.5))
            left -= strike_a_worker(service, shop.dice, share_of_supervisor=0.1)
    return service


@pytest.mark.survives(1)
@pytest.mark.timeout(900)
def test_kills_over_all_flows(ground: Make, figures: Figures) -> None:
    shop = ground(seed=figures.seed)
    service = kill_series(shop, kills=5)
    figures.add(kills=5, **shop.settle(service).exact())


@pytest.mark.faults
@pytest.mark.survives(1)
@pytest.mark.timeout(7200)
def test_a_hundred_kills_over_all_flows(
    ground: Make, figures: Figures, pytestconfig: pytest.Config
) -> None:
    kills = pytestconfig.getoption("kills")
    shop = ground(seed=figures.seed + 1)
    service = kill_series(shop, kills)
    figures.add(kills=kills, **shop.settle(service).exact())


def kill_at_points(shop: Ground, rounds: int) -> int:
    """Kills a worker of sessionize at each point of a transaction; how many kills there were."""
    kills = 0
    with shop.feeding(PER_SECOND):
        ingest = shop.run("ingest")
        for _ in range(rounds):
            for point in POINTS:
                nth = shop.dice.randint(1, 2) if point == "start" else shop.dice.randint(1, 8)
                worker = shop.run_struck(f"{point}:{nth}", "sessionize", *SLOTS)
                assert worker.process.wait(PATIENCE_S) == -9, worker.stderr
                kills += 1
    assert ingest.stop() == 0, ingest.stderr
    return kills


@pytest.mark.faults
@pytest.mark.survives(2)
@pytest.mark.timeout(900)
def test_a_kill_at_each_point_of_a_transaction(ground: Make, figures: Figures) -> None:
    shop = ground(seed=figures.seed)
    figures.add(kills=kill_at_points(shop, rounds=1), **shop.settle().exact())


@pytest.mark.faults
@pytest.mark.survives(2)
@pytest.mark.timeout(7200)
def test_twenty_kills_at_each_point_of_a_transaction(ground: Make, figures: Figures) -> None:
    shop = ground(seed=figures.seed + 1)
    figures.add(kills=kill_at_points(shop, rounds=20), **shop.settle().exact())


@pytest.mark.faults
@pytest.mark.survives(3)
@pytest.mark.timeout(1800)
def test_ten_kills_while_it_recovers(ground: Make, figures: Figures) -> None:
    shop = ground(seed=figures.seed)
    shop.feed(3_000)
    ingest = shop.run("ingest")
    shop.drain("ingest")
    assert ingest.stop() == 0
    worker = shop.run("sessionize")
    shop.await_progress("sessionize", 300)
    strike(worker)
    for _ in range(10):
        worker = shop.run("sessionize")
        time.sleep(shop.dice.uniform(0.5, 3.0))
        strike(worker)
    figures.add(kills=11, **shop.settle().exact())


@pytest.mark.faults
@pytest.mark.survives(5)
@pytest.mark.timeout(1800)
def test_a_drain_that_is_cut_short_by_a_kill(ground: Make, figures: Figures) -> None:
    shop = ground(seed=figures.seed)
    with shop.feeding(PER_SECOND):
        for _ in range(5):
            service = shop.up()
            time.sleep(shop.dice.uniform(4.0, 8.0))
            service.process.terminate()
            time.sleep(shop.dice.uniform(0.0, 1.0))
            for pid in service.children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            service.kill()
    figures.add(kills=5, **shop.settle().exact())
