"""`tidegate health`: what a container's health check is told."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import Place, wait_until


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.clean_up()


def health(place: Place) -> tuple[int, str]:
    done = place.tidegate("health")
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def test_it_follows_the_service_through_its_life(place: Place) -> None:
    assert health(place) == (1, "not ready: nothing runs on data; `tidegate up` starts it")
    service = place.up()
    assert health(place) == (0, "ready: every slot is running")
    answer = json.loads(place.tidegate("health", "--json").stdout)
    assert answer == {"ready": True, "detail": "every slot is running"}

    (worker,) = service.children()
    os.kill(worker, signal.SIGSTOP)
    code, said = health(place)
    assert code == 1
    assert said.startswith(f"not ready: supervisor (process {service.process.pid}, port ")
    assert said.endswith("): waiting for light")
    os.kill(worker, signal.SIGCONT)
    wait_until(lambda: health(place)[0] == 0, "the worker to answer again")

    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    code, said = health(place)
    assert code == 1
    assert "does not answer (" in said


def test_workers_without_a_supervisor_answer_for_themselves(place: Place) -> None:
    place.start("run", "sessionize")
    wait_until(lambda: health(place)[0] == 0, "the worker to be ready")
