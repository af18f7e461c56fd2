"""A BigQuery emulator for tests: a process that speaks the service's API over tables in memory.

Its program is made from the package index once a machine, in an environment of its own; the
launcher that it needs is beside the checkout. Where either cannot be had, tests skip and say why.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from dataflows.runtime.config import HOUSE
from services.broker.broker import free_ports
from services.child_process import end_with_parent

PROJECT = "test-project"
PACKAGES = ("bqemulator==1.4.0", "duckdb==1.5.6", "numpy==2.4.6")
START_S = 60.0

_LAUNCHER = HOUSE.parent / "shared" / "tools" / "bqemulator_launcher.py"
_REPAIRED = Path(__file__).with_name("repaired_emulator.py")


class Emulator(NamedTuple):
    """Where it answers: the URL of its REST server, and host:port of the gRPC server."""

    url: str
    storage: str


@contextmanager
def emulator(directory: Path) -> Iterator[Emulator]:
    """An emulator without datasets; gone afterwards."""
    if not _LAUNCHER.is_file():
        pytest.skip(f"needs shared/tools/{_LAUNCHER.name} beside the checkout")
    rest, grpc = free_ports(2)
    ports = ["--rest-port", str(rest), "--grpc-port", str(grpc)]
    log = directory / "emulator.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [_python(), _REPAIRED, _LAUNCHER, "start", *ports, "--project", PROJECT],
            cwd=directory,
            env={
                **os.environ,
                "BQEMU_ENABLE_FORMAT_EXTENSIONS": "false",
                "BQEMU_GCS_LOCAL_ROOT": str(directory / "gcs"),
            },
            stdout=out,
            stderr=out,
            preexec_fn=end_with_parent,
        )
    url = f"http://127.0.0.1:{rest}"
    try:
        _await(url, process, log)
        yield Emulator(url, f"127.0.0.1:{grpc}")
    finally:
        process.kill()
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    last = (log.read_text(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
    pytest.skip(f"the BigQuery emulator does not start: {last}")


def _python() -> Path:
    """The Python of the emulator's environment, made if it is not there."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate-tests"
    place = home / PACKAGES[0].replace("==", "-")
    made, python = place / "made", place / "bin" / "python"
    home.mkdir(parents=True, exist_ok=True)
    with open(home / f"{place.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        _make(place, made, python)
    return python


def _make(place: Path, made: Path, python: Path) -> None:
    if not made.is_file():
        uv = str(Path(sys.executable).with_name("uv"))
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
            [uv, "pip", "install", "--quiet", "--system-certs", "--python", str(python), *PACKAGES],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=240)
            if done.returncode:
                pytest.skip(f"needs {PACKAGES[0]} from the package index: {done.stderr[-200:]}")
        made.touch()
