"""SIGTERM under load: exit code 0, and the next start begins right behind what was published."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults_table import Figures
from ground import Ground, Make

pytestmark = pytest.mark.kafka

PER_SECOND = 150
TOPIC = "events.clickstream"


def drains(shop: Ground, rounds: int) -> int:
    """Stops a worker under load so many times; how many records were read twice in all."""
    notes, replayed = shop.place.directory / "notes", 0
    with shop.feeding(PER_SECOND):
        ingest = shop.run("ingest")
        for _ in range(rounds):
            notes.unlink(missing_ok=True)
            published = positions(shop)
            worker = shop.run_struck("note:0", "sessionize", STRUCK_NOTES=str(notes))
            shop.await_progress("sessionize", sum(published.values()) + shop.dice.randint(20, 200))
            assert worker.stop() == 0, worker.stderr
            begun = first_offsets(notes)
            assert begun.keys() == published.keys()
            replayed += sum(published[partition] - at for partition, at in begun.items())
        assert ingest.stop() == 0, ingest.stderr
    return replayed


def positions(shop: Ground) -> dict[int, int]:
    return {status.partition: status.offset for status in shop.statuses("sessionize")}


def first_offsets(notes: Path) -> dict[int, int]:
    """Where the readers of a worker began; a slot that rests for a while begins again."""
    begun: dict[int, int] = {}
    for line in notes.read_text().splitlines():
        topic, partition, offset = line.split()
        if topic == TOPIC:
            begun.setdefault(int(partition), int(offset))
    return begun


@pytest.mark.faults
@pytest.mark.survives(4)
@pytest.mark.timeout(900)
def test_stopped_under_load(ground: Make, figures: Figures) -> None:
    shop = ground(seed=figures.seed)
    replayed = drains(shop, rounds=3)
    assert replayed == 0
    figures.add(stops=3, replayed=replayed, **shop.settle().exact())


@pytest.mark.faults
@pytest.mark.survives(4)
@pytest.mark.timeout(3600)
def test_stopped_under_load_fifty_times(ground: Make, figures: Figures) -> None:
    shop = ground(seed=figures.seed + 1)
    replayed = drains(shop, rounds=50)
    assert replayed == 0
    figures.add(stops=50, replayed=replayed, **shop.settle().exact())
