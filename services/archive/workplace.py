"""Where archive commands work: a folder of the data directory, one command at a time."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dataflows.connectors.lake import (
    SlotProgress,
    lake_files,
    lake_gaps,
    lake_progress,
)
from dataflows.durations import Duration
from dataflows.runtime.config import Config
from dataflows.runtime.recovery import Lease
from services.archive.errors import ArchiveError
from services.archive.manifest import Day
from services.archive.store import Choice, refuse_unknown
from services.warehouse.held_lake import hold_lake

_ATTEMPTS = 20


class HeldTable(NamedTuple):
    """The files of a table's chosen days, and how far its slots were, at one instant."""

    name: str
    days: dict[Day, list[Path]]
    progress: dict[str, SlotProgress]


@contextmanager
def workplace(config: Config) -> Iterator[Path]:
    """An empty folder beside the lake; gone afterwards, whatever was left in it.

    Raises:
        LeaseHeld: another archive command is at work on this data directory.
    """
    root = config.data_path / "archive"
    lease = Lease(root, "the archive", Duration.parse("0s"))
    scratch = root / "scratch"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lease.release()


def hold_tables(lake: Path, choice: Choice, into: Path) -> list[HeldTable]:
    """Holds the chosen tables of a lake still, below `into`.

    Raises:
        ArchiveError: there is no lake, no such table or date, or files of it are gone.
        LakeError: the lake cannot be read.
    """
    tables = sorted(path.name for path in lake.glob("[!._]*") if path.is_dir())
    if not tables:
        raise ArchiveError(
            f"{lake}: no lake there; `tidegate up` writes one, `tidegate demo` makes one in its "
            "own directory"
        )
    refuse_unknown(choice, tables, lake)
    held = [_hold_table(lake, table, choice, into) for table in choice.tables or tables]
    if not any(table.days for table in held):
        raise ArchiveError(f"{lake}: holds nothing of those tables and dates; choose others")
    return held


def _hold_table(lake: Path, table: str, choice: Choice, into: Path) -> HeldTable:
    _refuse_gaps(lake, table, choice)
    progress = _hold_with_progress(lake, table, into)
    days: dict[Day, list[Path]] = {}
    for file in lake_files(into, table):
        day = Day(table, file.parent.name.partition("=")[2])
        if choice.holds(day):
            days.setdefault(day, []).append(file)
    return HeldTable(table, days, progress)


def _hold_with_progress(lake: Path, table: str, into: Path) -> dict[str, SlotProgress]:
    for _ in range(_ATTEMPTS):
        progress = lake_progress(lake, table)
        hold_lake(lake, [table], into)
        if lake_progress(lake, table) == progress:
            return progress
        shutil.rmtree(into / table)
    raise ArchiveError(f"{lake / table}: changes all the time; try again when less is written")


def _refuse_gaps(lake: Path, table: str, choice: Choice) -> None:
    for gap in lake_gaps(lake, table):
        if choice.holds(Day(table, gap.date)):
            raise ArchiveError(
                f"{lake / table}: slot {gap.slot} has written {gap.written:,} records of "
                f"{gap.date}, its files hold {gap.found:,}; put back the files that are gone, or "
                "remove that day and restore it from an archive"
            )


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """Turns what the disk says into a line for a person."""
    try:
        yield
    except OSError as error:
        where = error.filename or place
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "make room there" if full else "see to it that it can be written"
        raise ArchiveError(
            f"{where}: {error.strerror or error}; {advice}, then do it again"
        ) from error
