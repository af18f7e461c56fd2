"""Starts the workers, restarts one that crashed with backoff, gives up loudly on a crash loop."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from dataflows.errors import TidegateError
from dataflows.runtime.config import Service
from dataflows.runtime.exits import Exit
from dataflows.runtime.signals import SUPERVISED
from services.supervisor.groups import Group

DRAIN_S = 30.0
TICK_S = 0.05


class WorkersFailed(TidegateError):
    """A worker that cannot be kept running; everything was stopped. `code` is its exit code."""

    def __init__(self, message: str, code: int = Exit.CRASHED):
        super().__init__(message)
        self.code = code


class Worker:
    """One worker process and the history of its restarts."""

    def __init__(self, group: Group, command: Sequence[str], log_file: Path, settings: Service):
        self.group = group
        self._command, self._log_file, self._settings = command, log_file, settings
        self._process: subprocess.Popen[bytes] | None = None
        self._crashes: deque[float] = deque()
        self._start_at, self._said_from = 0.0, 0
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start_when_due(self) -> None:
        if self._process is None and time.monotonic() >= self._start_at:
            with open(self._log_file, "ab") as log:
                self._said_from = log.tell()
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,  # its end tells the worker that we are gone
                    stdout=log,
                    stderr=log,
                    env={**os.environ, SUPERVISED: "1"},
                )

    def reap(self) -> int | None:
        """The exit code, if the process ended since the last call."""
        code = self._process.poll() if self._process else None
        if code is not None:
            self._process = None
        return code

    def plan_restart(self, code: int) -> float:
        """Backs off, the longer the more often it crashed of late; returns the seconds.

        Raises:
            WorkersFailed: a crash loop, or an exit that says a restart would not help.
        """
        if code == Exit.REFUSED:
            raise WorkersFailed(
                f"worker {self.group.name} refused to start: {self.last_line()}", code
            )
        now, window = time.monotonic(), self._settings.crash_loop_window.seconds
        self._crashes.append(now)
        while self._crashes[0] < now - window:
            self._crashes.popleft()
        if len(self._crashes) > self._settings.crash_loop_restarts:
            raise WorkersFailed(
                f"worker {self.group.name} crashed {len(self._crashes)} times in {window:.0f} s, "
                f"last with exit code {code}: {self.last_line()}; see {self._log_file}",
                code,
            )
        self.restarts += 1
        longest = self._settings.restart_backoff_max.seconds
        backoff = self._settings.restart_backoff.seconds * 2 ** (len(self._crashes) - 1)
        backoff = min(backoff, longest) * random.uniform(0.5, 1.0)
        self._start_at = now + backoff
        return backoff

    def last_line(self) -> str:
        """The last thing that the process said."""
        if not shutil.disk_usage(self._log_file.parent).free:
            return "the disk is full; make room"
        with open(self._log_file, encoding="utf-8", errors="replace") as log:
            log.seek(self._said_from)
            lines = log.read().strip().splitlines()
        return lines[-1].removeprefix("tidegate: ") if lines else "it said nothing"

    def stop(self) -> None:
        if self._process:
            self._process.terminate()

    def wait(self, deadline: float) -> int | None:
        """The exit code after a stop; a worker that does not drain in time is killed."""
        if self._process is None:
            return None
        try:
            return self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def tidegate(options: Sequence[str], *words: str) -> list[str]:
    """The arguments of a process that is another `tidegate`, with the same choices."""
    # -P: a folder called services in the working directory is not ours.
    return [sys.executable, "-P", "-m", "services.cli", *options, *words]


class Supervisor:
    """The workers of a data directory. `run` blocks; `workers` may be looked at meanwhile."""

    def __init__(
        self,
        groups: Sequence[Group],
        settings: Service,
        log_directory: Path,
        options: Sequence[str],
        say: Callable[[str], None],
    ):
        log_directory.mkdir(parents=True, exist_ok=True)
        self._say = say
        self.workers = [
            Worker(
                group,
                tidegate(
                    options,
                    *("run", *group.flows),
                    *("--name", group.name),
                    *("--port", str(settings.port + 1 + i if settings.port else 0)),
                ),
                log_directory / f"{group.name}.log",
                settings,
            )
            for i, group in enumerate(groups)
        ]

    def run(self, stop: threading.Event, each_tick: Callable[[], None]) -> None:
        """Keeps the workers running until `stop`, then drains them.

        Raises:
            WorkersFailed: a worker cannot be kept running, or did not drain cleanly.
        """
        try:
            while not stop.is_set():
                for worker in self.workers:
                    self._attend(worker)
                each_tick()
                stop.wait(TICK_S)
        finally:
            unclean = self._drain()
        if unclean:
            raise WorkersFailed(f"workers that did not drain cleanly, by exit code: {unclean}")

    def _attend(self, worker: Worker) -> None:
        code = worker.reap()
        if code is not None:
            backoff = worker.plan_restart(code)
            self._say(
                f"worker {worker.group.name} ended with exit code {code} "
                f"({worker.last_line()}); restart in {backoff:.1f} s"
            )
        worker.start_when_due()

    def _drain(self) -> dict[str, int | None]:
        for worker in self.workers:
            worker.stop()
        deadline = time.monotonic() + DRAIN_S
        codes = {worker.group.name: worker.wait(deadline) for worker in self.workers}
        # A worker that was only just starting dies of the signal itself: it had not begun.
        clean = (None, Exit.OK, -signal.SIGTERM)
        return {name: code for name, code in codes.items() if code not in clean}
