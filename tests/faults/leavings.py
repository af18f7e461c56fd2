"""What a run leaves: every derived record, every count, every row of the lake."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from dataflows.connectors.lake import lake_files
from dataflows.flows.payments import REQUESTS, with_names
from dataflows.flows.shop import Shop
from services.status.peek import Record, peek_records
from services.status.slots import flow_totals, slot_statuses

# Several slots write to these, in whichever order they come, or to what these are made from.
SHARED = (
    *("reprocess.requests", "dlq.late", "dlq.load"),
    *("metrics.parts", "dlq.measure", "metrics", "anomalies"),
    *("logins", "incidents", "dlq.watch"),
)


def as_it_is(record: Record) -> object:
    return record.partition, record.key, record.value, record.headers


def leavings(shop: Shop, view: Callable[[Record], object] = as_it_is) -> dict[str, object]:
    """Derived topics by partition and order, each record, or payment of a scoring request, as
    `view` sees it; counts; the lake."""
    found: dict[str, object] = {}
    for topic in shop.topology.topics:
        if topic.startswith("raw."):
            continue
        read = peek_records(shop.log, topic, None, 0, 2**62)
        records = [view(each) for record in read for each in _apart(record)]
        found[topic] = Counter(records) if topic in SHARED else records
    found["totals"] = [(t.flow, t.records_in, t.fates) for t in flow_totals(slot_statuses(shop))]
    found["lake"] = lake_rows(shop.config.lake_path)
    return found


def _apart(record: Record) -> list[Record]:
    """How many payments go into a request is no matter; and what a device did with accounts is
    judged as its logins come from the partitions, so in some order or other."""
    if record.topic == "incidents" and json.loads(record.value or b"{}").get("device_id"):
        return []
    if record.topic != REQUESTS or record.value is None:
        return [record]
    return [msgspec.structs.replace(record, value=value) for value in with_names(record.value)]


def lake_rows(lake: Path) -> dict[str, Counter[tuple[object, ...]]]:
    import pyarrow.parquet as pq

    rows: dict[str, Counter[tuple[object, ...]]] = {}
    for table in sorted(path.name for path in lake.iterdir()):
        counts = rows.setdefault(table, Counter())
        for file in lake_files(lake, table):
            columns = pq.read_table(
                file, partitioning=None, columns=["_topic", "_partition", "_offset"]
            )
            counts.update(zip(*(column.to_pylist() for column in columns.columns), strict=True))
    return rows


def compare(undisturbed: dict[str, object], disturbed: dict[str, object]) -> None:
    different = [name for name in undisturbed if undisturbed[name] != disturbed[name]]
    assert not different, different
    lake = disturbed["lake"]
    assert isinstance(lake, dict)
    for table, rows in lake.items():
        assert max(rows.values()) == 1, f"{table} holds a record twice"
