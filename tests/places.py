"""A directory in which somebody uses Tidegate: commands and services as processes of their own."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from dataflows.flows.opening import open_shop
from dataflows.flows.shop import Shop
from dataflows.flows.topology import FLOWS
from dataflows.runtime.config import load_config
from services.status.slots import SlotStatus, slot_statuses

PATIENCE_S = 120.0
COMMAND = (sys.executable, "-P", "-m", "services.cli")

SMALL_DEMO = ("--days", "3", "--events", "12000")
EVENTS = ("simulate", "--events", "3000", "--days", "3", "--customers", "30")
LOUD = {"PYTHONFAULTHANDLER": "1"}  # a crash in compiled code leaves a stack in the worker's log

# One worker for all flows, any ports, and nothing that waits for long.
CONFIG = """
data_dir = "data"
[slots]
snapshot_interval = "500ms"
poll_idle = "20ms"
lease_wait = "1s"
reference_wait = "2s"
[service]
port = 0
alone = []
restart_backoff = "50ms"
heartbeat_after = "1d"
"""


class Demonstrated(NamedTuple):
    """A small demo on the embedded log that has ended: where it was, and what it said. Not to be
    changed."""

    directory: Path
    said: str


def demo(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A demo in a directory, to its end."""
    return subprocess.run(
        [*COMMAND, "--data-dir", str(directory), "demo", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TIDEGATE_SLOTS_SNAPSHOT_INTERVAL": "1s"},
        timeout=280,
    )


@contextmanager
def made_once(base: pytest.TempPathFactory, name: str) -> Iterator[tuple[Path, bool]]:
    """A directory that all processes of a test run share, and whether it has still to be filled."""
    root = base.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield root / name, not (root / name).exists()


class Place:
    """A working directory with a configuration, and the processes started in it."""

    def __init__(self, directory: Path, config: str = CONFIG):
        self.directory = directory
        self.data = directory / "data"
        self.config_file = directory / "tidegate.toml"
        self.config_file.write_text(config)
        self._running: list[Running] = []

    def configure(self, text: str) -> None:
        """Adds to the configuration."""
        self.config_file.write_text(self.config_file.read_text() + text)

    def tidegate(
        self, *arguments: str | Path, stdin: bytes | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=self.directory,
            env={**os.environ, **LOUD, **environment},
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=PATIENCE_S,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def start(self, *arguments: str, **environment: str) -> Running:
        """Starts a command that goes on."""
        return self.run([*COMMAND, *arguments], **environment)

    def run(self, command: Sequence[str], **environment: str) -> Running:
        """Starts any program that goes on."""
        running = Running(
            command,
            self.directory,
            self.directory / f"stderr.{len(self._running)}",
            {**os.environ, **LOUD, **environment},
        )
        self._running.append(running)
        return running

    def up(self, **environment: str) -> Running:
        """`tidegate up`, once every slot runs."""
        service = self.start("up", **environment)
        service.wait_for("ready: every slot is running")
        return service

    def open(self) -> Shop:
        """The shop as this process sees it; to be closed."""
        with chdir(self.directory):
            return open_shop(load_config(None, {}, {"data_dir": str(self.data)}))

    def statuses(self) -> list[SlotStatus]:
        shop = self.open()
        try:
            return slot_statuses(shop)
        finally:
            shop.log.close()

    def wait_until_drained(self, *flows: str) -> None:
        """Waits until what is in the log has gone through the flows; all, if none is named."""
        shop = self.open()

        def drained() -> bool:
            return not any(status.lag_records for status in slot_statuses(shop, flows or FLOWS))

        try:
            # FLOWS has each flow after those whose outputs it reads: once no lag is none at all.
            wait_until(drained, "the flows to catch up", every_s=0.1)
        finally:
            shop.log.close()

    def clean_up(self) -> None:
        """Ends what still runs, and tells what was said, for a test that failed."""
        for running in self._running:
            running.kill()
            print(running.stderr)
        for log in sorted(self.data.glob("logs/*.log")):
            print(log.name, log.read_text()[-4_000:])


class Running:
    """A process with its standard error in a file, at the head of a process group."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        errors: Path,
        environment: dict[str, str],
    ):
        self._errors = errors
        with open(errors, "wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=out,
                start_new_session=True,
            )

    @property
    def stderr(self) -> str:
        return self._errors.read_text()

    def wait_for(self, text: str) -> None:
        """Waits until the process has said it."""
        wait_until(lambda: text in self.stderr or self.process.poll() is not None, text)
        assert text in self.stderr, self.stderr

    def children(self) -> list[int]:
        """The pids of the processes it started."""
        pid = self.process.pid
        file = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(child) for child in file.read_text().split()] if file.exists() else []

    def stop(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def press_ctrl_c(self) -> int:
        """Its exit code after what a terminal sends: SIGINT to it and all it started."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Ends it and what it started, as far as they still run."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def wait_until(
    condition: Callable[[], bool],
    what: str,
    every_s: float = 0.02,
    patience_s: float = PATIENCE_S,
) -> None:
    give_up = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up, f"waited {patience_s:.0f} s for {what}"
        time.sleep(every_s)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def mounted(where: Path, *options: str) -> Iterator[None]:
    """A file system of the test's own, which takes root to mount."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a file system of its own")
    made = subprocess.run(["mount", *options, str(where)], capture_output=True)
    if made.returncode:
        pytest.skip(f"needs to mount a file system of its own: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(file: Path, leave: int) -> None:
    """Grows a file until so many bytes are left on its disk."""
    with open(file, "ab") as out:
        size = shutil.disk_usage(file.parent).free - leave
        while size > 0:
            try:
                out.write(b"\0" * min(size, 1 << 16))
                out.flush()
            except OSError:
                break
            size -= 1 << 16
