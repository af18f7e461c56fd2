"""`tidegate up` as a process of its own, kept running as an init system would keep it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from dataflows.errors import TidegateError
from dataflows.flows.topology import FLOWS
from dataflows.runtime.config import Config
from services.supervisor.groups import Group, group_flows
from services.supervisor.readiness import ready_workers, worker_health
from services.supervisor.supervise import DRAIN_S, Worker, WorkersFailed, tidegate

LOOK_EVERY_S = 0.1


class Service:
    """The running service of a demo. One that was killed is started again; any other end is one."""

    def __init__(self, config: Config, options: Sequence[str], note: Callable[[str], None]):
        logs = config.data_path / "logs"
        logs.mkdir(parents=True)
        self._config, self._note = config, note
        self._log_file = logs / "up.log"
        self._up = Worker(Group("up", ()), tidegate(options, "up"), self._log_file, config.service)
        self._told = 0

    def wait_until_ready(self, stop: threading.Event) -> None:
        groups = group_flows(FLOWS, self._config.service.alone)
        while not ready_workers(self._config, groups)[0]:
            if stop.wait(LOOK_EVERY_S):
                raise TidegateError("interrupted before the flows were ready")
            self.attend()

    def attend(self) -> None:
        """To be called often: starts it (again), and passes on what it says.

        Raises:
            WorkersFailed: it ended by itself, or is killed again and again.
        """
        code = self._up.reap()
        self._pass_on()
        if code is not None:
            if code >= 0:
                raise WorkersFailed(self._up.last_line(), code)
            backoff = self._up.plan_restart(code)
            self._note(f"the supervisor ended with exit code {code}; restart in {backoff:.1f} s")
        self._up.start_when_due()

    def stop(self) -> None:
        """Drains it, and waits for workers that outlive a supervisor that was killed.

        Raises:
            WorkersFailed: it did not drain cleanly.
        """
        self._up.stop()
        code = self._up.wait(time.monotonic() + 2 * DRAIN_S)
        self._pass_on()
        give_up = time.monotonic() + DRAIN_S
        while any(worker.state != "gone" for worker in worker_health(self._config)):
            if time.monotonic() > give_up:
                raise WorkersFailed("workers of a killed supervisor did not drain")
            time.sleep(LOOK_EVERY_S)
        if code is not None and code > 0:
            raise WorkersFailed(self._up.last_line(), code)

    def _pass_on(self) -> None:
        with open(self._log_file, "a+", encoding="utf-8", errors="replace") as log:
            log.seek(self._told)
            lines = log.read().splitlines()
            self._told = log.tell()
        for line in lines:
            self._note(line)
