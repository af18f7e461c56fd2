"""Killed at any point, asleep and taken over, or with an emulator that forgot: each row is in
BigQuery once, and what it refuses is one dead letter."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bigquery_faults import COMMIT, LOST
from faults_table import Figures
from places import CONFIG, Place, Running, wait_until
from struck_loader import POINTS
from warehouse_places import Warehouse, emulated

from dataflows.connectors.embedded import EmbeddedLog
from dataflows.connectors.records import published
from services.status.peek import peek_records

LAUNCHER = Path(__file__).with_name("struck_loader.py")
TOPIC = "events.clickstream"
SLOTS = ("--slot", f"{TOPIC}/0")
SLOT = f"load.{TOPIC}.0"
HUGE = b'"extras":{"size":1e400}'  # a number that BigQuery's JSON does not hold
SETTINGS = """
[bigquery]
dataset = "{dataset}"
commit_records = 25
"""
SMALL = {"TIDEGATE_SLOTS_BATCH_RECORDS": "20", "TIDEGATE_BUS": "sqlite:///data/log.db"}


class Loading:
    """A log that clicks come into, and workers of one slot of the load flow."""

    def __init__(self, directory: Path, warehouse: Warehouse, seed: int):
        self.place = Place(directory, CONFIG + SETTINGS.format(dataset=warehouse.dataset))
        self.place.open().log.close()
        self.dice = random.Random(seed)
        self.log = EmbeddedLog(directory / "data" / "log.db")
        self.good: list[int] = []
        self.refused: list[int] = []
        self._count = 0

    def feed(self, count: int) -> None:
        """Some more clicks, 3 % of which BigQuery will not take, and 3 % that are none."""
        values: list[bytes | None] = []
        for number in range(self._count, self._count + count):
            fate = self.dice.random()
            extra = HUGE if fate < 0.03 else b'"extras":{"size":1}'
            value = (
                b'{"event_id":"e%d","event_type":"page_view","user_id":"u","event_timestamp":%d,%s}'
                % (number, 1_780_000_000_000 + number * 60_000, extra)
            )
            values.append(b"{" if fate > 0.97 else value)
            if fate <= 0.97:
                (self.refused if fate < 0.03 else self.good).append(number)
        self.log.append([published(TOPIC, [None] * count, values, partition=0)])
        self._count += count

    def start(self, strike: str | None = None, machine: str = "data", **more: str) -> Running:
        arguments = ["--data-dir", machine, "run", "load", *SLOTS]
        if strike is None:
            return self.place.start(*arguments, **SMALL, **more)
        command = [sys.executable, str(LAUNCHER), strike, *arguments]
        return self.place.run(command, **SMALL, **more)

    @property
    def next_offset(self) -> int:
        marker = self.log.markers().get(SLOT)
        return marker.next_offset if marker else 0

    def wait_for_end_of(self, running: Running) -> None:
        """Of the log, or of the process."""
        wait_until(
            lambda: running.process.poll() is not None or self.next_offset == self._count,
            "the end",
        )

    def finish(self, running: Running) -> None:
        wait_until(lambda: self.next_offset == self._count, "the end of the log")
        assert running.stop() == 0, running.stderr

    def check(self, warehouse: Warehouse) -> dict[str, int]:
        """Every row once, and every other record one dead letter."""
        found = warehouse.rows("clickstream", "_offset", f"_topic = '{TOPIC}'")
        assert sorted(offset for (offset,) in found) == self.good
        letters = [dict(r.headers) for r in peek_records(self.log, "dlq.load", None, 0, 2**62)]
        offsets = sorted(int(letter["dlq-offset"]) for letter in letters)
        assert offsets == sorted(set(range(self._count)) - set(self.good))
        named = [int(h["dlq-offset"]) for h in letters if h["dlq-reason"] == b"refused"]
        assert sorted(named) == self.refused
        return {"rows": len(found), "refused": len(named), "broken": len(offsets) - len(named)}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with emulated(tmp_path_factory.mktemp("bigquery")) as found:
        yield found


@pytest.fixture
def warehouse(emulator: Warehouse) -> Warehouse:
    assert emulator.faults is not None
    emulator.faults.forget()
    emulator.create_tables()
    return emulator


@pytest.fixture
def loading(tmp_path: Path, warehouse: Warehouse, figures: Figures) -> Iterator[Loading]:
    made = Loading(tmp_path, warehouse, figures.seed)
    yield made
    made.place.clean_up()
    made.log.close()


def kill(loading: Loading, kills: int) -> int:
    """Kills a worker after another, each at a point and a time by the dice."""
    for number in range(kills):
        loading.feed(loading.dice.randrange(20, 90))
        point = POINTS[number % len(POINTS)]
        struck = loading.start(f"{point}:{loading.dice.randrange(1, 4)}")
        loading.wait_for_end_of(struck)
        if struck.process.poll() is None:
            loading.feed(100)
        assert struck.process.wait(60) == -signal.SIGKILL, struck.stderr
    return kills


@pytest.mark.survives(14)
@pytest.mark.timeout(600)
def test_a_worker_killed_at_each_point_of_a_commit(
    loading: Loading, warehouse: Warehouse, figures: Figures
) -> None:
    kills = kill(loading, len(POINTS))
    loading.finish(loading.start())
    figures.add(kills=kills, **loading.check(warehouse))


@pytest.mark.faults
@pytest.mark.survives(14)
@pytest.mark.timeout(3600)
def test_a_worker_killed_often_while_replies_are_lost(
    loading: Loading, warehouse: Warehouse, figures: Figures, request: pytest.FixtureRequest
) -> None:
    assert warehouse.faults is not None
    warehouse.faults.fail(COMMIT, *[LOST] * 10)
    kills = kill(loading, request.config.getoption("kills"))
    loading.finish(loading.start())
    figures.add(kills=kills, **loading.check(warehouse))


@pytest.mark.survives(9, 14)
@pytest.mark.parametrize("point", ["finalized", "before commit"])
@pytest.mark.timeout(600)
def test_a_zombie_commits_nothing_twice(
    point: str, loading: Loading, warehouse: Warehouse, figures: Figures
) -> None:
    """Asleep with rows that nobody named, or with rows that its marker names; then taken over by
    a worker that has a data directory of its own, as on another machine."""
    loading.feed(200)
    zombie = loading.start(f"{point}:3", STRUCK_BY="SIGSTOP")
    stopped = Path(f"/proc/{zombie.process.pid}/stat")
    wait_until(lambda: stopped.read_text().split()[2] == "T", "the zombie's sleep")
    successor = loading.start(machine="elsewhere")
    wait_until(lambda: loading.next_offset == 200, "the successor")
    os.kill(zombie.process.pid, signal.SIGCONT)
    assert zombie.process.wait(60) != 0
    assert "another process has taken it over" in zombie.stderr, zombie.stderr
    loading.feed(50)
    loading.finish(successor)
    figures.add(asleep=point, **loading.check(warehouse))
