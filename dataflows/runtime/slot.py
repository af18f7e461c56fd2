"""A slot: one partition, one dataflow, one recovery directory, one lease, one writer.

    read (offset) -> stateless steps -> state -> publish (outputs and marker, atomically)

The sink stores, with the outputs, the next input offset whose outputs are not yet there. After a
crash the older snapshot replays, and what the marker already covers is dropped: exactly once, as
long as a slot is a pure function of its log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import bytewax.operators as op
import msgspec
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import KeyedStream, StatefulBatchLogic
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.testing import run_main
from numpy.typing import NDArray

from dataflows.connectors.log import Log, Marker, Reader, Writer
from dataflows.connectors.records import Output, Records
from dataflows.errors import TidegateError
from dataflows.runtime.config import Config
from dataflows.runtime.fates import Fates, add_counts, count_by_day
from dataflows.runtime.recovery import Lease, open_recovery, was_reset
from dataflows.runtime.stats import SlotStats

SNAPSHOT_VERSION = 1
RESTED_S = 1.0  # how long without records before a slot polls less often

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class Refused(TidegateError):
    """A slot that must not start; starting it again would not help."""


@dataclass(frozen=True, slots=True)
class Processed:
    """What a flow made of a run of records: the fate of each, and the outputs."""

    offsets: NDArray[np.int64]
    arrival_us: NDArray[np.int64]
    fates: Fates
    outputs: Sequence[Output]
    watermark_us: int


class State(Protocol[In, Out]):
    """The state of one slot. A pure function of the records it has seen."""

    def process(self, batch: In) -> Out: ...

    def snapshot(self) -> bytes: ...


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
    # What outputs depend on beside the log; a flow names it, so that a replay after a crash is
    # refused when it has changed (after a clean stop nothing is replayed, and it may change).
    replay_with: dict[str, str] = field(init=False, default_factory=dict)
    writer: Writer | None = field(init=False, default=None)
    parked_at: int | None = field(init=False, default=None)  # position of a reader that went idle

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
    again when records come: many idle slots cost next to nothing.

    Raises:
        LeaseHeld: another process runs the slot.
        Refused: the state does not fit the code, the configuration or the log.
        TidegateError: the log cannot be used.
    """
    lease = Lease(slot.directory, f"slot {slot.name}", slot.config.slots.lease_wait)
    try:
        _run_dataflow(slot, build)
        while _records_came(slot):
            _run_dataflow(slot, build)
    except BaseException:
        if slot.stats.failure is not None:
            raise slot.stats.failure from None
        raise
    finally:
        lease.release()
    slot.stats.stopped = True


def _run_dataflow(slot: Slot, build: Callable[[Slot], Dataflow]) -> None:
    slot.parked_at = None
    slot.writer = slot.log.writer(slot.name)
    slot.stats.resume(slot.writer.marker)
    flow = build(slot)
    slot.fingerprint = _fingerprint(slot, flow)
    run_main(
        flow,
        epoch_interval=timedelta(seconds=slot.config.slots.snapshot_interval.seconds),
        recovery_config=open_recovery(slot.directory),
    )


def _records_came(slot: Slot) -> bool:
    """Waits beside a parked slot until there is something to read; False when it is to stop."""
    if slot.parked_at is None:
        return False
    while not slot.stop.wait(slot.config.slots.poll_idle.seconds):
        slot.stats.polled = time.monotonic()
        if slot.log.offsets(slot.topic, slot.partition)[1] > slot.parked_at:
            return True
    return False


def read(step_id: str, flow: Dataflow, slot: Slot) -> KeyedStream[Records]:
    """The records of the slot's partition, in offset order, from where its snapshot left off."""
    return op.input(step_id, flow, _Source(slot))


def keep_state(
    step_id: str,
    up: KeyedStream[In],
    slot: Slot,
    restore: Callable[[bytes | None], State[In, Out]],
) -> KeyedStream[Out]:
    """Runs each batch through the slot's state, which is snapshotted as bytes."""
    return op.stateful_batch(step_id, up, lambda resume: _Logic(slot, restore, resume))


def publish(step_id: str, up: KeyedStream[Processed], slot: Slot) -> None:
    """Commits outputs, fates and marker of each batch in one transaction."""
    op.output(step_id, up, OneSlotSink(slot, lambda: _Publisher(slot)))


