"""The sink of a slot: outputs, fates and marker of each batch in one transaction."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import bytewax.operators as op
import numpy as np
from bytewax.operators import KeyedStream
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from numpy.typing import NDArray

from dataflows.connectors.log import Marker
from dataflows.connectors.records import Output
from dataflows.runtime.fates import Fates, add_counts, count_by_day
from dataflows.runtime.slot import Slot

PROCESS = f"{socket.gethostname()}/{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Processed:
    """What a flow made of a run of records: the fate of each, and the outputs.

    A record that holds many rows has its offset and arrival for each of them, and a fate each.
    """

    offsets: NDArray[np.int64]
    arrival_us: NDArray[np.int64]
    fates: Fates
    outputs: Sequence[Output]
    watermark_us: int


def together(runs: Sequence[Processed]) -> Processed:
    """Runs of records that follow one another as a single one."""
    return Processed(
        offsets=np.concatenate([run.offsets for run in runs]),
        arrival_us=np.concatenate([run.arrival_us for run in runs]),
        fates=np.concatenate([run.fates for run in runs]),
        outputs=[output for run in runs for output in run.outputs],
        watermark_us=runs[-1].watermark_us,
    )


def publish(step_id: str, up: KeyedStream[Processed], slot: Slot) -> None:
    """Commits outputs, fates and marker of each batch in one transaction."""
    op.output(step_id, up, OneSlotSink(slot, lambda: _Publisher(slot)))


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
        self._slot.in_flight = False
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
        self._marker = advance(self._marker, processed, start, self._slot.log.contiguous)
        self._writer.commit(outputs, self._marker)
        self._slot.stats.committed(self._marker, processed.arrival_us[start:])

    def snapshot(self) -> None:
        return None


def advance(marker: Marker | None, processed: Processed, start: int, contiguous: bool) -> Marker:
    """The marker after the records of `processed` from position `start` on.

    In a `contiguous` log every offset counts as a record that must have a fate; in another one,
    those that the reader passed over hold none.
    """
    offsets = processed.offsets[start:]
    counts = count_by_day(processed.fates[start:], processed.arrival_us[start:])
    records = int(np.count_nonzero(np.diff(offsets))) + 1
    if marker is None:
        first = int(offsets[0])
        marker = Marker(seq=0, first_offset=first, next_offset=first)
    span = int(offsets[-1]) + 1 - marker.next_offset
    return Marker(
        seq=marker.seq + 1,
        first_offset=marker.first_offset,
        next_offset=int(offsets[-1]) + 1,
        watermark_us=processed.watermark_us,
        arrival_us=int(processed.arrival_us[-1]),
        counts=add_counts(marker.counts, counts),
        skipped=0 if contiguous else marker.skipped + span - records,
        more_rows=marker.more_rows + len(offsets) - records,
        by=PROCESS,
    )
