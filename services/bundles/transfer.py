"""Export and restore: from the local volume of a stopped slot to a shelf, and back.

The state that a slot works on lies on a local volume, always, under a lock of the file system.
A shelf only holds bundles, under a lease of its own.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec

from dataflows.connectors.log import Log
from dataflows.durable import sync
from dataflows.errors import TidegateError
from dataflows.runtime.recovery import JOURNAL, STORE, Lease
from dataflows.runtime.slot import SNAPSHOT_VERSION, Slot
from services.bundles.bundle import FORMAT, Manifest, describe_files, read_bundle, write_bundle
from services.bundles.lease import SharedLease
from services.bundles.shelf import Shelf
from services.bundles.store import SlotState, check_pickles, copy_state, read_state, store_file

KEEP = 3  # bundles of a slot
SUFFIX = ".bundle"


class Transferred(msgspec.Struct, frozen=True, kw_only=True):
    """What was exported or restored."""

    slot: str
    bundle: str
    offset: int
    replays: int  # offsets between the state and what is published: read again, not published again
    bytes: int


class Found(NamedTuple):
    """A bundle on a shelf."""

    slot: str
    number: int
    name: str


def export_slot(slot: Slot, shelf: Shelf) -> Transferred | None:
    """Puts a bundle of a slot that does not run on the shelf; None if it has no state yet.

    Raises:
        LeaseHeld: the slot runs, or somebody is at work on its bundles.
        TidegateError: the state is damaged, or the shelf cannot be used.
    """
    with _stopped(slot):
        state = read_state(slot.directory)
        if state is None:
            return None
        with _at_work(shelf, slot.name) as number, _scratch(slot) as scratch:
            names = copy_state(slot.directory, state, scratch)
            manifest = _describe(slot, state, scratch, names)
            packed = scratch / "packed"
            write_bundle(manifest, scratch, packed)
            name = f"{slot.name}.{number:08d}{SUFFIX}"
            shelf.upload(packed, name)
            for old in [b for b in find_bundles(shelf) if b.slot == slot.name][:-KEEP]:
                shelf.remove(old.name)
    return _transferred(manifest, name, manifest.published_to)


def _describe(slot: Slot, state: SlotState, scratch: Path, names: list[Path]) -> Manifest:
    return Manifest(
        format=FORMAT,
        slot=slot.name,
        flow=slot.flow,
        topic=slot.topic,
        partition=slot.partition,
        partitions=slot.log.partitions(slot.topic),
        log=slot.log.identity(slot.topic),
        offset=state.offset,
        published_to=published_to(slot.log, slot.name),
        state_version=state.version,
        fingerprint=state.fingerprint,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        made_by=version("tidegate"),
        files=describe_files(scratch, names),
    )


def find_bundles(shelf: Shelf) -> list[Found]:
    """Every bundle there, by slot, the newest last."""
    found = []
    for name in shelf.names():
        slot, _, number = name.removesuffix(SUFFIX).rpartition(".")
        if name.endswith(SUFFIX) and slot and number.isdecimal():
            found.append(Found(slot, int(number), name))
    return sorted(found)


def newest_bundles(shelf: Shelf) -> dict[str, str]:
    """The name of the newest bundle of each slot."""
    return {found.slot: found.name for found in find_bundles(shelf)}


def restore_slot(slot: Slot, shelf: Shelf, name: str) -> Transferred:
    """Makes what a bundle holds the state of a slot that does not run.

    Raises:
        LeaseHeld: the slot runs, or somebody is at work on its bundles.
        BundleDamaged: the bundle is torn.
        TidegateError: it belongs to another slot, log or partition count, or to a newer version.
    """
    with _stopped(slot), _at_work(shelf, slot.name), _scratch(slot) as scratch:
        packed, unpacked = scratch / "packed", scratch / "unpacked"
        shelf.download(name, packed)
        manifest = read_bundle(packed, unpacked, f"{shelf.url}/{name}")
        published = published_to(slot.log, slot.name)
        _refuse_a_stranger(slot, manifest, f"{shelf.url}/{name}", published)
        check_pickles(store_file(unpacked))
        _put_in_place(unpacked, slot.directory)
    return _transferred(manifest, name, published)


def _refuse_a_stranger(slot: Slot, bundle: Manifest, origin: str, published: int | None) -> None:
    partitions = slot.log.partitions(slot.topic)
    low, _ = slot.log.offsets(slot.topic, slot.partition)
    if bundle.slot != slot.name:
        raise TidegateError(f"{origin}: is of slot {bundle.slot}, not of {slot.name}")
    if bundle.partitions != partitions:
        raise TidegateError(
            f"{origin}: was made when {slot.topic} had {bundle.partitions} partition(s), now it "
            f"has {partitions}: keys and state hang on that number; configure the former"
        )
    if bundle.log != slot.log.identity(slot.topic):
        raise TidegateError(
            f"{origin}: belongs to another log ({bundle.log}), this is "
            f"{slot.log.identity(slot.topic)}; run it on its own log, or rebuild the state from "
            f"this one with `tidegate reset {slot.flow}`"
        )
    if bundle.state_version > SNAPSHOT_VERSION:
        raise TidegateError(
            f"{origin}: holds state of version {bundle.state_version}, this code reads up to "
            f"{SNAPSHOT_VERSION}; use the version of Tidegate that wrote it ({bundle.made_by})"
        )
    if bundle.offset > (low if published is None else published):
        raise TidegateError(
            f"{origin}: its state ends at offset {bundle.offset}, but the log knows of nothing "
            f"published after {low if published is None else published}: it is an older copy of "
            "the log; restore the log as well"
        )
    if bundle.offset < low:
        raise TidegateError(
            f"{origin}: its state ends at offset {bundle.offset}, but retention has removed the "
            f"records up to {low - 1}; use a newer bundle, or accept the gap with "
            f"`tidegate reset {slot.flow}`"
        )


def _put_in_place(unpacked: Path, directory: Path) -> None:
    """A kill in between leaves a state that refuses to start, and restoring again mends it."""
    (unpacked / JOURNAL).mkdir(exist_ok=True)
    for folder in (STORE, JOURNAL):
        _sync_tree(unpacked / folder)
    for folder in (STORE, JOURNAL):
        shutil.rmtree(directory / folder, ignore_errors=True)
    for folder in (JOURNAL, STORE):
        (unpacked / folder).rename(directory / folder)
    sync(directory)


def _sync_tree(directory: Path) -> None:
    for path in [*directory.iterdir(), directory]:
        sync(path)


def published_to(log: Log, slot: str) -> int | None:
    """The slot's next input offset whose outputs are not yet there."""
    marker = log.markers().get(slot)
    return marker.next_offset if marker else None


def _transferred(manifest: Manifest, name: str, published: int | None) -> Transferred:
    return Transferred(
        slot=manifest.slot,
        bundle=name,
        offset=manifest.offset,
        replays=max((published or 0) - manifest.offset, 0),
        bytes=manifest.size,
    )


@contextmanager
def _stopped(slot: Slot) -> Iterator[None]:
    """Holds the slot's own lease, so that it cannot run meanwhile."""
    lease = Lease(slot.directory, f"slot {slot.name}", slot.config.slots.lease_wait)
    try:
        yield
    finally:
        lease.release()


@contextmanager
def _at_work(shelf: Shelf, slot: str) -> Iterator[int]:
    lease = SharedLease(shelf, slot)
    try:
        yield lease.number
    finally:
        lease.release()


@contextmanager
def _scratch(slot: Slot) -> Iterator[Path]:
    """A folder beside the slot's state, on the same file system."""
    with tempfile.TemporaryDirectory(dir=slot.directory, prefix="transfer.") as directory:
        yield Path(directory)
