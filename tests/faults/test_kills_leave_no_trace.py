"""Killing any process at any time leaves the outputs of an undisturbed run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from leavings import compare, leavings

from dataflows.flows.opening import open_shop
from dataflows.flows.shop import Shop
from dataflows.runtime.config import load_config
from services.simulator.driver import publish_chunks
from services.simulator.settings import SimulationSettings
from services.simulator.simulate import simulate
from services.status.slots import slot_statuses

TIMEOUT_S = 240.0
SETTINGS = {
    "TIDEGATE_SLOTS_SNAPSHOT_INTERVAL": "500ms",
    "TIDEGATE_SLOTS_BATCH_RECORDS": "60",
    "TIDEGATE_SERVICE_PORT": "0",
    "TIDEGATE_SERVICE_RESTART_BACKOFF": "10ms",
    "TIDEGATE_SERVICE_CRASH_LOOP_RESTARTS": "1000",
    "TIDEGATE_SERVICE_HEARTBEAT_AFTER": "1d",
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose raw topics hold a week of the shop and nothing else."""
    directory = tmp_path_factory.mktemp("filled") / "data"
    shop = shop_in(directory)
    start = (datetime.now(UTC) - timedelta(days=8)).date()
    partitions = {source: shop.topology.topics[f"raw.{source}"] for source in shop.contracts}
    simulation = simulate(
        SimulationSettings(
            start=start, days=7, customers=800, target_events=140_000, partitions=partitions
        )
    )
    publish_chunks(shop.log, simulation.chunks(), None, threading.Event())
    shop.log.close()
    return directory


def shop_in(directory: Path) -> Shop:
    return open_shop(load_config(None, SETTINGS, {"data_dir": str(directory)}))


class Service:
    """`tidegate up` on a directory, started again whenever it was killed."""

    def __init__(self, directory: Path):
        self._directory = directory
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "--data-dir", str(self._directory), "up"],
            env={**os.environ, **SETTINGS},
            stderr=subprocess.PIPE,
            text=True,
        )

    def worker_pids(self) -> list[int]:
        """The supervisor's children, from the moment they are started."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(child) for child in children.read_text().split()] if children.exists() else []

    def stop(self) -> None:
        self.process.terminate()
        _, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, errors
        assert "did not drain" not in errors, errors


def run(directory: Path, kills: Iterator[tuple[float, bool]]) -> int:
    """Runs until every slot has drained, killing as told; returns how many kills hit at work."""
    service, shop, hits, lag = Service(directory), shop_in(directory), 0, 1
    give_up, drained = time.monotonic() + TIMEOUT_S, 0
    wait, kill_supervisor = next(kills, (float("inf"), False))
    due = time.monotonic() + wait
    while drained < 4 or due != float("inf"):
        assert time.monotonic() < give_up, "the flows did not catch up"
        if service.process.poll() is not None:
            service.start()
        if time.monotonic() >= due and kill(service, kill_supervisor):
            hits += lag > 0
            wait, kill_supervisor = next(kills, (float("inf"), False))
            due = time.monotonic() + wait
        time.sleep(0.1)
        lag = sum(status.lag_records for status in slot_statuses(shop))
        drained = 0 if lag else drained + 1
    service.stop()
    shop.log.close()
    return hits


def kill(service: Service, supervisor: bool) -> bool:
    """False where there is nobody to kill yet."""
    pids = [service.process.pid] if supervisor else service.worker_pids()
    if not pids:
        return False
    try:
        os.kill(random.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return False
    if supervisor:
        service.process.wait()
    return True


def outputs(directory: Path) -> dict[str, object]:
    shop = shop_in(directory)
    found = leavings(shop)
    shop.log.close()
    return found


def copy_of(filled: Path, target: Path) -> Path:
    shutil.copytree(filled, target)
    return target


@pytest.fixture(scope="module")
def undisturbed(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    directory = copy_of(filled, tmp_path_factory.mktemp("undisturbed") / "data")
    run(directory, iter(()))
    return outputs(directory)


@pytest.mark.faults
@pytest.mark.survives(1)
@pytest.mark.timeout(900)
def test_twenty_kills_of_workers_and_supervisor_change_nothing(
    filled: Path, undisturbed: dict[str, object], tmp_path: Path
) -> None:
    seed = int(os.environ.get("TIDEGATE_TEST_SEED", "20"))
    kill_series(filled, undisturbed, tmp_path, kills=20, seed=seed)


@pytest.mark.faults
@pytest.mark.survives(1)
@pytest.mark.timeout(3600)
def test_a_long_series_of_kills_changes_nothing(
    filled: Path,
    undisturbed: dict[str, object],
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    kills, seed = pytestconfig.getoption("kills"), pytestconfig.getoption("seed")
    for round_number in range(max(kills // 20, 1)):
        kill_series(
            filled, undisturbed, tmp_path / str(round_number), kills=20, seed=seed + round_number
        )


def kill_series(
    filled: Path, undisturbed: dict[str, object], target: Path, kills: int, seed: int
) -> None:
    print(f"seed {seed}")
    random.seed(seed)
    plan = [(random.uniform(0.1, 2.5), random.random() < 0.15) for _ in range(kills)]
    directory = copy_of(filled, target / "data")
    hits = run(directory, iter(plan))
    assert hits >= kills // 2, "the flows were done too early: give them more to do"
    compare(undisturbed, outputs(directory))
