"""What a person reads of an archive."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from services.archive.drill import DrillReport
from services.archive.export import ExportReport
from services.archive.inventory import Listed
from services.archive.restore import RestoreReport
from services.archive.verify import VerifyReport

_SHOWN = 20


def export_lines(report: ExportReport) -> list[str]:
    if not report.exported:
        return [f"{report.archive} is as it was: nothing has changed in {report.lake}."]
    rows = sum(each.rows for each in report.exported)
    size = sum(each.bytes for each in report.exported)
    lines = [
        f"Exported {_days(len(report.exported))}, {rows:,} rows, {_bytes(size)}, to "
        f"{report.archive} in {report.seconds:.1f} s."
    ]
    if report.unchanged:
        lines = [*lines, f"{_days(report.unchanged)} had not changed."]
    again = [each for each in report.exported if each.version > 1]
    named = [
        f"  {each.table} {each.event_date}: version {each.version}, {each.rows:,} rows"
        for each in again
    ]
    return [*lines, *_some(named, "new versions")]


def summary_lines(listed: Sequence[Listed]) -> list[str]:
    """A line a table."""
    tables = [
        (table, [each for each in versions if each.newest], versions)
        for table, versions in (
            (name, list(found)) for name, found in groupby(listed, attrgetter("table"))
        )
    ]
    width = max(len(table) for table, _, _ in tables)
    return [
        f"{table:<{width}}  {newest[0].event_date} to {newest[-1].event_date}"
        f"  {len(newest):>5} days  {sum(each.rows for each in newest):>12,} rows"
        f"  {_bytes(sum(each.bytes for each in newest)):>9}"
        f"  {len(versions) - len(newest):>4} older versions"
        for table, newest, versions in tables
    ]


def version_lines(listed: Sequence[Listed]) -> list[str]:
    """A line a version."""
    width = max(len(each.table) for each in listed)
    return [
        f"{each.table:<{width}}  {each.event_date}  version {each.version}"
        f"  {each.rows:>10,} rows  {_bytes(each.bytes):>9}"
        f"  {each.contract or '-':<3}  {each.made_at}"
        for each in listed
    ]


def verify_lines(report: VerifyReport) -> list[str]:
    read = (
        f"{report.versions:,} versions, {report.files:,} files, {_bytes(report.bytes)}, "
        f"{report.rows:,} rows read back in {report.seconds:.1f} s"
    )
    spare = []
    if report.unnamed:
        spare = [
            f"! {len(report.unnamed):,} files belong to no version: an export was cut off; they "
            f"do no harm. The first is {report.unnamed[0]}"
        ]
    if not report.problems:
        return [f"✓ {report.archive}: {read}, as they were written.", *spare]
    broken = [f"✗ {problem}" for problem in report.problems]
    count = "1 problem" if len(broken) == 1 else f"{len(broken):,} problems"
    return [*broken, f"{report.archive}: {read}; {count}.", *spare]


def restore_lines(report: RestoreReport) -> list[str]:
    rows = sum(each.rows for each in report.restored)
    lines = [
        f"Restored {_days(len(report.restored))}, {rows:,} rows, to {report.lake} in "
        f"{report.seconds:.1f} s, each as its manifest says."
    ]
    if report.unchanged:
        lines = [*lines, f"{_days(report.unchanged)} were there already, with the same rows."]
    if report.for_reading:
        tables = ", ".join(report.for_reading)
        lines = [
            *lines,
            f"! {tables}: the archive does not say how far the load flow was with just these "
            "days. They can be read, and a warehouse be built; it cannot go on with them.",
        ]
    return lines


def drill_lines(report: DrillReport) -> list[str]:
    what = [
        f"  {_days(report.days)}, {report.rows:,} rows of {report.records:,} log records, restored "
        f"in {report.restore_seconds:.1f} s"
    ]
    if report.gold:
        rows = sum(report.gold.values())
        what = [*what, f"  {len(report.gold)} gold tables, {rows:,} rows, built from each"]
    alone = []
    if report.only_archived:
        alone = [
            f"! {_days(report.only_archived)} more came back as the manifests say, and are in "
            f"{report.lake} no more: nothing to compare with."
        ]
    took = f"The drill took {report.seconds:.1f} s."
    if not report.differences:
        return [f"✓ {report.archive} is {report.lake}, row for row:", *what, *alone, took]
    lines = [f"✗ {each.what}: {each.how}" for each in report.differences]
    different = len({each.what for each in report.differences})
    return [
        *_some(lines, "differences"),
        f"{report.archive} is not {report.lake}; {different:,} differ of:",
        *what,
        *alone,
        f"`tidegate archive export {report.archive}` archives what has changed since.",
        took,
    ]


def _some(lines: Sequence[str], what: str) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"  and {more:,} more {what}"] if more > 0 else [])]


def _days(count: int) -> str:
    return "1 day of a table" if count == 1 else f"{count:,} days of tables"


def _bytes(count: int) -> str:
    if count < 1_000_000:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1_000_000_000 else f"{count / 1e9:.1f} GB"
