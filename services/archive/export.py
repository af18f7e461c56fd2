"""From the lake to the archive: what has changed since, a version a day."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec

from dataflows.contracts import load_contracts
from dataflows.runtime.config import Config
from services.archive.content import read_content
from services.archive.manifest import Day, Manifest, describe_file
from services.archive.store import Archive, Choice, Kept
from services.archive.workplace import explained, hold_tables, workplace

Tell = Callable[[str], None]


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was made; `bytes` is what went over, without files that were there."""

    table: str
    event_date: str
    version: int
    rows: int
    files: int
    bytes: int


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an export did; `unchanged` counts days."""

    archive: str
    lake: str
    exported: list[Exported]
    unchanged: int
    seconds: float


def export(config: Config, archive: Archive, choice: Choice, tell: Tell) -> ExportReport:
    """Adds a version of each chosen day that is not in the archive as the lake has it.

    A day is complete from one instant on; an export that is cut off leaves the days before it
    complete and those behind it as they were. The same rows in other files are no change.

    Raises:
        LeaseHeld: another archive command is at work on this data directory.
        ArchiveError: the lake has holes, is none, or holds the archive.
        TidegateError: the archive cannot be used.
    """
    began = time.monotonic()
    archive.refuse_within(config.lake_path)
    contracts = load_contracts(Path(config.schemas))
    exported: list[Exported] = []
    with workplace(config) as scratch, explained(scratch):
        held = hold_tables(config.lake_path, choice, scratch / "lake")
        there = archive.days()
        for table in held:
            contract = contracts[table.name].version if table.name in contracts else None
            for day, files in table.days.items():
                tell(f"{day.table} {day.date}")
                source = _Source(day, files, str(config.lake_path / day.path))
                kept = there.get(day, Kept([], {}))
                made = _export_day(archive, source, kept, contract)
                exported += [made] if made else []
            if choice.is_of_all_dates:
                archive.set_progress(table.name, table.progress)
    return ExportReport(
        archive=archive.url,
        lake=str(config.lake_path),
        exported=exported,
        unchanged=sum(len(table.days) for table in held) - len(exported),
        seconds=round(time.monotonic() - began, 3),
    )


class _Source(NamedTuple):
    """A day of the lake; `called` is where a person finds it."""

    day: Day
    files: list[Path]
    called: str


def _export_day(
    archive: Archive, source: _Source, kept: Kept, contract: str | None
) -> Exported | None:
    day = source.day
    last = archive.newest(day, kept)
    described = [describe_file(file) for file in source.files]
    if last is not None and last.files == described:
        return None
    content = read_content(source.files, source.called)
    if last is not None and last.content == content:
        return None
    manifest = Manifest(
        table=day.table,
        event_date=day.date,
        version=1 if last is None else last.version + 1,
        contract=contract,
        content=content,
        files=described,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        made_by=version("tidegate"),
    )
    sent = sum(
        archive.store(day, each, file, kept)
        for each, file in zip(described, source.files, strict=True)
    )
    archive.publish(manifest)
    return Exported(
        table=day.table,
        event_date=day.date,
        version=manifest.version,
        rows=content.rows,
        files=len(described),
        bytes=sent,
    )
