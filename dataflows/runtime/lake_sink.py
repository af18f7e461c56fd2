"""The sink of a slot that fills the lake: rows into Parquet, rejections and marker into the log.

Two stores, each with its own next offset, so neither gets anything twice. Rows wait in memory for
a file worth writing, at most until the next snapshot: a snapshot never covers what is not on disk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from bytewax.operators import KeyedStream, output
from bytewax.outputs import StatefulSinkPartition

from dataflows.connectors.lake import LakeWriter
from dataflows.runtime.sink import OneSlotSink, Processed, advance, together
from dataflows.runtime.slot import Refused, Slot
from dataflows.runtime.tabulated import Tabulated


def write_lake(step_id: str, up: KeyedStream[Tabulated], slot: Slot, table: str) -> None:
    """Writes each record once, in files by event date, and merges small files as they come up."""
    output(step_id, up, OneSlotSink(slot, lambda: _LakePart(slot, table)))


class _LakePart(StatefulSinkPartition[Tabulated, None]):
    def __init__(self, slot: Slot, table: str):
        assert slot.writer is not None
        self._slot, self._writer = slot, slot.writer
        self._marker = self._writer.marker
        self._settings = slot.config.lake
        self._lake = LakeWriter(
            slot.config.lake_path,
            table,
            f"{slot.topic}.{slot.partition}",
            small_records=self._settings.compact_below_records,
        )
        self._waiting: list[Tabulated] = []
        self._records = 0

    def write_batch(self, values: list[Tabulated]) -> None:
        self._slot.in_flight = False
        self._waiting += values
        self._records += sum(len(value.processed.offsets) for value in values)
        if self._records >= self._settings.file_records:
            self._flush()

    def snapshot(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        try:
            self._write(self._waiting)
            self._lake.compact(self._settings.compact_files)
            self._commit(together([value.processed for value in self._waiting]))
        except Exception as error:
            self._slot.fail(error)
        self._waiting, self._records = [], 0

    def _write(self, waiting: Sequence[Tabulated]) -> None:
        written_to = self._lake.next_offset or 0
        self._refuse_a_hole(written_to)
        next_offset = int(waiting[-1].processed.offsets[-1]) + 1
        if next_offset <= written_to:
            return
        offsets = np.concatenate([value.offsets for value in waiting])
        fresh = offsets >= written_to
        rows = pa.concat_tables([value.table for value in waiting]).filter(pa.array(fresh))
        dates = np.concatenate([value.dates for value in waiting])[fresh]
        start = max(written_to, int(waiting[0].processed.offsets[0]))
        self._lake.write(rows, dates, start, next_offset)

    def _refuse_a_hole(self, written_to: int) -> None:
        """A lake that was removed, or replaced by an older one, lacks what is not read again."""
        slot = self._slot
        low, _ = slot.log.offsets(slot.topic, slot.partition)
        if slot.started_at > max(written_to, low):
            raise Refused(
                f"slot {slot.name}: the lake in {slot.config.lake_path} holds its records up to "
                f"offset {written_to} only, and its state is at {slot.started_at}; restore the "
                "lake, or load it again with `tidegate reset load`"
            )

    def _commit(self, processed: Processed) -> None:
        published_to = self._marker.next_offset if self._marker else 0
        start = int(np.searchsorted(processed.offsets, published_to))
        if start == len(processed.offsets):
            return
        self._marker = advance(self._marker, processed, start, self._slot.log.contiguous)
        fresh = [output.caused_from(published_to) for output in processed.outputs]
        self._writer.commit([output for output in fresh if len(output)], self._marker)
        self._slot.stats.committed(self._marker, processed.arrival_us[start:])
