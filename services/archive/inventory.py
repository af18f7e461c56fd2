"""What an archive says that it holds."""

from __future__ import annotations

import msgspec

from services.archive.content import Span
from services.archive.store import Archive, Choice


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A complete version of a day; `bytes` of its files, those shared with other versions too."""

    table: str
    event_date: str
    version: int
    newest: bool
    rows: int
    files: int
    bytes: int
    contract: str | None
    lineage: list[Span]
    made_at: str


def inventory(archive: Archive, choice: Choice) -> list[Listed]:
    """Every complete version of the chosen days, by table, date and version.

    Raises:
        ArchiveError: there is no archive, or nothing of those tables and dates.
        ArchiveDamaged: a manifest is not what was written.
    """
    return [
        Listed(
            table=day.table,
            event_date=day.date,
            version=version,
            newest=version == max(kept.versions),
            rows=manifest.content.rows,
            files=len(manifest.files),
            bytes=manifest.size,
            contract=manifest.contract,
            lineage=manifest.content.lineage,
            made_at=manifest.made_at,
        )
        for day, kept in archive.chosen_days(choice).items()
        for version in sorted(kept.versions)
        for manifest in [archive.manifest(day, version)]
    ]
