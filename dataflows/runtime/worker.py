"""A worker: a process that hosts slots as threads.

Crash-only: a slot that fails ends the process, and the restart is the recovery.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from bytewax.dataflow import Dataflow
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from dataflows.connectors.log import Log
from dataflows.errors import TidegateError
from dataflows.runtime.announcement import announce
from dataflows.runtime.config import Config
from dataflows.runtime.exits import Exit
from dataflows.runtime.health import Health, serve
from dataflows.runtime.metrics import SlotCollector
from dataflows.runtime.recovery import LeaseHeld
from dataflows.runtime.slot import Slot, run_slot
from dataflows.runtime.stats import SlotStats

POLL_S = 0.02
STUCK_S = 60.0  # a slot that did not poll for so long is not alive
SWITCH_S = 0.0005  # Python's default would let a busy slot hold up the others for 5 ms at a time
UNHURRIED = {"load"}  # flows whose lag nobody waits for: they give way when cores are short
NICENESS = 10
GC_OBJECTS = 200_000  # a batch holds tens of thousands, and none of them in a cycle
_ending = threading.Lock()


def run_worker(
    name: str,
    slots: Mapping[str, Sequence[Slot]],
    builders: Mapping[str, Callable[[Slot], Dataflow]],
    log: Log,
    config: Config,
    port: int,
) -> None:
    """Runs the slots of each flow until their stop event is set and all have drained.

    A slot that fails prints one line (and the traceback, if it is not an error made for people)
    and ends the process with an Exit code.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)
    if set(slots) <= UNHURRIED:
        os.nice(NICENESS)
    hosted = [slot for flow in slots.values() for slot in flow]
    for slot in hosted:
        slot.on_failure = _end_process
    stats = [slot.stats for slot in hosted]
    port = serve(config.service.host, port, _registry(log, stats), _health(stats))
    threads = [
        threading.Thread(target=_run, args=(slot, builders[slot.flow]), name=slot.name)
        for slot in hosted
    ]
    for thread in threads:
        thread.start()
    while not all(slot.stats.running or slot.stop.is_set() for slot in hosted):
        time.sleep(POLL_S)  # one that is refused its lease must not pass for the one that has it
    try:
        announce(config.run_path, name, os.getpid(), port, list(slots))
    except OSError as error:
        _end_process(error)
    for thread in threads:
        thread.join()


def _run(slot: Slot, build: Callable[[Slot], Dataflow]) -> None:
    try:
        run_slot(slot, build)
    except BaseException as error:
        _end_process(error)


def _end_process(error: BaseException) -> NoReturn:
    _ending.acquire()  # the first slot that fails says why
    try:
        if isinstance(error, TidegateError):
            print(f"tidegate: {error}", file=sys.stderr, flush=True)
        else:
            traceback.print_exception(error, file=sys.stderr)
            sys.stderr.flush()
    finally:
        os._exit(_exit_code(error))  # even if the disk is too full for a word


def _exit_code(error: BaseException) -> Exit:
    if isinstance(error, LeaseHeld):
        return Exit.UNAVAILABLE
    if isinstance(error, TidegateError) and not error.may_pass:
        return Exit.REFUSED
    return Exit.CRASHED


def _registry(log: Log, stats: Sequence[SlotStats]) -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(SlotCollector(log, stats))
    return registry


def _health(stats: Sequence[SlotStats]) -> Health:
    def live() -> tuple[bool, str]:
        now = time.monotonic()
        stuck = [s for s in stats if s.running and not s.stopped and now - s.polled > STUCK_S]
        return _verdict(stuck, "did not poll for a minute")

    def ready() -> tuple[bool, str]:
        return _verdict([s for s in stats if not s.running], "not started yet")

    return Health(live, ready)


def _verdict(bad: Sequence[SlotStats], why: str) -> tuple[bool, str]:
    names = ", ".join(f"{s.flow}.{s.topic}.{s.partition}" for s in bad)
    return (False, f"{names}: {why}") if bad else (True, "ok")
