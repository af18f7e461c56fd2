"""What the log says of the traffic: how large records are, and how many there are of those that
the lake does not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from dataflows.connectors.log import Log, Marker
from dataflows.connectors.records import HEARTBEAT_HEADER
from dataflows.flows.load import lake_table
from dataflows.flows.shop import Shop
from dataflows.flows.tables import DOCUMENTS
from dataflows.runtime.fates import Reconciliation
from services.cost.errors import CostError
from services.cost.lake import LakeRows
from services.cost.volumes import Topic
from services.status.peek import Record, peek_records

SAMPLE_RECORDS = 5_000  # the last of each partition

# The table that has as many rows as the topic has records, or so many times as many, where the
# topic's name does not say so.
_TABLES = {
    "scoring.requests": "transactions",
    "metrics.parts": "metrics",
    "logins": "clickstream",
}


def topics(shop: Shop, lake: LakeRows) -> list[Topic]:
    """Every topic that a flow reads: its records by event date, and their size.

    The lake says from which topic each row is. A topic that it does not hold has as many records a
    day as a table beside it has rows (as a rule its source's), times what the flows' counts say of
    both. Heartbeats are left out.

    Raises:
        CostError: the log is not the one that the lake was loaded from.
        LogError: the log cannot be read.
    """
    read_by = {
        topic: [flow for flow, inputs in shop.topology.inputs.items() if topic in inputs]
        for topic in shop.topology.topics
    }
    held, found = shop.log.topics(), []
    markers = shop.log.markers()
    for name, flows in read_by.items():
        if "load" in flows:
            rows = lake.by_topic.get(name, {})
            records, how = {at: Decimal(count) for at, count in rows.items()}, "rows in the lake"
        elif flows:
            records, how = _beside_its_table(shop, name, flows[0], lake, markers)
        else:
            continue  # nobody takes what is in it
        if any(records.values()):
            if name not in held:
                raise _another_log(shop, f"rows of {name}", "has no such topic")
            size, what = _size(shop, name, lake)
            found.append(Topic(name, records, size, len(flows), f"{how}; {what}"))
    return found


def _beside_its_table(
    shop: Shop, topic: str, flow: str, lake: LakeRows, markers: Mapping[str, Marker]
) -> tuple[dict[date, Decimal], str]:
    """Records by date of a topic that is not in the lake, from the rows of a table that is."""
    table = _table(topic)
    made_by_flows = table in DOCUMENTS
    parts = (table,) if made_by_flows else (f"events.{table}", f"buffered.{table}")
    row = "row" if made_by_flows else "event"
    days: Counter[date] = Counter()
    for part in parts:
        days.update(lake.by_topic.get(part, {}))
    if not days:
        return {}, ""
    loaded = sum(_read(shop, "load", part, markers) for part in parts)
    if not loaded:
        raise _another_log(shop, f"{row}s of {table}", "has had none loaded from it")
    share = Decimal(_read(shop, flow, topic, markers)) / loaded
    how = f"{share:.3f} for each {row} of {table} in the lake, by the flows' counts"
    return {at: count * share for at, count in days.items()}, how


def _table(topic: str) -> str:
    """The table whose rows a topic's records come with."""
    return _TABLES.get(topic, topic.partition(".")[2])


def _read(shop: Shop, flow: str, topic: str, markers: Mapping[str, Marker]) -> int:
    """Data records of a topic that a flow has read so far, by its own counts."""
    names = (f"{flow}.{topic}.{number}" for number in range(shop.topology.topics[topic]))
    found = (markers[name] for name in names if name in markers)
    return sum(Reconciliation.of(marker.counts.values()).accounted for marker in found)


def _another_log(shop: Shop, there: str, here: str) -> CostError:
    return CostError(
        f"{shop.config.lake_path}: holds {there}, and {shop.config.bus_url} {here}; set bus to the "
        "log that the lake was loaded from"
    )


def record_sizes(log: Log, topic: str) -> list[int]:
    """Bytes of key, value and headers of the last data records of each partition."""
    records = peek_records(log, topic, None, None, SAMPLE_RECORDS)
    return [_bytes(record) for record in records if not _is_heartbeat(record)]


def _bytes(record: Record) -> int:
    headers = sum(len(name) + len(data) for name, data in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def _is_heartbeat(record: Record) -> bool:
    return record.value is None and any(name == HEARTBEAT_HEADER for name, _ in record.headers)


def _size(shop: Shop, topic: str, lake: LakeRows) -> tuple[Decimal, str]:
    """Mean bytes of a record."""
    sizes = record_sizes(shop.log, topic)
    if sizes:
        return Decimal(sum(sizes)) / len(sizes), f"mean size of {len(sizes):,} in the log"
    loaded = topic in shop.topology.inputs["load"]
    table = lake_table(topic, shop).name if loaded else _table(topic)
    return lake.tables[table].width, "none left in the log: size of the lake's rows"