# --- source -------------------------------------------------------------------------------------


class _Source(FixedPartitionedSource[tuple[str, Records], dict[str, Any]]):
    def __init__(self, slot: Slot):
        self._slot = slot

    def list_parts(self) -> list[str]:
        return [self._slot.name]

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> Any:
        try:
            return _Reader(self._slot, self._start(resume_state))
        except Exception as error:
            self._slot.fail(error)

    def _start(self, resume: dict[str, Any] | None) -> int:
        slot = self._slot
        low, high = slot.log.offsets(slot.topic, slot.partition)
        published_to = slot.stats.next_offset
        if resume is None:
            return self._rebuild_from(low)
        _check_fingerprint(slot, resume["fingerprint"])
        start = int(resume["offset"])
        if start < low:
            raise Refused(
                f"slot {slot.name}: retention removed offsets {start}..{low - 1} before it read "
                f"them; restore the log, or accept the gap with `tidegate reset {slot.flow}`"
            )
        # A snapshot never covers what is not published.
        if start > (low if published_to is None else published_to):
            raise Refused(
                f"slot {slot.name}: its state ends at offset {start}, but the log holds "
                f"{low}..{high} and knows of nothing published after offset {published_to or low}: "
                "it is another log, or an older copy; restore the log, or start over on this one "
                f"with `tidegate reset {slot.flow}`"
            )
        if start < (published_to or 0):
            _check_replay(slot, resume["replay_with"])
        return start

    def _rebuild_from(self, low: int) -> int:
        """Where to begin without state: where the slot began, or where the log now does."""
        slot = self._slot
        if slot.stats.next_offset is None:
            return low
        first = slot.stats.first_offset
        if first < low and not was_reset(slot.directory):
            raise Refused(
                f"slot {slot.name}: its state is gone and the log no longer holds offsets "
                f"{first}..{low - 1} to rebuild it from; restore {slot.directory}, or rebuild from "
                f"what there is with `tidegate reset {slot.flow}`"
            )
        return max(first, low)


class _Reader(StatefulSourcePartition[tuple[str, Records], dict[str, Any]]):
    def __init__(self, slot: Slot, start: int):
        self._slot = slot
        self._next_offset = start
        self._reader: Reader = slot.log.reader(slot.topic, slot.partition, start)
        self._batch_records = slot.config.slots.batch_records
        self._end = slot.log.offsets(slot.topic, slot.partition)[1] if slot.stop_at_end else None
        self._full = False
        self._last_records = time.monotonic()
        slot.stats.running = True

    def next_batch(self) -> list[tuple[str, Records]]:
        if self._slot.stop.is_set():
            raise StopIteration
        if self._end is not None and self._reader.position >= self._end:
            raise StopIteration
        try:
            records = self._reader.read(self._batch_records)
        except Exception as error:
            self._slot.fail(error)
        self._slot.stats.polled = time.monotonic()
        if not len(records):
            self._full = False
            self._park_when_idle()
            return []
        self._full = len(records) == self._batch_records
        self._last_records = time.monotonic()
        self._next_offset = int(records.offsets[-1]) + 1
        return [(self._slot.name, records)]

    def _park_when_idle(self) -> None:
        slot = self._slot
        idle = time.monotonic() - self._last_records
        if self._end is None and idle > slot.config.slots.park_after.seconds:
            slot.parked_at = self._reader.position
            raise StopIteration

    def next_awake(self) -> datetime | None:
        if self._full or self._end is not None:
            return None
        slots = self._slot.config.slots
        idle = time.monotonic() - self._last_records
        rest = slots.poll_busy.seconds
        if idle > RESTED_S:
            rest = min(rest * idle / RESTED_S, slots.poll_idle.seconds)
        return datetime.now(UTC) + timedelta(seconds=rest)

    def snapshot(self) -> dict[str, Any]:
        slot = self._slot
        return {
            "offset": self._next_offset,
            "fingerprint": slot.fingerprint,
            "replay_with": slot.replay_with,
        }

    def close(self) -> None:
        self._reader.close()


# --- state --------------------------------------------------------------------------------------


