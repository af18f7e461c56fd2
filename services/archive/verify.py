"""Reads an archive back, all of it, and names what is not as it was written."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.archive.content import read_content
from services.archive.errors import ArchiveError
from services.archive.manifest import Day, Manifest, manifest_name
from services.archive.store import Archive, Choice, Kept

Tell = Callable[[str], None]


class Problem(msgspec.Struct, frozen=True):
    """A file of the archive, and what is wrong with it."""

    file: str
    trouble: str

    def __str__(self) -> str:
        return f"{self.file}: {self.trouble}"


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """`unnamed`: data files of no version, which a cut-off export leaves."""

    archive: str
    versions: int
    files: int
    bytes: int
    rows: int
    problems: list[Problem]
    unnamed: list[str]
    seconds: float


def verify(archive: Archive, choice: Choice, tell: Tell) -> VerifyReport:
    """Compares every file and row of every version of the chosen days with the manifests.

    Raises:
        ArchiveError: there is no archive, or nothing of those tables and dates.
        TidegateError: the archive cannot be used.
    """
    began = time.monotonic()
    counts = {"versions": 0, "files": 0, "bytes": 0, "rows": 0}
    problems: list[Problem] = []
    unnamed: list[str] = []
    chosen = archive.chosen_days(choice)
    for table in archive.tables_with_progress(choice):
        try:
            archive.progress(table)
        except ArchiveError as error:
            problems.append(_problem(error))
    for day, kept in chosen.items():
        tell(f"{day.table} {day.date}")
        checked = _Checked(archive, day, kept)
        problems += checked.problems
        if len(checked.manifests) == len(kept.versions):  # else they may be of one that is broken
            spare = sorted(kept.files.keys() - checked.named)
            unnamed += [archive.place(day, name) for name in spare]
        counts["versions"] += len(checked.manifests)
        counts["rows"] += sum(manifest.content.rows for manifest in checked.manifests)
        counts["files"] += len(checked.named)
        counts["bytes"] += sum(kept.files.get(name, 0) for name in checked.named)
    return VerifyReport(
        archive=archive.url,
        **counts,
        problems=problems,
        unnamed=unnamed,
        seconds=round(time.monotonic() - began, 3),
    )


class _Checked:
    """A day of the archive, read back."""

    def __init__(self, archive: Archive, day: Day, kept: Kept):
        self._archive, self._day, self._kept = archive, day, kept
        self.problems: list[Problem] = []
        self.manifests: list[Manifest] = []
        self.named: set[str] = set()
        for version in range(1, max(kept.versions, default=0) + 1):
            self._read_manifest(version)
        with tempfile.TemporaryDirectory(prefix="tidegate.") as scratch:
            whole = self._fetch(Path(scratch))
            for manifest in self.manifests:
                self._compare(manifest, Path(scratch), whole)

    def _read_manifest(self, version: int) -> None:
        if version not in self._kept.versions:
            self._complain(manifest_name(version), "is missing")
            return
        try:
            manifest = self._archive.manifest(self._day, version)
        except ArchiveError as error:
            self.problems.append(_problem(error))
            return
        self.manifests.append(manifest)
        self.named |= {file.stored for file in manifest.files}

    def _fetch(self, scratch: Path) -> set[str]:
        """Downloads every file that a manifest names; returns those that are as described."""
        described = {file.stored: file for m in self.manifests for file in m.files}
        whole = set()
        for name, file in sorted(described.items()):
            if trouble := self._archive.fetch(self._day, self._kept, file, scratch / name):
                self._complain(name, trouble)
            else:
                whole.add(name)
        return whole

    def _compare(self, manifest: Manifest, scratch: Path, whole: set[str]) -> None:
        names = [file.stored for file in manifest.files]
        if not whole.issuperset(names):
            return  # said already
        called = self._archive.place(self._day, manifest.name)
        try:
            content = read_content([scratch / name for name in names], called)
        except ArchiveError as error:
            self.problems.append(_problem(error))
            return
        if content != manifest.content:
            self._complain(manifest.name, "its files hold other rows")

    def _complain(self, name: str, trouble: str) -> None:
        self.problems.append(Problem(self._archive.place(self._day, name), trouble))


def _problem(error: ArchiveError) -> Problem:
    file, _, trouble = str(error).partition(": ")
    return Problem(file, trouble)
