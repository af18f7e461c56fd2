"""Live progress of the demo: a few lines that refresh on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from services.simulator.stream import Chunk
from services.status.slots import FlowTotals

PLAIN_EVERY_S = 5.0


class Progress:
    """Shows which step runs, the simulated day, and each flow's records and lag."""

    def __init__(self, console: Console, events: int):
        self._console, self._expected = console, events
        self._started = time.monotonic()
        self._step, self._day, self._published = "", "", 0
        self._totals: Sequence[FlowTotals] = ()
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._plain_at = 0.0

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def step(self, name: str) -> None:
        self._step = name
        if not self._console.is_terminal:
            self._console.print(f"[{self._seconds:5.1f} s] {name}", highlight=False)
        self._show()

    def note(self, line: str) -> None:
        """A line that stays."""
        if "restart" in line or "did not" in line:
            self._console.print(line, highlight=False)

    def published(self, chunk: Chunk) -> None:
        self._published += chunk.records
        self._day = time.strftime("%Y-%m-%d", time.gmtime(chunk.end_us / 1e6))
        self._show()

    def flows(self, totals: Sequence[FlowTotals]) -> None:
        self._totals = totals
        now = time.monotonic()
        if not self._console.is_terminal and now >= self._plain_at:
            self._plain_at = now + PLAIN_EVERY_S
            done = " ".join(f"{t.flow} {t.records_in:,}" for t in totals)
            self._console.print(
                f"[{self._seconds:5.1f} s] {self._day} published {self._published:,}; {done}",
                highlight=False,
                soft_wrap=True,
            )
        self._show()

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _show(self) -> None:
        if self._console.is_terminal:
            self._live.update(self._view())

    def _view(self) -> Group:
        head = Text(f"{self._seconds:5.1f} s  {self._step}  ")
        head.append(f"{self._day}  {self._published:,} of {self._expected:,} events", style="dim")
        table = Table(box=None, pad_edge=False)
        table.add_column("flow")
        for name in ("records", "good", "failed", "late", "duplicate", "lag"):
            table.add_column(name, justify="right")
        for t in self._totals:
            numbers = (t.records_in, t.good, t.failed, t.late, t.duplicate, t.lag_records)
            table.add_row(t.flow, *(f"{number:,}" for number in numbers))
        bar = ProgressBar(self._expected, min(self._published, self._expected))
        return Group(head, Padding(bar, 0), table)  # a bar alone does not end its line
