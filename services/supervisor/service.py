"""`tidegate up`: the supervisor, its lease on the data directory, heartbeats and retention."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence

from dataflows.connectors.log import LogError, LogUnreachable
from dataflows.durations import Duration
from dataflows.errors import TidegateError
from dataflows.flows.shop import Shop
from dataflows.flows.topology import FLOWS
from dataflows.runtime.announcement import announce
from dataflows.runtime.health import Health, serve
from dataflows.runtime.recovery import Lease
from services.reshard.reshard import refuse_unfinished
from services.supervisor.groups import group_flows
from services.supervisor.heartbeats import HeartbeatWriter
from services.supervisor.metrics import registry
from services.supervisor.readiness import SUPERVISOR, forget_workers, ready_workers
from services.supervisor.supervise import Supervisor

RETENTION_EVERY_S = 60.0
READINESS_EVERY_S = 0.25
LEASE_WAIT = Duration.parse("500ms")  # a supervisor that was killed holds nothing


def run_service(
    shop: Shop,
    stop: threading.Event,
    options: Sequence[str],
    say: Callable[[str], None],
    flows: Sequence[str] = FLOWS,
    port: int | None = None,
) -> None:
    """Runs every flow until `stop`, then drains.

    Raises:
        TidegateError: arrival times of raw topics are not the log's.
        LeaseHeld: another supervisor runs on this data directory.
        WorkersFailed: a worker cannot be kept running.
    """
    config = shop.config
    refuse_unfinished(shop.log)
    _require_own_arrival_times(shop, say)
    lease = Lease(config.data_path, f"data directory {config.data_path}", LEASE_WAIT)
    try:
        forget_workers(config)
        groups = group_flows(flows, config.service.alone)
        settings = config.service
        supervisor = Supervisor(groups, settings, config.data_path / "logs", options, say)
        health = Health(lambda: (True, "ok"), lambda: ready_workers(config, groups))
        port = serve(settings.host, settings.port, registry(supervisor.workers), health)
        announce(config.run_path, SUPERVISOR, os.getpid(), port, list(flows))
        say(
            f"starting {len(groups)} workers on {config.bus_url}; http://{settings.host}:{port}/readyz"
        )
        chores = _Chores(shop, groups_ready=lambda: ready_workers(config, groups)[0], say=say)
        supervisor.run(stop, chores.tick)
        say("stopped cleanly")
    finally:
        forget_workers(config)
        lease.release()


def _require_own_arrival_times(shop: Shop, say: Callable[[str], None]) -> None:
    raw = [topic for topic in shop.topology.topics if topic.startswith("raw.")]
    try:
        claimed = shop.log.clients_set_arrival(raw)
    except LogError as error:
        say(f"cannot check who sets arrival times: {error}")
        return
    if claimed:
        raise TidegateError(
            f"{shop.config.bus_url}: {', '.join(claimed)}: records arrive when their client says, "
            "so that one wrong clock would decide what is late or in the future; have the broker "
            "say it (message.timestamp.type=LogAppendTime) with `tidegate topics apply`"
        )


class _Chores:
    """What the supervisor does besides watching workers."""

    def __init__(self, shop: Shop, groups_ready: Callable[[], bool], say: Callable[[str], None]):
        self._shop, self._groups_ready, self._say = shop, groups_ready, say
        topics = shop.topology.topics
        raw = {name: count for name, count in topics.items() if name.startswith("raw.")}
        self._heartbeats = HeartbeatWriter(shop.log, shop.config, raw)
        self._retention_at = time.monotonic() + RETENTION_EVERY_S
        self._ask_ready_at: float | None = 0.0
        self._reachable = True

    def tick(self) -> None:
        self._beat()
        now = time.monotonic()
        if self._ask_ready_at is not None and now >= self._ask_ready_at:
            self._ask_ready_at = now + READINESS_EVERY_S
            if self._groups_ready():
                self._ask_ready_at = None
                self._say("ready: every slot is running; `tidegate status` shows them")
        if now >= self._retention_at:
            self._retention_at = now + RETENTION_EVERY_S
            self._shop.log.apply_retention(time.time_ns() // 1_000, self._shop.topology.keep_s)

    def _beat(self) -> None:
        """An outage of the log is waited for: it is not this process that can end it."""
        try:
            self._heartbeats.tick()
        except LogUnreachable as error:
            if self._reachable:
                self._say(f"{error}; waiting for it")
            self._reachable = False
        else:
            if not self._reachable:
                self._say("the log answers again")
            self._reachable = True
