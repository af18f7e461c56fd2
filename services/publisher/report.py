"""What a publication did, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from dataflows.contracts.timestamps import format_timestamps
from services.publisher.files import Fault
from services.publisher.options import PublishOptions
from services.publisher.parsed import Parsed
from services.publisher.times import UNTIMED

KEPT_LINES = 20
"""So many bad lines are kept for the report; all are counted."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A place in a file and what is wrong there."""

    file: str
    line: int
    column: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a publication is. `size` and `position` are bytes on disk; no size for a pipe."""

    file: str
    position: int
    size: int | None
    accepted: int
    rejected: int


@dataclass(slots=True)
class PublishReport:
    """Counts of one publication; it grows while the publication runs.

    `accepted` records were appended (would be, in a dry run), `bytes` is their size. `rejected`
    lines were not, `skipped_blank` ones held nothing. `noted` lines were published although
    something is odd about them. `unkeyed` and `untimed` records have no usable key or event time
    and `future` ones lie beyond what ingest accepts: they are published, and ingest dead-letters
    them. `first_us` and `last_us` are the range of the other records' event times; `behind_us` is
    how far an event lay behind the newest before it, at most, and `too_late` counts those that are
    too far behind for the stream.
    """

    source: str
    topic: str
    dry_run: bool = False
    files: int = 0
    accepted: int = 0
    bytes: int = 0
    rejected: int = 0
    noted: int = 0
    skipped_blank: int = 0
    unkeyed: int = 0
    untimed: int = 0
    future: int = 0
    first_us: int | None = None
    last_us: int | None = None
    behind_us: int = 0
    too_late: int = 0
    hint: str | None = None
    bad_lines: list[BadLine] = field(default_factory=list)
    odd_lines: list[BadLine] = field(default_factory=list)

    def reject(self, file: str, faults: Iterable[Fault]) -> None:
        """Count lines that are not published."""
        for fault in faults:
            self.rejected += 1
            _keep(self.bad_lines, file, fault)

    def note(self, file: str, faults: Iterable[Fault]) -> None:
        """Count lines that are published with a remark."""
        for fault in faults:
            self.noted += 1
            _keep(self.odd_lines, file, fault)

    def accept(self, batch: Parsed, options: PublishOptions) -> None:
        """Count a batch; batches come in the order of their publication."""
        keys, values, times_us = batch.keys, batch.values, batch.times_us
        self.accepted += len(values)
        self.bytes += sum(map(len, values))
        self.unkeyed += keys.count(None)
        timed = times_us[times_us != UNTIMED]
        self.untimed += len(values) - len(timed)
        if options.not_after_us is not None:
            possible = timed[timed <= options.not_after_us]
            self.future += len(timed) - len(possible)
            timed = possible
        if len(timed) == 0:
            return
        before = UNTIMED if self.last_us is None else self.last_us
        newest = np.maximum.accumulate(np.maximum(timed, before))
        behind = newest - timed
        self.behind_us = max(self.behind_us, int(behind.max()))
        if options.late_after_us is not None:
            self.too_late += int(np.count_nonzero(behind > options.late_after_us))
        earliest = int(timed.min())
        self.first_us = earliest if self.first_us is None else min(self.first_us, earliest)
        self.last_us = int(newest[-1])

    def summary(self) -> list[str]:
        """Lines for a person: what was published, what was not and why, what to expect of it."""
        verb = "would be published" if self.dry_run else "published"
        lines = [f"{_count(self.accepted, 'record')} {verb} to {self.topic} ({self.bytes:,} bytes)"]
        if self.first_us is not None and self.last_us is not None:
            first, last = _texts(self.first_us, self.last_us)
            lines.append(f"event times from {first} to {last}")
        if self.skipped_blank:
            lines.append(f"{_count(self.skipped_blank, 'blank line')} skipped")
        if self.rejected:
            lines.append(f"{_count(self.rejected, 'line')} not published:")
            lines += _shown(self.bad_lines, self.rejected)
        if self.noted:
            lines.append(f"{_count(self.noted, 'line')} published with a remark:")
            lines += _shown(self.odd_lines, self.noted)
        for count, lack in (
            (self.unkeyed, "without a usable key"),
            (self.untimed, "without a readable event time"),
            (self.future, "with an event time in the future"),
        ):
            if count:
                lines.append(f"{_count(count, 'record')} {lack}: see dlq.{self.source}")
        if self.too_late:
            lines.append(
                f"{_count(self.too_late, 'record')} too late for the stream, by up to"
                f" {timedelta(microseconds=self.behind_us)}: --order time publishes by event time"
            )
        if self.hint:
            lines.append(self.hint)
        return lines

    def to_json(self) -> dict[str, object]:
        """The same as JSON values; times are RFC 3339."""
        first, last = _texts(self.first_us, self.last_us)
        return {
            "source": self.source,
            "topic": self.topic,
            "dry_run": self.dry_run,
            "files": self.files,
            "accepted": self.accepted,
            "bytes": self.bytes,
            "rejected": self.rejected,
            "noted": self.noted,
            "skipped_blank": self.skipped_blank,
            "unkeyed": self.unkeyed,
            "untimed": self.untimed,
            "future": self.future,
            "first_event_time": first,
            "last_event_time": last,
            "behind_seconds": self.behind_us / 1_000_000,
            "too_late": self.too_late,
            "bad_lines": [_as_json(line) for line in self.bad_lines],
            "odd_lines": [_as_json(line) for line in self.odd_lines],
        }


def _keep(lines: list[BadLine], file: str, fault: Fault) -> None:
    if len(lines) < KEPT_LINES:
        lines.append(BadLine(file, fault.line, fault.column, fault.reason))


def _shown(lines: list[BadLine], total: int) -> list[str]:
    shown = [f"  {line}" for line in lines]
    return shown if total <= len(lines) else [*shown, f"  and {total - len(lines):,} more"]


def _texts(*instants: int | None) -> list[str | None]:
    return [None if us is None else format_timestamps(np.array([us]))[0] for us in instants]


def _as_json(line: BadLine) -> dict[str, object]:
    return {
        "file": line.file,
        "line": line.line,
        "column": line.column,
        "reason": line.reason,
    }


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
