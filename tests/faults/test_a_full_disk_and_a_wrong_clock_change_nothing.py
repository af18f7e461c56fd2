"""No room for the state, and clocks that jump: loud or unnoticed, never wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import kafka_broker
import pytest
from faults_table import Figures
from ground import LAUNCHER, PATIENCE_S, Make
from places import fill, mounted, wait_until

from dataflows.flows.topology import FLOWS

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(1800)]

PER_SECOND = 100
WENT_BACK_S = 600.0
CLOCK = Path(__file__).with_name("stepped_clock.c")
SHIFTS_S = (300, -300, 0)
AS_MUCH_AS_ONE_WORKER_CAN = 40  # events a second, of all flows


@pytest.mark.survives(22)
def test_a_disk_that_fills_up_under_load(ground: Make, figures: Figures) -> None:
    shop = ground(seed=figures.seed)
    shop.place.data.mkdir(exist_ok=True)
    with mounted(shop.place.data, "-t", "tmpfs", "-o", "size=40m", "tmpfs"):
        service = shop.up()
        with shop.feeding(PER_SECOND):
            shop.await_progress("score", 10)
            filler = shop.place.data / "filler"
            fill(filler, leave=0)
            wait_until(lambda: "disk is full" in service.stderr, "the alarm", 0.1, PATIENCE_S)
            filler.unlink()
            shop.await_progress("score", shop.progress("score") + 10)
        figures.add(**shop.settle(service).exact())
        shop.place.clean_up()


@pytest.mark.survives(19)
def test_clocks_that_jump_five_minutes_either_way(
    ground: Make, figures: Figures, tmp_path: Path
) -> None:
    """The flows' clock; that of the broker says when a record arrived, and never goes back. No slot
    stands still for as long as the clock went back."""
    shift, library = tmp_path / "shift", _compiled(CLOCK, tmp_path / "stepped_clock.so")
    _set_clock(shift, 0)
    shop = ground(seed=figures.seed)
    worker = shop.place.run(
        [sys.executable, "-P", str(LAUNCHER), "note:0", "run", *FLOWS],
        LD_PRELOAD=str(library),
        STEPPED_CLOCK=str(shift),
    )
    with shop.feeding(AS_MUCH_AS_ONE_WORKER_CAN):
        shop.await_progress("score", 10)
        for seconds in SHIFTS_S:
            _set_clock(shift, seconds)
            began = time.monotonic()
            shop.await_progress("score", shop.progress("score") + 20)
            assert time.monotonic() - began < WENT_BACK_S / 2
    assert worker.process.poll() is None, worker.stderr
    figures.add(shifts="+5 min, -5 min", **shop.settle(worker).exact())


def _compiled(source: Path, library: Path) -> Path:
    if shutil.which("cc") is None:
        kafka_broker.give_up("needs a C compiler: apt-get install gcc")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    return library


def _set_clock(shift: Path, seconds: int) -> None:
    shift.touch()
    with shift.open("r+b") as file:  # never truncated: it is mapped into memory
        file.write((seconds * 10**9).to_bytes(8, sys.byteorder, signed=True))
