"""What a person sees of a build: the node it is at, and a summary."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from services.warehouse.build import Report
from services.warehouse.dbt_process import Node
from services.warehouse.query import Answer

if TYPE_CHECKING:
    from services.warehouse.merges import Choice, Decision, QuarantinedDate

_KINDS = {
    "full": "all of them anew",
    "changed dates": "those that changed",
    "reprocessed": "those that were asked for, and what hangs on them",
}


class Progress:
    """One line on a terminal's standard error, gone at the end; silent elsewhere."""

    def __init__(self, out: TextIO | None = None):
        self._out, self._count = out or sys.stderr, 0
        self._shown = self._out.isatty()

    def __enter__(self) -> Progress:
        return self

    def node(self, name: str) -> None:
        self._count += 1
        if self._shown:
            print(f"\r\x1b[2K{self._count} {name[:60]}", end="", file=self._out, flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            print("\r\x1b[2K", end="", file=self._out, flush=True)


def print_report(report: Report) -> None:
    """Says what was made, and what each gold table holds."""
    print("\n".join(lines(report)))


def lines(report: Report) -> list[str]:
    if report.kind == "unchanged":
        return [f"{report.file} is as it was: nothing has changed in {report.lake}."]
    if report.kind == "not asked":
        return [f"{report.file} is as it was: no request in {report.lake} waits."]
    span = f"{report.dates[0]} to {report.dates[-1]}, " if report.dates else ""
    days = f"{len(report.dates)} dates" if len(report.dates) != 1 else "1 date"
    head = [
        f"Built {report.file} in {report.seconds:.0f} s from {report.lake}:",
        f"{days}, {span}{_KINDS[report.kind]}.",
        "",
    ]
    width = max(map(len, report.rows), default=0)
    tables = [f"  {name:<{width}} {rows:>12,}" for name, rows in report.rows.items()]
    hold = report.tests - len(report.warnings)
    warned = [f"! {node.name}: {node.message}" for node in report.warnings]
    return [*head, *tables, "", f"✓ {report.models} models, {hold} tests hold", *warned]


def quarantined_lines(dates: Sequence[QuarantinedDate]) -> list[str]:
    """A line a source and date, with the command that merges what waits there."""
    if not dates:
        return ["Nothing has come later than the horizon."]
    width = max(len(day.source) for day in dates)
    rows = [f"{'source':<{width}}  event date  {'waiting':>9}  {'merged':>9}  decided"]
    for day in dates:
        decided = f"{day.decided_at:%Y-%m-%d %H:%M:%SZ}" if day.decided_at else ""
        name = str(day.event_date or "unknown")
        row = f"{day.source:<{width}}  {name:<10}  {day.waiting:>9,}  {day.merged:>9,}  {decided}"
        rows.append(row.rstrip())
    if any(day.event_date is None for day in dates):
        rows += ["", "unknown: they no longer fit their contract, and cannot be merged."]
    if any(day.waiting and day.event_date for day in dates):
        rows += [
            "",
            "`tidegate warehouse merge --source SOURCE --from DATE --to DATE` merges them.",
        ]
    return rows


def merge_plan_lines(choice: Choice, dates: Sequence[QuarantinedDate]) -> list[str]:
    """What a merge would do, date by date."""
    waiting = {day.event_date: day.waiting for day in dates if day.waiting}
    if not waiting:
        return [f"Nothing of {_span(choice)} is quarantined."]
    events = f"{sum(waiting.values()):,} events"
    return [
        f"Quarantined of {_span(choice)}: {events}, to be merged into silver and gold.",
        *(f"  {day}  {count:>9,}" for day, count in waiting.items()),
    ]


def unmerge_plan_lines(choice: Choice, dates: Sequence[QuarantinedDate]) -> list[str]:
    """What taking events out again would do, date by date."""
    merged = {day.event_date: day.merged for day in dates if day.merged}
    if not merged:
        return [f"Nothing of {_span(choice)} was merged."]
    events = f"{sum(merged.values()):,} events"
    return [
        f"Merged of {_span(choice)}: {events}, to be taken out of silver and gold.",
        *(f"  {day}  {count:>9,}" for day, count in merged.items()),
    ]


def decision_lines(decisions: Sequence[Decision]) -> list[str]:
    """What was decided, a line a date."""
    done = {"merge": "Merged", "unmerge": "Taken out"}
    return [
        f"{done[decision.action]}: {decision.events:,} events of {decision.source} of "
        f"{decision.event_date}."
        for decision in decisions
    ]


def _span(choice: Choice) -> str:
    if choice.first == choice.last:
        return f"{choice.source} of {choice.first}"
    return f"{choice.source} of {choice.first} to {choice.last}"


def print_answer(answer: Answer) -> None:
    """A table; numbers to the right, nothing for null."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, name in enumerate(answer.columns):
        numbers = any(isinstance(row[place], int | float | Decimal) for row in answer.rows)
        table.add_column(escape(name), justify="right" if numbers else "left", overflow="fold")
    for row in answer.rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    Console().print(table)
    rows = "1 row" if len(answer.rows) == 1 else f"{len(answer.rows):,} rows"
    print(f"({rows})")


def as_json(answer: Answer) -> str:
    """An array of objects; money is text, so that it stays exact."""
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    return msgspec.json.encode(rows, enc_hook=str).decode()


def as_csv(answer: Answer) -> str:
    """With a header; null is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(answer.rows)
    return out.getvalue()


def print_freshness(sources: Sequence[Node]) -> None:
    """A line a source: whether it is fresh, and how old its last record is."""
    width = max((len(source.name) for source in sources), default=0)
    for source in sources:
        hours = "" if source.age_seconds is None else f"{source.age_seconds / 3600:.1f} h ago"
        mark = {"pass": "✓", "warn": "!"}.get(source.status, "✗")
        print(f"{mark} {source.name:<{width}}  {hours or source.message}")
