"""A slot: one partition, one dataflow, one recovery directory, one lease, one writer.

    read (offset) -> stateless steps -> state -> publish (outputs and marker, atomically)

The sink stores, with the outputs, the next input offset whose outputs are not yet there. After a
crash the older snapshot replays, and what the marker already covers is dropped: exactly once, as
long as a slot is a pure function of its log.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

from dataflows.connectors.log import Log, Writer
from dataflows.errors import TidegateError
from dataflows.runtime.config import Config
from dataflows.runtime.recovery import Lease, open_recovery
from dataflows.runtime.stats import SlotStats

SNAPSHOT_VERSION = 2  # older ones are read, too
VERSION_KEY = "snapshot version"


class Refused(TidegateError):
    """A slot that must not start; starting it again would not help."""


class StateUnwritable(TidegateError):
    """The slot's state cannot be kept, so it must not go on."""

    may_pass = True


@dataclass
class Slot:
    """One partition of one flow's input, and what running it needs."""

    flow: str
    topic: str
    partition: int
    log: Log
    config: Config
    stop: threading.Event = field(default_factory=threading.Event)
    stop_at_end: bool = False  # a replay: stop at the end the log has now
    on_failure: Callable[[BaseException], NoReturn] | None = None
    stats: SlotStats = field(init=False)
    fingerprint: dict[str, Any] = field(init=False, default_factory=dict)
    writer: Writer | None = field(init=False, default=None)
    started_at: int = field(init=False, default=0)  # the offset its reader began with
    in_flight: bool = field(init=False, default=False)  # what was read has not reached the sink
    parked_at: int | None = field(init=False, default=None)  # position of a reader that went idle
    # Up to where a sink's own store is filled; asked once, so that waking costs nothing.
    written_to: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.stats = SlotStats(self.flow, self.topic, self.partition)

    @property
    def name(self) -> str:
        return f"{self.flow}.{self.topic}.{self.partition}"

    @property
    def directory(self) -> Path:
        """Its state and lease."""
        return self.config.state_path / self.name

    def fail(self, error: BaseException) -> NoReturn:
        """Ends the slot. A worker ends the process: a restart is the recovery."""
        self.stats.failure = error
        if self.on_failure is not None:
            self.on_failure(error)
        raise error


def run_slot(slot: Slot, build: Callable[[Slot], Dataflow]) -> None:
    """Runs a slot until its stop event is set (or the end, in a replay), then drains.

    When it returns, the last snapshot is durable and covers all that was published: a later start
    replays nothing. A slot that has been idle for a while is drained, too, and its dataflow built
    again when records come: many idle slots cost next to nothing. It keeps its writer meanwhile:
    with a new one it would take the slot back from a process that has taken it over.

    Raises:
        LeaseHeld: another process runs the slot.
        Fenced: another process has taken it over.
        Refused: the state does not fit the code, the configuration or the log.
        TidegateError: the log cannot be used.
    """
    lease = Lease(slot.directory, f"slot {slot.name}", slot.config.slots.lease_wait)
    try:
        slot.writer = slot.log.writer(slot.name)
        _run_dataflow(slot, build)
        while _records_came(slot):
            _run_dataflow(slot, build)
    except BaseException:
        if slot.stats.failure is not None:
            raise slot.stats.failure from None
        raise
    finally:
        if slot.writer is not None:
            slot.writer.close()
        lease.release()
    slot.stats.stopped = True


def _run_dataflow(slot: Slot, build: Callable[[Slot], Dataflow]) -> None:
    assert slot.writer is not None
    slot.parked_at = None
    slot.stats.resume(slot.writer.marker)
    flow = build(slot)
    slot.fingerprint = _fingerprint(slot, flow)
    try:
        run_main(
            flow,
            epoch_interval=timedelta(seconds=slot.config.slots.snapshot_interval.seconds),
            recovery_config=open_recovery(slot.directory),
        )
    except BaseException as error:  # a panic is no Exception
        trouble = _store_trouble(slot, error)
        if trouble is None:
            raise
        raise trouble from error


_SQLITE_IN_RUST = {
    sqlite3.SQLITE_NOTADB: "NotADatabase",
    sqlite3.SQLITE_CORRUPT: "DatabaseCorrupt",
    sqlite3.SQLITE_FULL: "DiskFull",
}


def _store_trouble(slot: Slot, error: BaseException) -> TidegateError | None:
    """What is wrong with Bytewax's store, which is an SQLite file too, in words for a person."""
    place, text = f"slot {slot.name}: its state in {slot.directory}", str(error)
    if isinstance(error, sqlite3.Error):
        text = f"SqliteFailure: {_SQLITE_IN_RUST.get(error.sqlite_errorcode, '')} {text}"
    if "NotADatabase" in text or "DatabaseCorrupt" in text:
        return Refused(
            f"{place} is damaged; restore it, or rebuild it from the log with "
            f"`tidegate reset {slot.flow}`"
        )
    if "DiskFull" in text:
        return StateUnwritable(f"{place} cannot be written: the disk is full; make room")
    if "SqliteFailure" in text or isinstance(error, OSError):
        return StateUnwritable(f"{place} cannot be written or read; check the disk ({text})")
    return None


def _records_came(slot: Slot) -> bool:
    """Waits beside a parked slot until there is something to read; False when it is to stop."""
    if slot.parked_at is None:
        return False
    while not slot.stop.wait(slot.config.slots.poll_idle.seconds):
        slot.stats.polled = time.monotonic()
        if slot.log.offsets(slot.topic, slot.partition)[1] > slot.parked_at:
            return True
    return False


def _fingerprint(slot: Slot, flow: Dataflow) -> dict[str, Any]:
    event_time = msgspec.structs.asdict(slot.config.event_time)
    return {
        VERSION_KEY: SNAPSHOT_VERSION,
        "steps": [step.step_id for step in flow.substeps],
        "partitions": slot.log.partitions(slot.topic),
        **{f"event_time.{name}": str(setting) for name, setting in event_time.items()},
    }
