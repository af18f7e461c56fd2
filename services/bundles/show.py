"""What there is: the state of slots on this machine, and bundles on a shelf."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from dataflows.runtime.recovery import JOURNAL
from dataflows.runtime.slot import Slot
from services.bundles.shelf import Shelf
from services.bundles.store import read_state, store_file
from services.bundles.transfer import find_bundles, published_to


class LocalState(msgspec.Struct, frozen=True, kw_only=True):
    """A slot's last snapshot. `replays` offsets are read again at the next start."""

    slot: str
    offset: int
    published_to: int | None
    replays: int
    bytes: int
    kept: str  # "whole" or "journal"; "none" for a slot that only has an offset
    version: int
    written_at: str

    def line(self) -> str:
        return (
            f"{self.slot}: offset {self.offset:,}, published to {self.published_to or 0:,}, "
            f"{self.bytes:,} bytes ({self.kept}, version {self.version}), {self.written_at}"
        )


def local_states(slots: Sequence[Slot]) -> list[LocalState]:
    """The state of those of the slots that have one."""
    return [found for slot in slots if (found := _local_state(slot)) is not None]


def _local_state(slot: Slot) -> LocalState | None:
    state = read_state(slot.directory)
    if state is None:
        return None
    published = published_to(slot.log, slot.name)
    files = [store_file(slot.directory), *(slot.directory / JOURNAL).glob("*")]
    written = max(file.stat().st_mtime for file in files)
    return LocalState(
        slot=slot.name,
        offset=state.offset,
        published_to=published,
        replays=max((published or 0) - state.offset, 0),
        bytes=sum(file.stat().st_size for file in files),
        kept="none" if state.saved is None else "journal" if state.journal else "whole",
        version=state.version,
        written_at=datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds"),
    )


class ShelvedBundle(msgspec.Struct, frozen=True):
    slot: str
    number: int
    name: str

    def line(self) -> str:
        return f"{self.slot}: bundle {self.number} ({self.name})"


def bundles_in(url: str) -> list[ShelvedBundle]:
    """The bundles on a shelf, the newest of a slot last."""
    return [ShelvedBundle(*found) for found in find_bundles(Shelf(url))]
