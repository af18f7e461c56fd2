"""Slots move between processes and are fought over: one of them publishes, once."""

from __future__ import annotations

import os
import signal

import pytest
from faults_table import Figures
from ground import PATIENCE_S, Ground, Make, strike
from places import Running

pytestmark = pytest.mark.kafka

PER_SECOND = 150
CLICKS = "events.clickstream"


def slots(*partitions: int) -> list[str]:
    return [f"{CLICKS}/{partition}" for partition in partitions]


def zombies(shop: Ground, rounds: int) -> int:
    """Lets a worker fall asleep, another one take over elsewhere, and the first wake up; how many
    times it was turned away."""
    fenced, owner = 0, 0
    with shop.feeding(PER_SECOND):
        ingest = shop.run("ingest")
        worker = elsewhere(shop, owner)
        for _ in range(rounds):
            shop.await_progress("sessionize", shop.progress("sessionize") + 100)
            os.kill(worker.process.pid, signal.SIGSTOP)
            owner += 1
            successor = elsewhere(shop, owner)
            shop.await_progress("sessionize", shop.progress("sessionize") + 100)
            os.kill(worker.process.pid, signal.SIGCONT)
            assert worker.process.wait(PATIENCE_S) != 0
            assert "another process has taken it over" in worker.stderr, worker.stderr
            fenced += 1
            worker = successor
        assert worker.stop() == 0, worker.stderr
        assert ingest.stop() == 0, ingest.stderr
    return fenced


def elsewhere(shop: Ground, machine: int) -> Running:
    """A worker of sessionize with a data directory of its own, as on another machine."""
    return shop.place.start("--data-dir", f"machine{machine}", "run", "sessionize")


@pytest.mark.survives(9)
@pytest.mark.timeout(900)
def test_a_zombie_is_turned_away(ground: Make, figures: Figures) -> None:
    shop = ground(seed=figures.seed)
    figures.add(fenced=zombies(shop, rounds=1), **shop.settle().exact())


@pytest.mark.faults
@pytest.mark.survives(9)
@pytest.mark.timeout(3600)
def test_ten_zombies_are_turned_away(ground: Make, figures: Figures) -> None:
    shop = ground(seed=figures.seed + 1)
    figures.add(fenced=zombies(shop, rounds=10), **shop.settle().exact())


@pytest.mark.faults
@pytest.mark.survives(6, 7, 8)
@pytest.mark.timeout(900)
def test_slots_that_move_lose_a_neighbour_and_are_asked_for_twice(
    ground: Make, figures: Figures
) -> None:
    shop = ground(seed=figures.seed, clicks=4)
    with shop.feeding(PER_SECOND):
        ingest = shop.run("ingest")
        for layout in (((0, 1, 2, 3),), ((0,), (1,), (2,), (3,)), ((0, 1), (2, 3))):
            workers = [shop.run("sessionize", *slots(*partitions)) for partitions in layout]
            shop.await_progress("sessionize", shop.progress("sessionize") + 200)
            if layout != ((0, 1), (2, 3)):
                assert [worker.stop() for worker in workers] == [0] * len(layout)
        staying, dying = workers
        second = shop.run("sessionize", *slots(0))
        assert second.process.wait(PATIENCE_S) == 75
        assert f"slot sessionize.{CLICKS}.0: held by process {staying.process.pid}" in second.stderr
        strike(dying)
        shop.await_progress("sessionize", shop.progress("sessionize") + 200)
        assert staying.stop() == 0, staying.stderr
        assert ingest.stop() == 0, ingest.stderr
    figures.add(layouts="1, 4, 2", **shop.settle().exact())
