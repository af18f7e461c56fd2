"""The sink of a slot that fills a table of BigQuery: rows there, rejections and marker in the log.

    prepare rows in BigQuery -> marker and dead letters into the log -> commit rows in BigQuery

Two phases, with the log as coordinator: the marker names what is prepared, and only the owner of
the slot can write one. Who comes after a crash, or takes the slot over from a process that stands
still, commits what the marker names before anything else; a late commit of the former owner is then
the second of the same rows, which BigQuery refuses, and its next marker is fenced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec
import numpy as np
import pyarrow as pa
from bytewax.operators import KeyedStream, output
from bytewax.outputs import StatefulSinkPartition

from dataflows.connectors.bigquery import BigQueryTable, Preparation
from dataflows.connectors.bigquery_client import BigQueryUnavailable
from dataflows.connectors.log import Prepared
from dataflows.connectors.records import Output, Records
from dataflows.runtime import fates
from dataflows.runtime.sink import OneSlotSink, Processed, advance, together
from dataflows.runtime.slot import Refused, Slot
from dataflows.runtime.tabulated import Tabulated

Reject = Callable[[Records, Mapping[int, str]], Output]
"""Dead letters of the records at some places of a batch, and why they were refused."""

_NOTHING = Preparation(None, {})


def write_bigquery(
    step_id: str, up: KeyedStream[Tabulated], slot: Slot, table: str, reject: Reject
) -> None:
    """Writes each record once; what BigQuery refuses goes to the dead letters with its words."""
    output(step_id, up, OneSlotSink(slot, lambda: _BigQueryPart(slot, table, reject)))


class _BigQueryPart(StatefulSinkPartition[Tabulated, None]):
    def __init__(self, slot: Slot, table: str, reject: Reject):
        assert slot.writer is not None
        self._slot, self._writer, self._reject = slot, slot.writer, reject
        self._marker = self._writer.marker
        self._commit_records = slot.config.bigquery.commit_records
        self._table = BigQueryTable(slot.config.bigquery.dataset, table, slot.topic, slot.partition)
        slot.written_to = self._resume()
        self._waiting: list[Tabulated] = []
        self._records = 0

    def write_batch(self, values: list[Tabulated]) -> None:
        self._slot.in_flight = False
        self._waiting += values
        self._records += sum(len(value.processed.offsets) for value in values)
        if self._records >= self._commit_records:
            self._flush()

    def snapshot(self) -> None:
        self._flush()

    def close(self) -> None:
        self._table.close()

    def _resume(self) -> int:
        """Commits what the marker names, and asks the table what is there, once a process: that
        reads its lineage columns. The first offset whose row may be missing."""
        if self._slot.written_to is not None:
            return self._slot.written_to
        prepared = self._marker.prepared if self._marker else None
        is_committed = prepared is not None and self._table.commit(prepared)
        written_to = self._table.next_offset()
        if prepared and is_committed and written_to:
            return max(written_to, prepared.last_offset + 1)  # somebody may have erased the last
        self._refuse_a_hole(written_to, prepared)
        return written_to

    def _refuse_a_hole(self, written_to: int, prepared: Prepared | None) -> None:
        """What is there must be of this log; what is not there must be read again."""
        slot, marker = self._slot, self._marker
        if written_to > (marker.next_offset if marker else 0):
            raise Refused(
                f"slot {slot.name}: {self._table.name} holds its records up to offset "
                f"{written_to - 1}, and the log knows nothing of them: they are another log's; use "
                "another dataset, or remove them"
            )
        low, _ = slot.log.offsets(slot.topic, slot.partition)
        is_loaded = marker is not None and any("good" in day for day in marker.counts.values())
        needed = prepared.last_offset if prepared else low if is_loaded else slot.started_at
        if slot.started_at > max(needed, low):
            raise Refused(
                f"slot {slot.name}: {self._table.name} holds its records up to offset {written_to} "
                f"only, and its state is at {slot.started_at}; restore the table, or load it again "
                "with `tidegate reset load`"
            )

    def _flush(self) -> None:
        if not self._waiting:
            return
        try:
            ready = self._prepare()
            self._publish(together([self._judged(v, ready) for v in self._waiting]), ready.prepared)
            if ready.prepared:
                self._commit(ready.prepared)
        except Exception as error:
            self._slot.fail(error)
        self._waiting, self._records = [], 0

    def _prepare(self) -> Preparation:
        """The rows that wait and are not there yet."""
        offsets = np.concatenate([value.offsets for value in self._waiting])
        start = int(np.searchsorted(offsets, self._slot.written_to or 0))
        if start == len(offsets):
            return _NOTHING
        rows = pa.concat_tables([value.table for value in self._waiting]).slice(start)
        dates = np.concatenate([value.dates for value in self._waiting])[start:]
        return self._table.prepare(rows, dates)

    def _judged(self, value: Tabulated, ready: Preparation) -> Processed:
        """What became of a batch, with what BigQuery refused of it among its dead letters."""
        processed = value.processed
        places = np.flatnonzero(np.isin(processed.offsets, list(ready.refused)))
        if not len(places):
            return processed
        assert value.records is not None
        codes = processed.fates.copy()
        codes[places] = fates.failed("refused")
        reasons = {int(place): ready.refused[int(processed.offsets[place])] for place in places}
        outputs = [*processed.outputs, self._reject(value.records, reasons)]
        return replace(processed, fates=codes, outputs=outputs)

    def _publish(self, processed: Processed, prepared: Prepared | None) -> None:
        """A marker, even where it covers nothing new: without one, nobody may commit the rows."""
        marker, published_to = self._marker, self._marker.next_offset if self._marker else 0
        start = int(np.searchsorted(processed.offsets, published_to))
        if start < len(processed.offsets):
            marker = advance(marker, processed, start, self._slot.log.contiguous)
        elif marker is None or prepared is None:
            return
        before = self._marker.prepared if self._marker else None
        seq = (self._marker.seq if self._marker else 0) + 1
        marker = msgspec.structs.replace(marker, seq=seq, prepared=prepared or before)
        fresh = [output.caused_from(published_to) for output in processed.outputs]
        self._writer.commit([output for output in fresh if len(output)], marker)
        self._marker = marker
        self._slot.stats.committed(marker, processed.arrival_us[start:])

    def _commit(self, prepared: Prepared) -> None:
        if not self._table.commit(prepared):
            raise BigQueryUnavailable(
                f"slot {self._slot.name}: {self._table.name} has lost rows up to offset "
                f"{prepared.last_offset} before they were committed; they are written again at the "
                "next start"
            )
        self._slot.written_to = prepared.last_offset + 1
