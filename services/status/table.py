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
    for name in ("flow", "slot"):
        table.add_column(name, no_wrap=True)
    for name in ("offset", "lag", "lag s", "watermark", "good", "failed", "late", "dup."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("published by", no_wrap=True)
    for s in statuses:
        numbers = (s.good, s.failed, s.late, s.duplicate)
        table.add_row(
            *(s.flow, f"{s.topic}/{s.partition}", f"{s.offset:,}"),
            *(f"{s.lag_records:,}", f"{s.lag_seconds:.1f}", _short(s.watermark)),
            *(f"{number:,}" for number in numbers),
            s.published_by or "-",
        )
    _print(table)


def _short(watermark: str | None) -> str:
    return watermark.removesuffix("+00:00") if watermark else "-"


def _print(table: Table) -> None:
    """Never cut to fit: a narrow terminal wraps, a pipe gets it all."""
    console = Console()
    width = console.measure(table, options=console.options.update(width=500)).maximum
    Console(width=max(width, console.width)).print(table)


def print_topics(held: Mapping[str, TopicInfo]) -> None:
    """One row a topic; says what to do when all are empty."""
    table = Table(box=None, pad_edge=False)
    table.add_column("topic")
    for name in ("partitions", "records", "bytes"):
        table.add_column(name, justify="right")
    for name, info in sorted(held.items()):
        size = "" if info.bytes is None else f"{info.bytes:,}"
        table.add_row(name, str(info.partitions), f"{info.records:,}", size)
    _print(table)
    if not any(info.records for info in held.values()):
        print("No topic holds a record yet: `tidegate publish` or `tidegate simulate` feeds them.")
