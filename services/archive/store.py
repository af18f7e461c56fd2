"""An archive in a folder or bucket: what is there, and how a version comes into being."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dataflows.connectors.lake import DATE_COLUMN, SlotProgress
from services.archive.errors import ArchiveDamaged, ArchiveError
from services.archive.manifest import (
    ArchivedFile,
    Day,
    Manifest,
    TableProgress,
    damage,
    decode,
    encode,
    manifest_name,
)
from services.bundles.shelf import Shelf

_PATH = re.compile(rf"(?P<table>[^/]+)/{DATE_COLUMN}=(?P<date>[^/]+)/(?P<name>[^/]+)")
_PROGRESS = "progress.json"
_MANIFEST = re.compile(r"v(\d{6,})\.json")


class Choice(NamedTuple):
    """Tables, all if none is named, and a span of dates, both included."""

    tables: Sequence[str] = ()
    first: str = ""
    last: str = "~"  # sorts behind every date

    def holds(self, day: Day) -> bool:
        wanted = not self.tables or day.table in self.tables
        return wanted and self.first <= day.date <= self.last

    @property
    def is_of_all_dates(self) -> bool:
        return self[1:] == ("", "~")


class Kept(NamedTuple):
    """What the archive has of a day: versions that are complete, and data files by size."""

    versions: list[int]
    files: dict[str, int]


class Archive:
    """Raises TidegateError from every method if the place cannot be used."""

    def __init__(self, url: str):
        self._shelf = Shelf(url)
        self.url = self._shelf.url

    def refuse_within(self, lake: Path) -> None:
        """
        Raises:
            ArchiveError: the archive is in the lake, or the lake in it.
        """
        if (folder := self._shelf.folder) is None:
            return
        here, there = folder.resolve(), lake.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise ArchiveError(
                f"{self.url}: archive and lake ({lake}) cannot be in one another; choose another "
                "folder"
            )

    def days(self) -> dict[Day, Kept]:
        """Every day, sorted, also one of which no version is complete."""
        found: dict[Day, Kept] = {}
        for path, size in self._shelf.sizes().items():
            if parts := _PATH.fullmatch(path):
                kept = found.setdefault(Day(parts["table"], parts["date"]), Kept([], {}))
                if version := _MANIFEST.fullmatch(parts["name"]):
                    kept.versions.append(int(version[1]))
                elif parts["name"].endswith(".parquet"):
                    kept.files[parts["name"]] = size
        return {day: found[day] for day in sorted(found)}

    def chosen_days(self, choice: Choice) -> dict[Day, Kept]:
        """
        Raises:
            ArchiveError: no version of any is complete, or a table is asked for that is not there.
        """
        everything = self.days()
        if not any(kept.versions for kept in everything.values()):
            raise ArchiveError(
                f"{self.url}: holds no archive; `tidegate archive export {self.url}` makes one"
            )
        refuse_unknown(choice, sorted({day.table for day in everything}), self.url)
        chosen = {day: kept for day, kept in everything.items() if choice.holds(day)}
        if not any(kept.versions for kept in chosen.values()):
            dates = sorted(day.date for day, kept in everything.items() if kept.versions)
            raise ArchiveError(
                f"{self.url}: holds nothing of those dates; it has {dates[0]} to {dates[-1]}"
            )
        return chosen

    def manifest(self, day: Day, version: int) -> Manifest:
        """
        Raises:
            ArchiveDamaged: it is not what was written.
            ArchiveError: there is none, or a newer Tidegate wrote it.
        """
        origin = self.place(day, manifest_name(version))
        found = self._shelf.read(f"{day.path}/{manifest_name(version)}")
        if found is None:
            raise ArchiveError(
                f"{origin}: there is no such version; `tidegate archive list {self.url} "
                f"{day.table}` shows those that are there"
            )
        manifest = decode(found[0], Manifest, origin)
        if (manifest.day, manifest.version) != (day, version):
            raise ArchiveDamaged(
                f"{origin}: is of {manifest.day.path}, version {manifest.version}; put back the "
                "file that was here"
            )
        return manifest

    def newest(self, day: Day, kept: Kept) -> Manifest | None:
        return self.manifest(day, max(kept.versions)) if kept.versions else None

    def place(self, day: Day, name: str) -> str:
        """What a person calls a file of the archive."""
        return f"{self.url}/{day.path}/{name}"

    def fetch(self, day: Day, kept: Kept, file: ArchivedFile, into: Path) -> str | None:
        """Downloads a file; returns what is wrong with it, for a person."""
        if file.stored not in kept.files:
            return "is missing"
        self._shelf.download(f"{day.path}/{file.stored}", into)
        return damage(into, file)

    def store(self, day: Day, file: ArchivedFile, source: Path, kept: Kept) -> int:
        """Uploads a file unless it is there, whole; returns how many bytes went."""
        if kept.files.get(file.stored) == file.size:
            with tempfile.TemporaryDirectory(prefix="tidegate.") as scratch:
                if self.fetch(day, kept, file, Path(scratch) / file.name) is None:
                    return 0
        self._shelf.upload(source, f"{day.path}/{file.stored}")
        return file.size

    def publish(self, manifest: Manifest) -> None:
        """Makes a version complete, in one step; all of its files are there.

        Raises:
            ArchiveError: another export has just made that version.
        """
        if not self._shelf.write_new(f"{manifest.day.path}/{manifest.name}", encode(manifest)):
            raise ArchiveError(
                f"{self.place(manifest.day, manifest.name)}: another export has just written it; "
                "export again"
            )

    def tables_with_progress(self, choice: Choice) -> list[str]:
        """Those that were exported whole, also without a day."""
        found = [path.partition("/") for path in self._shelf.sizes()]
        return [
            table
            for table, _, name in found
            if name == _PROGRESS and (not choice.tables or table in choice.tables)
        ]

    def progress(self, table: str) -> dict[str, SlotProgress]:
        """How far each slot was at the last export of the whole table; of none if there was none.

        Raises:
            ArchiveDamaged: it is not what was written.
            ArchiveError: a newer Tidegate wrote it.
        """
        found = self._shelf.read(f"{table}/{_PROGRESS}")
        origin = f"{self.url}/{table}/{_PROGRESS}"
        return decode(found[0], TableProgress, origin).slots if found else {}

    def set_progress(self, table: str, slots: dict[str, SlotProgress]) -> None:
        self._shelf.write(f"{table}/{_PROGRESS}", encode(TableProgress(slots=slots)))


def refuse_unknown(choice: Choice, known: Sequence[str], where: object) -> None:
    for table in choice.tables:
        if table not in known:
            there = ", ".join(known) or "none"
            raise ArchiveError(f"{where}: has no table {table!r}; it has: {there}")
