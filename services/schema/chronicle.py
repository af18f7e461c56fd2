"""Every change of the contracts that was accepted, in order."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dataflows.contracts import accepted_changes
from dataflows.contracts.history import AcceptedChange


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What was accepted of a source at once. `date` is null where nobody wrote it down."""

    source: str
    date: str | None
    version: str
    changes: list[AcceptedChange]


def chronicle(schemas: Path) -> list[Recorded]:
    """All of them by day, then by source; raises ContractError."""
    recorded = [
        Recorded(source=source, date=entry.date, version=entry.version, changes=entry.changes)
        for source, entries in accepted_changes(schemas).items()
        for entry in entries
    ]
    return sorted(recorded, key=lambda entry: (entry.date or "", entry.source))
