"""The state of a slot under one key: snapshotted whole as bytes, or, where that would hold up the
stream, as a reference into a journal of changed rows."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import bytewax.operators as op
import msgspec
from bytewax.operators import KeyedStream, StatefulBatchLogic

from dataflows.connectors.records import Records
from dataflows.decodable import make_decodable
from dataflows.eventtime.changed_rows import Changes
from dataflows.eventtime.snapshots import Buffer, SnapshotError
from dataflows.runtime.handover import handed_over
from dataflows.runtime.journal import Journal, JournalDamaged, Reference
from dataflows.runtime.recovery import JOURNAL
from dataflows.runtime.slot import Refused, Slot, StateUnwritable

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)

S = TypeVar("S", bound="Rows")

STATE_VERSION: Final = 3  # 2 did not say which records the state has seen
_MAGIC: Final = b"\xc1tide"  # no snapshot of version 1 begins like this


class State(Protocol[In, Out]):
    """The state of one slot. A pure function of the records it has seen."""

    def process(self, batch: In) -> Out: ...

    def snapshot(self) -> bytes: ...


class Rows(Protocol):
    """A state that knows which of its rows have changed."""

    def snapshot(self) -> bytes: ...

    @property
    def snapshot_bytes(self) -> int:
        """About how long a snapshot would be; asked for before each."""
        ...

    def changes(self, everything: bool = False) -> Changes:
        """What changed since the last call, or everything."""
        ...


class LargeState(State[In, Out], Rows, Protocol[In, Out]):
    """The state of one slot that may become large."""


def keep_state(
    step_id: str,
    up: KeyedStream[In],
    slot: Slot,
    restore: Callable[[bytes | None], State[In, Out]],
    is_handed_over: bool = True,
) -> KeyedStream[Out]:
    """Runs each batch through the slot's state, which is snapshotted as bytes.

    A state that is handed over in the log replaces it, unless it is not that of the flow.
    """

    def build(resume: bytes | None) -> _Logic:
        return _Logic(slot, resume, lambda saved: _Whole(restore, saved), is_handed_over)

    return op.stateful_batch(step_id, up, build)


def keep_large_state(
    step_id: str,
    up: KeyedStream[In],
    slot: Slot,
    restore: Callable[[Iterable[Buffer]], LargeState[In, Out]],
) -> KeyedStream[Out]:
    """As `keep_state`; from `slots.journal_above_bytes` on only what changed is written.

    `restore` gets no frame at the very start, a whole snapshot, or what `changes` gave, oldest
    first, since it was complete.
    """

    def keep(saved: Saved | None) -> Keeper[Any]:
        directory, limit = slot.directory / JOURNAL, slot.config.slots.journal_above_bytes
        return Keeper(directory, limit, restore, saved)

    return op.stateful_batch(step_id, up, lambda resume: _Logic(slot, resume, keep))


class _Body(msgspec.Struct, array_like=True):
    whole: memoryview | None
    journal: Reference = ()
    next_offset: int = 0


make_decodable(_Body)


class Saved(NamedTuple):
    """What a snapshot says: the state itself, or where in the journal it is, and the offset behind
    the last record that it has seen."""

    version: int
    whole: Buffer | None
    journal: Reference = ()
    next_offset: int = 0

    def encode(self) -> bytes:
        body = (self.whole, self.journal, self.next_offset)
        return b"".join((_MAGIC, bytes([self.version]), msgspec.msgpack.encode(body)))


_decode_body = msgspec.msgpack.Decoder(_Body).decode


def read_saved(resume: bytes) -> Saved:
    """A snapshot of any version that this code knows.

    Raises SnapshotError if a newer one wrote it, or it is damaged.
    """
    if not resume.startswith(_MAGIC):
        return Saved(1, resume)
    version, body = resume[len(_MAGIC)], memoryview(resume)[len(_MAGIC) + 1 :]
    if version > STATE_VERSION:
        raise SnapshotError(
            f"it has version {version}, this code reads up to {STATE_VERSION}; start the version "
            "of Tidegate that wrote it"
        )
    try:
        found = _decode_body(body)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"it is damaged ({error}); restore it") from error
    return Saved(version, found.whole, found.journal, found.next_offset)


class Keeper(Generic[S]):
    """A state and how it is kept: whole while it is small, in a journal once it is large."""

    def __init__(
        self,
        directory: Path,
        limit: int,
        restore: Callable[[Iterable[Buffer]], S],
        saved: Saved | None,
    ):
        """Goes on from what was saved. From `limit` bytes on the journal in `directory` is used,
        down to half of it, lest a state at the limit be written whole again and again."""
        self._limit, self._restore = limit, restore
        self._in_journal = bool(saved and saved.journal)
        self._replaced = False  # so that what is in the journal is of another state
        self._journal = Journal(directory, saved.journal if saved else ())
        whole = [saved.whole] if saved and saved.whole is not None else []
        self.state = restore(self._journal.frames() if self._in_journal else whole)

    @property
    def state_bytes(self) -> int:
        return self.state.snapshot_bytes

    def replace(self, whole: bytes) -> None:
        """Goes on from another state, given as a snapshot."""
        self.state = self._restore([whole])
        self._replaced = True

    def save(self, next_offset: int = 0) -> bytes:
        """A snapshot; what the one before it refers to is kept until the next call."""
        limit = self._limit // 2 if self._in_journal else self._limit
        if self.state.snapshot_bytes >= limit:
            changes = self.state.changes(everything=self._replaced or not self._in_journal)
            self._in_journal, self._replaced = True, False
            journal = self._journal.append(changes)
            return Saved(STATE_VERSION, None, journal, next_offset).encode()
        self._journal.drop_obsolete()
        if self._in_journal:
            self._journal.retire()
            self._in_journal = False
        return Saved(STATE_VERSION, self.state.snapshot(), (), next_offset).encode()


class _Whole:
    """A state that is always written whole."""

    def __init__(self, restore: Callable[[bytes | None], State[Any, Any]], saved: Saved | None):
        whole = bytes(saved.whole) if saved and saved.whole is not None else None
        self._restore = restore
        self.state, self.state_bytes = restore(whole), 0

    def replace(self, whole: bytes) -> None:
        self.state = self._restore(whole)

    def save(self, next_offset: int) -> bytes:
        blob = self.state.snapshot()
        self.state_bytes = len(blob)
        return Saved(STATE_VERSION, blob, (), next_offset).encode()


class _Logic(StatefulBatchLogic[Any, Any, bytes]):
    def __init__(
        self,
        slot: Slot,
        resume: bytes | None,
        keep: Callable[[Saved | None], Keeper[Any] | _Whole],
        is_handed_over: bool = True,
    ):
        self._slot, self._is_handed_over = slot, is_handed_over
        try:
            saved = None if resume is None else read_saved(resume)
            self._next_offset = saved.next_offset if saved else 0
            self._kept = keep(saved)
        except Exception as error:
            slot.fail(_explained(slot, error))

    def on_batch(self, values: list[Any]) -> tuple[list[Any], bool]:
        try:
            return [self._process(value) for value in values], self.RETAIN
        except Exception as error:
            self._slot.fail(error)

    def _process(self, value: Any) -> Any:
        """Every batch has its `records`; those of a state that is handed over come alone."""
        self._take_note(value.records)
        if self._is_handed_over and value.records.headers is not None:
            state = handed_over(value.records, self._slot.flow, self._slot.log)
            if state is not None:
                self._kept.replace(state)
        return self._kept.state.process(value)

    def _take_note(self, records: Records) -> None:
        """Refuses records that the state has seen: whatever brought them again, they count once."""
        first = int(records.offsets[0])
        if first < self._next_offset:
            raise Refused(
                f"slot {self._slot.name}: its state has seen the records before offset "
                f"{self._next_offset}, and is given those from {first} on once more, which would "
                f"count twice; rebuild it from the log with `tidegate reset {self._slot.flow}`"
            )
        self._next_offset = int(records.offsets[-1]) + 1

    def on_eof(self) -> tuple[list[Any], bool]:
        return [], self.RETAIN  # the end of a run is not the end of the data

    def snapshot(self) -> bytes:
        started = time.monotonic()
        try:
            blob = self._kept.save(self._next_offset)
        except Exception as error:
            self._slot.fail(_explained(self._slot, error))
        self._slot.stats.snapshotted(self._kept.state_bytes, time.monotonic() - started)
        return blob


def _explained(slot: Slot, error: Exception) -> Exception:
    """In words for a person: what is wrong with the slot's state, and what to do."""
    place = f"slot {slot.name}: its state in {slot.directory}"
    if isinstance(error, JournalDamaged):
        return Refused(
            f"{place} is damaged ({error}); restore it, or rebuild it from the log with "
            f"`tidegate reset {slot.flow}`"
        )
    if isinstance(error, SnapshotError):
        return Refused(
            f"{place} cannot be gone on from: {error}, or rebuild the state from the log with "
            f"`tidegate reset {slot.flow}`"
        )
    if isinstance(error, OSError):
        reason = "the disk is full; make room" if error.errno == errno.ENOSPC else error.strerror
        return StateUnwritable(f"{place} cannot be written or read: {reason}")
    return error
