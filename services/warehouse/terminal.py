"""What a person sees of a build: the node it is at, and a summary."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TextIO

from services.warehouse.build import Report

_KINDS = {
    "full": "all of them anew",
    "changed dates": "those that changed",
    "reprocessed": "those that were asked for, and what hangs on them",
}


class Progress:
    """One line on a terminal's standard error, gone at the end; silent elsewhere."""

    def __init__(self, out: TextIO = sys.stderr):
        self._out, self._shown, self._count = out, out.isatty(), 0

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
        return [f"Nothing has changed in {report.lake}; {report.file} is as it was."]
    span = f"{report.dates[0]} to {report.dates[-1]}, " if report.dates else ""
    days = f"{len(report.dates)} dates" if len(report.dates) != 1 else "1 date"
    head = [
        f"Built {report.file} in {report.seconds:.0f} s from {report.lake}:",
        f"{days}, {span}{_KINDS[report.kind]}.",
        "",
    ]
    width = max(map(len, report.rows), default=0)
    tables = [f"  {name:<{width}} {rows:>12,}" for name, rows in report.rows.items()]
    tests = f"✓ {report.models} models, {report.tests} tests hold"
    warned = [f"! {node.name}: {node.message}" for node in report.warnings]
    return [*head, *tables, "", tests + (f", {len(warned)} with a warning" if warned else ""), *warned]
