"""The source of a slot: its partition's records, from the offset its snapshot names."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import KeyedStream

from dataflows.connectors.log import Reader
from dataflows.connectors.records import Records
from dataflows.runtime.handover import apart, was_resharded
from dataflows.runtime.recovery import was_reset
from dataflows.runtime.slot import VERSION_KEY, Refused, Slot

RESTED_S = 1.0  # how long without records before a slot polls less often
SOON_S = 0.001  # records come in bursts: not long after some, more are looked for this soon
# Bytewax asks the wall clock whether a source is to be called again: one that goes back by five
# minutes would halt a slot for so long. So it is always to be called, and waits by itself.
ALWAYS_DUE = datetime(1970, 1, 1, tzinfo=UTC)


def read(step_id: str, flow: Dataflow, slot: Slot, rows_a_record: int = 1) -> KeyedStream[Records]:
    """The records of the slot's partition, in offset order, from where its snapshot left off.

    Args:
        rows_a_record: how much a record may hold; of such, fewer make a batch.
    """
    return op.input(step_id, flow, _Source(slot, rows_a_record))


def records_a_batch(slot: Slot, rows_a_record: int) -> int:
    """How many records make a batch of the size that is configured."""
    return max(1, slot.config.slots.batch_records // rows_a_record)


class _Source(FixedPartitionedSource[tuple[str, Records], dict[str, Any]]):
    def __init__(self, slot: Slot, rows_a_record: int):
        self._slot, self._rows_a_record = slot, rows_a_record

    def list_parts(self) -> list[str]:
        return [self._slot.name]

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> Any:
        try:
            return _Reader(self._slot, self._start(resume_state), self._rows_a_record)
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
    def __init__(self, slot: Slot, start: int, rows_a_record: int):
        self._slot = slot
        self._published_to = slot.stats.next_offset
        slot.started_at = self._next_offset = start
        self._reader: Reader = slot.log.reader(slot.topic, slot.partition, start)
        self._batch_records = records_a_batch(slot, rows_a_record)
        self._end = slot.log.offsets(slot.topic, slot.partition)[1] if slot.stop_at_end else None
        self._full = False
        self._held: Records | None = None
        self._last_records = time.monotonic()
        self._next_poll = 0.0
        slot.stats.running = True

    def next_batch(self) -> list[tuple[str, Records]]:
        if self._slot.stop.is_set():
            raise StopIteration
        if self._end is not None and self._reader.position >= self._end:
            raise StopIteration
        if not self._rested():
            return []
        try:
            records = self._reader.read(self._batch_records)
        except Exception as error:
            self._slot.fail(error)
        self._slot.stats.polled = time.monotonic()
        if not len(records):
            self._full = False
            self._next_poll = time.monotonic() + self._pause_s()
            self._park_when_idle()
            return []
        self._full = len(records) == self._batch_records
        self._last_records = time.monotonic()
        self._next_poll = self._last_records + self._slot.config.slots.poll_busy.seconds
        self._slot.in_flight = True
        batches = [records]
        if records.headers is None and self._held is None:
            self._next_offset = int(records.offsets[-1]) + 1
        else:
            batches = self._apart(records)
        return [(self._slot.name, part) for batch in batches for part in self._divided(batch)]

    def _divided(self, batch: Records) -> list[Records]:
        """What was published before the start apart from what was not: an output made of several
        records is then there or not, never in part."""
        row = int(np.searchsorted(batch.offsets, self._published_to or 0))
        if not 0 < row < len(batch):
            return [batch]
        return [batch.slice(0, row), batch.slice(row, len(batch))]

    def _apart(self, records: Records) -> list[Records]:
        """Batches with each state that is handed over on its own; half of one waits."""
        if self._held is not None:
            records = Records.concat([self._held, records])
        batches, self._held = apart(records)
        if batches:
            self._next_offset = int(batches[-1].offsets[-1]) + 1
        return batches

    def _park_when_idle(self) -> None:
        slot = self._slot
        idle = time.monotonic() - self._last_records
        if self._end is None and idle > slot.config.slots.park_after.seconds:
            slot.parked_at = self._reader.position
            raise StopIteration

    def _rested(self) -> bool:
        """Waits until the next poll is due; not while the steps after this one have work to do."""
        left = self._next_poll - time.monotonic()
        if self._full or self._end is not None or left <= 0:
            return True
        if self._slot.in_flight:
            return False
        if self._slot.stop.wait(left):
            raise StopIteration
        return True

    def _pause_s(self) -> float:
        slots = self._slot.config.slots
        idle, busy = time.monotonic() - self._last_records, slots.poll_busy.seconds
        if idle <= RESTED_S:
            return min(max(idle / 4, SOON_S), busy)
        return min(busy * idle / RESTED_S, slots.poll_idle.seconds)

    def next_awake(self) -> datetime:
        return ALWAYS_DUE

    def snapshot(self) -> dict[str, Any]:
        slot = self._slot
        return {"offset": self._next_offset, "fingerprint": slot.fingerprint}

    def close(self) -> None:
        self._reader.close()


def _check_fingerprint(slot: Slot, stored: dict[str, Any]) -> None:
    version, known = stored.get(VERSION_KEY, 0), slot.fingerprint[VERSION_KEY]
    if version > known:
        raise Refused(
            f"slot {slot.name}: its state was written with {VERSION_KEY} {version}, this code "
            f"reads up to {known}; start the version of Tidegate that wrote it, or rebuild the "
            f"state from the log with `tidegate reset {slot.flow}`"
        )
    for what, now in slot.fingerprint.items():
        if what == "partitions" and was_resharded(slot.log, slot.topic, now):
            continue
        if what != VERSION_KEY and stored.get(what) != now:
            raise Refused(
                f"slot {slot.name}: its state was written with {what} = {stored.get(what)}, this "
                f"is {now}; go back to the former, or rebuild the state from the log with "
                f"`tidegate reset {slot.flow}`"
            )