class _Logic(StatefulBatchLogic[Any, Any, bytes]):
    def __init__(
        self,
        slot: Slot,
        restore: Callable[[bytes | None], State[Any, Any]],
        resume: bytes | None,
    ):
        self._slot = slot
        try:
            self._state = restore(resume)
        except Exception as error:
            slot.fail(error)

    def on_batch(self, values: list[Any]) -> tuple[list[Any], bool]:
        try:
            return [self._state.process(value) for value in values], self.RETAIN
        except Exception as error:
            self._slot.fail(error)

    def on_eof(self) -> tuple[list[Any], bool]:
        return [], self.RETAIN  # the end of a run is not the end of the data

    def snapshot(self) -> bytes:
        started = time.monotonic()
        try:
            blob = self._state.snapshot()
        except Exception as error:
            self._slot.fail(error)
        self._slot.stats.snapshotted(len(blob), time.monotonic() - started)
        return blob


# --- sink ---------------------------------------------------------------------------------------


class OneSlotSink(FixedPartitionedSink[Any, Any]):
    """A sink whose only partition is the slot, built by `make_part`."""

    def __init__(self, slot: Slot, make_part: Callable[[], StatefulSinkPartition[Any, Any]]):
        self._slot, self._make_part = slot, make_part

    def list_parts(self) -> list[str]:
        return [self._slot.name]

    def part_fn(self, item_key: str) -> int:
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> Any:
        try:
            return self._make_part()
        except Exception as error:
            self._slot.fail(error)


class _Publisher(StatefulSinkPartition[Processed, None]):
    def __init__(self, slot: Slot):
        assert slot.writer is not None
        self._slot, self._writer = slot, slot.writer
        self._marker = self._writer.marker

    def write_batch(self, values: list[Processed]) -> None:
        try:
            for processed in values:
                self._commit(processed)
        except Exception as error:
            self._slot.fail(error)

    def _commit(self, processed: Processed) -> None:
        published_to = self._marker.next_offset if self._marker else 0
        start = int(np.searchsorted(processed.offsets, published_to))
        if start == len(processed.offsets):
            return  # a replay of what was published before the crash
        outputs = [
            fresh for output in processed.outputs if len(fresh := output.caused_from(published_to))
        ]
        self._marker = advance(self._marker, processed, start)
        self._writer.commit(outputs, self._marker)
        self._slot.stats.committed(self._marker, processed.arrival_us[start:])

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._writer.close()


def advance(marker: Marker | None, processed: Processed, start: int) -> Marker:
    """The marker after the records of `processed` from position `start` on."""
    counts = count_by_day(processed.fates[start:], processed.arrival_us[start:])
    if marker is None:
        marker = Marker(seq=0, first_offset=int(processed.offsets[start]), next_offset=0)
    return Marker(
        seq=marker.seq + 1,
        first_offset=marker.first_offset,
        next_offset=int(processed.offsets[-1]) + 1,
        watermark_us=processed.watermark_us,
        arrival_us=int(processed.arrival_us[-1]),
        counts=add_counts(marker.counts, counts),
    )


# --- fingerprint --------------------------------------------------------------------------------


def _fingerprint(slot: Slot, flow: Dataflow) -> dict[str, Any]:
    return {
        "snapshot version": SNAPSHOT_VERSION,
        "steps": [step.step_id for step in flow.substeps],
        "partitions": slot.log.topics()[slot.topic].partitions,
        "event time": msgspec.to_builtins(slot.config.event_time, enc_hook=int),
    }


def _check_fingerprint(slot: Slot, stored: dict[str, Any]) -> None:
    for what, now in slot.fingerprint.items():
        if stored.get(what) != now:
            raise Refused(
                f"slot {slot.name}: its state was written with {what} = {stored.get(what)}, this "
                f"is {now}; go back to the former, or rebuild the state from the log with "
                f"`tidegate reset {slot.flow}`"
            )


def _check_replay(slot: Slot, stored: dict[str, str]) -> None:
    for what, now in slot.replay_with.items():
        if stored.get(what) != now:
            raise Refused(
                f"slot {slot.name}: it did not stop cleanly, and what it must replay was made with "
                f"{what} {stored.get(what)}, this is {now}; start once with the former, stop it "
                "with SIGTERM, then change"
            )
