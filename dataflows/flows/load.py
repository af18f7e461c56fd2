"""load: everything -> the Parquet lake, or BigQuery

    read -> tabulate -> write

One table a source (timely and buffered events together), and one each for sessions, scores, alerts,
metrics, anomalies, reprocess requests and dead letters. Every row says which log record it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.operators import map_value
from numpy.typing import NDArray

from dataflows.connectors.records import Output, Records
from dataflows.flows.dead_letters import Rejection, dead_letters
from dataflows.flows.heartbeats import heartbeat_rows
from dataflows.flows.shop import Shop
from dataflows.flows.tables import DeadLetterTable, DocumentTable, EventTable, TableRows
from dataflows.runtime import fates
from dataflows.runtime.bigquery_sink import write_bigquery
from dataflows.runtime.lake_sink import write_lake
from dataflows.runtime.sink import Processed
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.tabulated import Tabulated

LINEAGE = (("_topic", pa.string()), ("_partition", pa.int64()), ("_offset", pa.int64()))
NO_WATERMARK_US = -(2**62)


class LakeTable(Protocol):
    """Turns data records into rows."""

    name: str

    def rows(self, records: Records, data: NDArray[np.int64]) -> TableRows: ...


def load(slot: Slot, shop: Shop) -> Dataflow:
    table = lake_table(slot.topic, shop)
    flow = Dataflow("load")
    records = read("read", flow, slot)
    if slot.config.bigquery.dataset:
        rows = map_value("tabulate", records, tabulator(table, keep_records=True))
        write_bigquery("write", rows, slot, table.name, _refused)
    else:
        rows = map_value("tabulate", records, tabulator(table))
        write_lake("write", rows, slot, table.name)
    return flow


def lake_table(topic: str, shop: Shop) -> LakeTable:
    """The table a topic's records go to."""
    kind = topic.partition(".")[0]
    if kind in ("events", "buffered"):
        return EventTable(shop.contract(topic), shop.pii_key)
    return DeadLetterTable() if kind == "dlq" else DocumentTable(topic)


def tabulator(table: LakeTable, keep_records: bool = False) -> Callable[[Records], Tabulated]:
    """Rows of a batch with their lineage, what could not become one and, if told so, the batch."""

    def tabulate(records: Records) -> Tabulated:
        heartbeats, _ = heartbeat_rows(records)
        codes = np.full(len(records), fates.GOOD, np.uint8)
        codes[heartbeats] = fates.HEARTBEAT
        made = table.rows(records, np.flatnonzero(~heartbeats))
        for rejection in made.rejections:
            codes[rejection.row] = fates.failed(rejection.reason)
        kept = np.flatnonzero(codes == fates.GOOD)
        return Tabulated(
            processed=Processed(
                offsets=records.offsets,
                arrival_us=records.arrival_us,
                fates=codes,
                outputs=[_rejected(records, made.rejections)],
                watermark_us=NO_WATERMARK_US,
            ),
            table=_with_lineage(made.table, records, kept),
            offsets=records.offsets[kept],
            dates=made.dates,
            records=records if keep_records else None,
        )

    return tabulate


def _rejected(records: Records, rejections: list[Rejection]) -> Output:
    return dead_letters("dlq.load", records, rejections, "lake", partition=0)


def _refused(records: Records, reasons: Mapping[int, str]) -> Output:
    """What BigQuery does not take, in its own words."""
    rejections = [Rejection(row, "refused", reason) for row, reason in reasons.items()]
    return dead_letters("dlq.load", records, rejections, "bigquery", partition=0)


def _with_lineage(table: pa.Table, records: Records, kept: NDArray[np.int64]) -> pa.Table:
    columns = (
        pa.repeat(pa.scalar(records.topic), len(kept)),
        pa.repeat(pa.scalar(records.partition, pa.int64()), len(kept)),
        pa.array(records.offsets[kept]),
    )
    for (name, kind), column in zip(LINEAGE, columns, strict=True):
        table = table.append_column(pa.field(name, kind, nullable=False), column)
    return table
