"""From the archive to a lake: whole days, each in one step, as they were."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from dataflows.connectors.lake import resume_lake
from dataflows.durable import sync
from dataflows.durations import Duration
from dataflows.runtime.recovery import Lease
from services.archive.content import read_content
from services.archive.errors import ArchiveDamaged, ArchiveError
from services.archive.manifest import Manifest, describe_file
from services.archive.store import Archive, Choice, Kept
from services.archive.workplace import explained

Tell = Callable[[str], None]


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A day that is in the lake again."""

    table: str
    event_date: str
    version: int
    rows: int
    files: int


class RestoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """`unchanged` days were there already. The load flow cannot go on with tables `for_reading`."""

    archive: str
    lake: str
    restored: list[Restored]
    unchanged: int
    for_reading: list[str]
    seconds: float


class _Source(NamedTuple):
    manifest: Manifest
    kept: Kept


def restore(
    archive: Archive, choice: Choice, version: int | None, into: Path, tell: Tell
) -> RestoreReport:
    """Puts the newest version of each chosen day, or `version`, into the lake `into`.

    A day is there whole or not at all; one that is there with these rows is left alone, so that a
    restore that was cut off can be done again. Files have the names that they had and slots are
    where they were, so that the load flow goes on from there.

    Raises:
        LeaseHeld: somebody else restores into this lake.
        ArchiveError: the lake holds something else of those dates, or there is no such version.
        ArchiveDamaged: a file is not what was exported; nothing of its day is in the lake.
        TidegateError: the archive cannot be used.
    """
    began = time.monotonic()
    archive.refuse_within(into)
    sources = [
        _Source(archive.manifest(day, version or max(kept.versions)), kept)
        for day, kept in archive.chosen_days(choice).items()
        if kept.versions
    ]
    tables = {source.manifest.table for source in sources}
    tables.update(archive.tables_with_progress(choice))
    progress = {table: archive.progress(table) for table in sorted(tables)}
    restored = []
    with explained(into), _staging(into) as staging:
        missing = [source for source in sources if not _is_there(into, source.manifest)]
        for source in missing:
            tell(f"{source.manifest.table} {source.manifest.event_date}")
            restored.append(_restore_day(archive, source, into, staging))
        for_reading = [table for table in progress if resume_lake(into, table, progress[table])]
    return RestoreReport(
        archive=archive.url,
        lake=str(into),
        restored=restored,
        unchanged=len(sources) - len(restored),
        for_reading=for_reading,
        seconds=round(time.monotonic() - began, 3),
    )


@contextmanager
def _staging(lake: Path) -> Iterator[Path]:
    """An empty folder in the lake, but in no table of it; gone afterwards."""
    root = lake / "_restoring"
    lease = Lease(root, f"a restore into {lake}", Duration.parse("0s"))
    try:
        shutil.rmtree(root / "days", ignore_errors=True)
        yield root / "days"
    finally:
        shutil.rmtree(root, ignore_errors=True)
        lease.release()


def _is_there(lake: Path, manifest: Manifest) -> bool:
    folder = lake / manifest.day.path
    files = sorted(folder.glob("*"))
    if not files:
        return False
    same = list(map(describe_file, files)) == manifest.files
    if same or read_content(files, str(folder)) == manifest.content:
        return True
    raise ArchiveError(
        f"{folder}: holds something else already; restore into an empty directory with --into, "
        "choose other days with --from and --to, or move this one away"
    )


def _restore_day(archive: Archive, source: _Source, lake: Path, staging: Path) -> Restored:
    manifest, kept = source
    staged = staging / manifest.day.path
    staged.mkdir(parents=True)
    for file in manifest.files:
        if trouble := archive.fetch(manifest.day, kept, file, staged / file.name):
            raise ArchiveDamaged(
                f"{archive.place(manifest.day, file.stored)}: {trouble}; put that file back, or "
                "restore another version with --version"
            )
    called = archive.place(manifest.day, manifest.name)
    if read_content([staged / file.name for file in manifest.files], called) != manifest.content:
        raise ArchiveDamaged(
            f"{called}: its files hold other rows; restore another version with --version"
        )
    _put_in_place(staged, lake / manifest.day.path)
    return Restored(
        table=manifest.table,
        event_date=manifest.event_date,
        version=manifest.version,
        rows=manifest.content.rows,
        files=len(manifest.files),
    )


def _put_in_place(staged: Path, final: Path) -> None:
    for path in [*staged.iterdir(), staged]:
        sync(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(staged, final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise ArchiveError(
                f"{final}: somebody has just written there; stop the load flow, move that day "
                "away, and restore again"
            ) from error
        raise
    sync(final.parent)
