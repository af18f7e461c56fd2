"""What the archive's own files say: a version of a day, how far a table was; and their text."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from dataflows.connectors.lake import DATE_COLUMN, SlotProgress
from services.archive.content import Content
from services.archive.errors import ArchiveDamaged, ArchiveError

FORMAT = 1


class Day(NamedTuple):
    """A partition of the lake."""

    table: str
    date: str  # 2026-11-23

    @property
    def path(self) -> str:
        return f"{self.table}/{DATE_COLUMN}={self.date}"


class ArchivedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the lake; `size` in bytes."""

    name: str
    size: int
    sha256: str

    @property
    def stored(self) -> str:
        """Its name in the archive: another content has another one."""
        return f"{self.name.removesuffix('.parquet')}.{self.sha256[:16]}.parquet"


class Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that says by itself whether it is what was written: `sha256` is of all the rest."""

    format: int = FORMAT
    sha256: str = ""


class Manifest(Sealed, frozen=True, kw_only=True):
    """What a version holds."""

    table: str
    event_date: str
    version: int
    contract: str | None  # version; None for what flows make themselves
    content: Content
    files: list[ArchivedFile]
    made_at: str
    made_by: str  # version of Tidegate

    @property
    def day(self) -> Day:
        return Day(self.table, self.event_date)

    @property
    def name(self) -> str:
        return manifest_name(self.version)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


class TableProgress(Sealed, frozen=True, kw_only=True):
    """How far each slot was when all days of a table were last exported."""

    slots: dict[str, SlotProgress]


def manifest_name(version: int) -> str:
    return f"v{version:06d}.json"


def describe_file(file: Path) -> ArchivedFile:
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return ArchivedFile(file.name, file.stat().st_size, digest)


def damage(file: Path, described: ArchivedFile) -> str | None:
    """How a file differs from its description, for a person; None if it does not."""
    found = describe_file(file)
    if found.size < described.size:
        return f"half of it is there: {found.size:,} of {described.size:,} bytes"
    if found.sha256 != described.sha256:
        return "changed since it was written"
    return None


_Document = TypeVar("_Document", bound=Sealed)


def encode(document: Sealed) -> bytes:
    sealed = msgspec.structs.replace(document, sha256=_seal(document))
    return msgspec.json.format(msgspec.json.encode(sealed)) + b"\n"


def decode(text: bytes, kind: type[_Document], origin: str) -> _Document:
    """
    Raises:
        ArchiveDamaged: it is torn, or not what was written.
        ArchiveError: a newer version wrote it.
    """
    advice = "put it back, or remove it and export again"
    try:
        version = msgspec.json.decode(text, type=_Formatted).format
        if version > FORMAT:
            raise ArchiveError(
                f"{origin}: is of format {version}, this code reads up to {FORMAT}; use the "
                "version of Tidegate that wrote it"
            )
        document = msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArchiveDamaged(f"{origin}: cannot be read any more ({error}); {advice}") from error
    if document.sha256 != _seal(document):
        raise ArchiveDamaged(f"{origin}: changed since it was written; {advice}")
    return document


class _Formatted(msgspec.Struct):
    format: int


def _seal(document: Sealed) -> str:
    rest = msgspec.structs.replace(document, sha256="")
    return hashlib.sha256(msgspec.json.encode(rest, order="sorted")).hexdigest()
