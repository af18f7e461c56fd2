"""Status and topics as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from dataflows.connectors.log import TopicInfo
from services.status.slots import SlotStatus


def print_slots(statuses: Sequence[SlotStatus]) -> None:
    """One row a slot; says what to do when there is none."""
    if not statuses:
        print("No slot has done anything yet: `tidegate up` runs them, `tidegate simulate` feeds.")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("flow", "topic", "part."):
        table.add_column(name)
    for name in ("offset", "lag", "lag s", "watermark", "good", "failed", "late", "dup."):
        table.add_column(name, justify="right")
    for s in statuses:
        numbers = (s.good, s.failed, s.late, s.duplicate)
        table.add_row(
            *(s.flow, s.topic, str(s.partition), f"{s.offset:,}"),
            *(f"{s.lag_records:,}", f"{s.lag_seconds:.1f}", s.watermark or "-"),
            *(f"{number:,}" for number in numbers),
        )
    Console().print(table)


def print_topics(held: Mapping[str, TopicInfo]) -> None:
    """One row a topic."""
    table = Table(box=None, pad_edge=False)
    table.add_column("topic")
    for name in ("partitions", "records", "bytes"):
        table.add_column(name, justify="right")
    for name, info in sorted(held.items()):
        table.add_row(name, str(info.partitions), f"{info.records:,}", f"{info.bytes:,}")
    Console().print(table)
