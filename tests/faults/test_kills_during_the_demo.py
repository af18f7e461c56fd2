"""Killing workers and supervisor while the demo runs: it adds up all the same, and to the same."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from leavings import compare, leavings

from dataflows.flows.opening import open_shop
from dataflows.flows.payments import with_names
from dataflows.runtime.config import load_config
from services.status.peek import Record, peek_records

TIMEOUT_S = 600.0
SETTINGS = {
    "TIDEGATE_SLOTS_SNAPSHOT_INTERVAL": "500ms",
    "TIDEGATE_SLOTS_BATCH_RECORDS": "200",
    "TIDEGATE_SERVICE_RESTART_BACKOFF": "10ms",
    "TIDEGATE_SERVICE_CRASH_LOOP_RESTARTS": "1000",
    "TIDEGATE_SERVICE_HEARTBEAT_AFTER": "1d",
}
PAYMENTS = "what was looked up for each payment"
ID = re.compile('"transaction_id": "([^"]*)"')
# How long a demo publishes, for each kill: whoever is to be killed has to be started again first,
# which takes a busy machine seconds.
SECONDS_A_KILL = 3.0

# What differs between any two demos: when a record arrived; how far ahead of that an event of the
# far future is; and what ingest had seen of catalogue and profiles when it looked something up.
ARRIVAL = ("arrived_at", "dlq-arrival", "late-arrival")
LOOKED_UP = ("product", "customer", "customer_country", "customer_segment")
FROM_THE_FUTURE = ("dlq-reason", b"future_timestamp")
MAY_DIFFER = 0.05  # share of payments


class Demo:
    """`tidegate demo` as a process of its own."""

    def __init__(self, directory: Path, arguments: Sequence[str]):
        self.directory = directory
        self._said = directory / "said"
        directory.mkdir(parents=True)
        with open(self._said, "wb") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "services.cli"),
                    *("--data-dir", str(directory), "demo", *arguments),
                ],
                env={**os.environ, **SETTINGS},
                stdout=out,
                stderr=out,
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    def publishes(self) -> bool:
        return "publishing" in self.said and "checking and reporting" not in self.said

    def supervisor(self) -> list[int]:
        return children(self.process.pid)

    def workers(self) -> list[int]:
        return [worker for pid in self.supervisor() for worker in children(pid)]

    def leavings(self) -> dict[str, object]:
        data = self.directory / "demo"
        shop = open_shop(load_config(None, SETTINGS, {"data_dir": str(data)}))
        found = leavings(shop, view)
        found[PAYMENTS] = {
            fields["transaction_id"]: [fields.get(name) for name in LOOKED_UP]
            for record in peek_records(shop.log, "scoring.requests", None, 0, 2**62)
            for payment in with_names(record.value or b"")
            if (fields := json_object(payment))
        }
        shop.log.close()
        return found


def children(pid: int) -> list[int]:
    file = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(child) for child in file.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def json_object(value: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(value or b"")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def view(record: Record) -> object:
    """The record without what differs between any two demos."""
    left_out = {*ARRIVAL, *LOOKED_UP}
    if FROM_THE_FUTURE in record.headers:
        left_out |= {"event_timestamp", "dlq-message"}
    headers = tuple(header for header in record.headers if header[0] not in left_out)
    value: object = record.value
    if fields := json_object(record.value):
        value = json.dumps({k: v for k, v in fields.items() if k not in left_out})
    return record.partition, record.key, value, headers


def compare_demos(undisturbed: dict[str, Any], disturbed: dict[str, Any]) -> None:
    """Scores and alerts of payments with other looked-up fields are left out; those are few."""
    one, other = (found.pop(PAYMENTS) for found in (undisturbed, disturbed))
    differ = {payment for payment, seen in one.items() if other.get(payment) != seen}
    assert len(differ) < MAY_DIFFER * len(one)
    for topic in ("scores", "alerts"):
        for found in (undisturbed, disturbed):
            found[topic] = [r for r in found[topic] if not set(ID.findall(str(r[2]))) & differ]
    assert undisturbed["alerts"]
    compare(undisturbed, disturbed)


def run(directory: Path, arguments: Sequence[str], kills: Iterator[tuple[float, bool]]) -> Demo:
    """Runs a demo to its end, which must be good, killing as told while it publishes."""
    demo = Demo(directory, arguments)
    hits, wanted = 0, 0
    give_up = time.monotonic() + TIMEOUT_S
    try:
        while demo.process.poll() is None and not demo.publishes():
            time.sleep(0.05)
        for wait, supervisor in kills:
            time.sleep(wait)
            wanted += 1
            hits += demo.publishes() and kill(demo, supervisor)
        demo.process.wait(give_up - time.monotonic())
    finally:
        demo.process.kill()
    assert demo.process.returncode == 0, demo.said
    assert "It adds up" in demo.said
    assert hits == wanted, f"{hits} of {wanted} kills hit the demo at work: slow it down"
    return demo


def kill(demo: Demo, supervisor: bool) -> bool:
    """Kills one; between two lives there is nobody to kill for a moment."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and demo.process.poll() is None:
        try:
            if pids := demo.supervisor() if supervisor else demo.workers():
                os.kill(random.choice(pids), signal.SIGKILL)
                return True
        except ProcessLookupError:
            continue
        time.sleep(0.02)
    return False


def kill_series(where: Path, days: int, events: int, kills: int, seed: int) -> None:
    print(f"seed {seed}")
    rate = int(events / kills / SECONDS_A_KILL)
    random.seed(seed)
    span = (0.2, 1.2)
    plan = [(random.uniform(*span), random.random() < 0.2) for _ in range(kills)]
    plan[kills // 2] = (plan[kills // 2][0], True)  # at any seed, one of the supervisor
    chosen = ("--days", str(days), "--events", str(events), "--seed", str(seed))
    disturbed = run(where / "disturbed", (*chosen, "--rate", str(rate)), iter(plan))
    assert disturbed.said.count("the supervisor ended with exit code -9")
    assert disturbed.said.count("ended with exit code -9") >= kills // 2
    compare_demos(run(where / "undisturbed", chosen, iter(())).leavings(), disturbed.leavings())


@pytest.mark.survives(1)
def test_twenty_kills_during_a_small_demo_change_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("TIDEGATE_TEST_SEED", "20"))
    kill_series(tmp_path, days=3, events=12_000, kills=20, seed=seed)


@pytest.mark.faults
@pytest.mark.survives(1)
@pytest.mark.timeout(1800)
def test_kills_during_the_whole_demo_change_nothing(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    kill_series(tmp_path, days=30, events=320_000, kills=60, seed=pytestconfig.getoption("seed"))
