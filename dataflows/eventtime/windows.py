"""Exact sliding windows (t - w, t] per entity over event time.

Every record is answered at once from the events that have arrived so far, itself included, whose
event time lies in (t - w, t]. Nothing is bucketed and sums are of integers, so the answer is exact
and does not depend on where batches are cut. An event out of order goes to its place in time and is
answered as of that time; answers already given are not taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime import windows_kernel as kernel
from dataflows.eventtime.changed_rows import ChangedRows, Changes
from dataflows.eventtime.name_table import NO_NAME, NameRows, NameTable, encode_names
from dataflows.eventtime.snapshots import (
    Buffer,
    check_configuration,
    decode_snapshot,
    pack,
    unpack,
)

SNAPSHOT_VERSION = 2
_FIRST_ENTITIES = 1024
_FIRST_EVENTS = 8192
_RESTORE_AT_ONCE = 65_536
_KEEP_IDLE = 4096
SWEEP = 4  # entities looked at for each record: of those kept, at most so many in one have expired


@dataclass(frozen=True, slots=True)
class WindowColumns:
    """Answers for n records, W windows and M others, in the order they were declared.

    Rows of records without an entity are zero; `since_us` is -1 there, as it is for an event with
    no earlier one within the retention.
    """

    counts: NDArray[np.int64]  # [W, n] events in the window
    sums: NDArray[np.int64]  # [W, n] sum of their values
    maxima: NDArray[np.int64]  # [W, n] greatest value among them
    distinct: NDArray[np.int64]  # [W, M, n] distinct others among them
    seen: NDArray[np.bool_]  # [M, n] the entity had this other, in (t - retention, t - settle]
    since_us: NDArray[np.int64]  # [n] time since the entity's previous event, by event time


class SlidingWindows:
    """Counts, integer sums, maxima and distinct others of every entity's events in (t - w, t].

    windows_us: the windows, each from 1 us up to the retention.
    lateness_us: how far behind the watermark an event may be and still be answered exactly.
    others: how many ids an event carries whose distinct values are counted (cards, devices).
    retention_us: how far back "seen before" and "time since" look; the longest window by default.
    settle_us: an other counts as seen before only once it was, this long ago; at once by default.

    An event expires once its time <= watermark - lateness - retention: no event that may still come
    can reach it. An event that arrives expired is answered with itself alone and not kept. Memory
    is flat arrays, 16 bytes an event and 12 more for each other, in slabs of 4, 8, 16... events;
    entities without events are removed as later records come.
    """

    def __init__(
        self,
        windows_us: Sequence[int],
        lateness_us: int,
        others: int = 1,
        retention_us: int | None = None,
        settle_us: int = 0,
    ) -> None:
        longest = max(windows_us, default=0)
        self.retention_us = longest if retention_us is None else retention_us
        if not windows_us or min(windows_us) < 1 or lateness_us < 0 or others < 0:
            raise ValueError("windows of at least 1 us, lateness and others of at least 0")
        if self.retention_us < longest or not 0 <= settle_us < self.retention_us:
            raise ValueError("the retention must cover the longest window and the time to settle")
        self.windows_us = tuple(windows_us)
        self.lateness_us = lateness_us
        self.others = others
        self.settle_us = settle_us
        self._windows = np.array(self.windows_us, dtype=np.int64)
        self._clear()

    def _clear(self) -> None:
        self._names = NameTable()
        self._other_names = [NameTable() for _ in range(self.others)]
        self._named = np.zeros(_FIRST_ENTITIES, dtype=np.bool_)
        self._pool = _new_pool(_FIRST_EVENTS, self.others)
        self._entities = _new_entities(_FIRST_ENTITIES, len(self.windows_us), self.others)
        self._references = _new_references(_FIRST_ENTITIES, self.others)
        self._changed = np.zeros(_FIRST_ENTITIES, np.uint8)
        self._rounds = ChangedRows(1)
        self._renumbered = False  # so that rows written before mean others now
        self._cursor = 0

    def __len__(self) -> int:
        """Entities that have events."""
        return len(self._names)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, and of those of the names."""
        arrays = (*self._pool, *self._references, self._entities)
        names = (self._names, *self._other_names)
        return sum(array.nbytes for array in arrays) + sum(table.nbytes for table in names)

    def process(
        self,
        entities: Sequence[str | None],
        times_us: NDArray[np.int64],
        values: NDArray[np.int64],
        others: Sequence[Sequence[str | None]],
        watermarks_us: NDArray[np.int64],
    ) -> WindowColumns:
        """Answer n records, in order of arrival.

        `others` holds M sequences of n; a missing other is not counted. `watermarks_us[i]` is the
        watermark when record i arrives and never falls; one more may say how far it came after
        them. A record without an entity only carries its watermark.
        """
        n = len(entities)
        answers = self._answers(n)
        if len(watermarks_us) == 0:
            return _columns(answers)
        slots = self._names.ids(entities)
        other_ids = np.empty((n, self.others), dtype=np.int32)
        for m, names in enumerate(others):
            other_ids[:, m] = self._other_names[m].ids(names)
        floors = watermarks_us - (self.lateness_us + self.retention_us)
        self._grow_to_names()
        known = slots[slots != NO_NAME]
        self._named[known] = True
        self._changed[known] = 1
        self._slide(slots, times_us, values, other_ids, floors, answers)
        self._sweep(int(floors[-1]), budget=SWEEP * (n + 16))
        for m in range(self.others):
            self._forget_others(m)
        if self._names.is_sparse:
            self._shrink()
        return _columns(answers)

    def _slide(
        self,
        slots: NDArray[np.int32],
        times_us: NDArray[np.int64],
        values: NDArray[np.int64],
        other_ids: NDArray[np.int32],
        floors: NDArray[np.int64],
        answers: kernel.Answers,
    ) -> None:
        done = 0
        while True:
            done = kernel.slide(
                self._pool,
                self._references,
                self._entities,
                self._windows,
                self.retention_us,
                self.settle_us,
                slots,
                times_us,
                values,
                other_ids,
                floors,
                answers,
                done,
            )
            if done == slots.size:
                return
            self._pool = _grown_pool(self._pool)

    def _answers(self, n: int) -> kernel.Answers:
        return kernel.Answers(
            windows=np.zeros((len(self.windows_us), 3 + self.others, n), np.int64),
            seen=np.zeros((self.others, n), np.bool_),
            since=np.full(n, kernel.NO_PREVIOUS, np.int64),
        )

    def _grow_to_names(self) -> None:
        """Room for every id given out."""
        room = self._names.room
        if room > self._named.size:
            unused = _new_entities(2 * room, len(self.windows_us), self.others)
            unused[: self._named.size] = self._entities
            self._entities = unused
            more = 2 * room - self._named.size
            self._named = np.pad(self._named, (0, more))
            self._changed = np.pad(self._changed, (0, more))
        most = max((names.room for names in self._other_names), default=0)
        if most > self._references.held.shape[1]:
            self._references = _grown_references(self._references, 2 * most)

    def _sweep(self, floor: int, budget: int) -> None:
        """Look at the next entities in turn; free those whose events have all expired."""
        room = self._names.room
        if not room:
            return
        looks = min(budget, room)
        empty = np.empty(looks, np.int32)
        found = kernel.sweep(
            self._pool,
            self._references,
            self._entities,
            self._named[:room],
            self._cursor,
            floor,
            empty,
        )
        self._cursor = (self._cursor + looks) % room
        self._named[empty[:found]] = False
        self._changed[empty[:found]] = 1
        self._names.forget(empty[:found])

    def _forget_others(self, m: int) -> None:
        """Free the ids that no event names, once they are many: most come back soon."""
        references, names = self._references, self._other_names[m]
        idle = references.idle[m, : references.idle_length[m]]
        if idle.size <= max(_KEEP_IDLE, len(names) // 2):
            return
        names.forget(idle[references.held[m, idle] == 0])
        references.is_idle[m, idle] = False
        references.idle_length[m] = 0

    @property
    def snapshot_bytes(self) -> int:
        """About how long a snapshot would be."""
        events = int(self._pool.slabs[kernel.SIZE_CLASSES]) * (16 + 4 * self.others)
        names = (self._names, *self._other_names)
        return events + sum(8 * len(table) + table.text_bytes for table in names)

    def snapshot(self) -> bytes:
        """The whole state as versioned bytes; restoring them goes on bit-identically."""
        slots = np.flatnonzero(self._entities[:, kernel.END]).astype(np.int32)
        return b"".join(self._frame(slots, everything=True))

    def changes(self, everything: bool = False) -> Changes:
        """What is to be written down since the last call, so that `restore` finds this state."""
        everything |= self._renumbered
        (slots,), complete = self._rounds.take((self._changed,), (self._names.room,), everything)
        self._renumbered = False
        return Changes(self._frame(slots, everything), complete)

    def _frame(self, slots: NDArray[np.int32], everything: bool) -> list[Buffer]:
        """The events of these entities, with the names that they need."""
        lengths = self._entities[slots, kernel.END] - self._entities[slots, kernel.START]
        n = int(lengths.sum())
        times, values = np.empty(n, np.int64), np.empty(n, np.int64)
        others = np.empty((self.others, n), np.int32)
        kernel.gather(self._pool, self._entities, slots, times, values, others)
        other_names = []
        for m, names in enumerate(self._other_names):
            used, compact = np.unique(others[m], return_inverse=True)
            missing = int(used.size > 0 and used[0] == NO_NAME)
            others[m] = compact - missing
            other_names.append(names.rows_of(used[missing:]))
        named = self._names.rows_of(slots)
        arrays = _Arrays(
            slots=slots,
            lengths=lengths,
            times=times,
            values=values,
            others=others.reshape(-1),
            name_at=named.ids,
            name_lengths=named.lengths,
            names=named.text,
            other_counts=np.array([len(rows.ids) for rows in other_names], np.int32),
            other_lengths=_joined([rows.lengths for rows in other_names], np.int32),
            other_names=_joined([rows.text for rows in other_names], np.uint8),
        )
        return pack(
            _Header(
                version=SNAPSHOT_VERSION,
                windows_us=list(self.windows_us),
                retention_us=self.retention_us,
                lateness_us=self.lateness_us,
                others=self.others,
                lengths=[len(array) for array in arrays],
                everything=everything,
            ),
            arrays,
        )

    def restore(self, frames: Iterable[Buffer]) -> None:
        """Replace the state with that of a snapshot, or with what `changes` gave since it was
        complete, oldest first.

        Raises SnapshotError if it is damaged, or was written by a version that this code does not
        know or for other windows.
        """
        parts: list[_Arrays] = []
        for frame in frames:
            header, arrays = _read(frame)
            check_configuration(
                "sliding windows",
                {name: getattr(header, name) for name in _BINDING},
                {name: getattr(self, name) for name in _BINDING}
                | {"windows_us": list(self.windows_us)},
            )
            parts = [arrays] if header.everything else [*parts, arrays]
        self._clear()
        if parts:
            self._fill(parts)

    def _fill(self, parts: Sequence[_Arrays]) -> None:
        """Take in each entity's events from the last part that has it."""
        room = max(int(part.slots.max(initial=-1)) for part in parts) + 1
        newest = np.full(room, -1, np.int64)
        wanted = np.zeros(room, np.bool_)
        for number, part in enumerate(parts):
            newest[part.slots] = number
            wanted[part.slots] = part.lengths > 0
        rows = [NameRows(part.name_at, part.name_lengths, part.names) for part in parts]
        self._names = NameTable.of_rows(rows, wanted)
        self._grow_to_names()
        self._named[:room] = wanted
        for number, part in enumerate(parts):
            self._take_in(part, (newest[part.slots] == number) & (part.lengths > 0))

    def _take_in(self, part: _Arrays, chosen: NDArray[np.bool_]) -> None:
        """Slide over the events of the chosen entities of a part."""
        slots = np.repeat(part.slots[chosen], part.lengths[chosen])
        events = np.repeat(chosen, part.lengths)
        # copies are writable, as a batch's arrays are: or the kernel would be compiled once more
        times, values = part.times[events], part.values[events]
        others = np.empty((slots.size, self.others), np.int32)
        for m, (text, lengths) in enumerate(part.names_of_others()):
            told = part.others.reshape(self.others, -1)[m][events]
            others[:, m] = _renamed(told, text, lengths, self._other_names[m])
        self._grow_to_names()
        for begin in range(0, slots.size, _RESTORE_AT_ONCE):
            some = slice(begin, begin + _RESTORE_AT_ONCE)
            n = slots[some].size
            floors = np.full(n, np.iinfo(np.int64).min)
            self._slide(
                slots[some], times[some], values[some], others[some], floors, self._answers(n)
            )

    def _shrink(self) -> None:
        """Give back the memory of entities that are gone."""
        used = np.flatnonzero(self._entities[:, kernel.END]).astype(np.int32)
        _, arrays = _read(b"".join(self._frame(used, everything=True)))
        numbers = np.arange(len(used), dtype=np.int32)
        self._clear()
        self._fill([arrays._replace(slots=numbers, name_at=numbers)])
        self._renumbered = True


class _Header(msgspec.Struct, frozen=True, array_like=True):
    version: int
    windows_us: list[int]
    retention_us: int
    lateness_us: int
    others: int
    lengths: list[int]  # elements of the arrays that follow
    everything: bool  # what came before does not count


_BINDING = ("windows_us", "retention_us", "lateness_us", "others")


class _Arrays(NamedTuple):
    """What a frame holds, in this order: events by entity, the entities' names with their slots,
    and the names of others, one table after the other."""

    slots: NDArray[np.int32]  # [k] entities
    lengths: NDArray[np.int32]  # [k] events of each; 0 for one that is gone
    times: NDArray[np.int64]  # [n]
    values: NDArray[np.int64]  # [n]
    others: NDArray[np.int32]  # [M * n] index among the names of its table, or NO_NAME
    name_at: NDArray[np.int32]
    name_lengths: NDArray[np.int32]
    names: NDArray[np.uint8]
    other_counts: NDArray[np.int32]  # [M]
    other_lengths: NDArray[np.int32]
    other_names: NDArray[np.uint8]

    def names_of_others(self) -> Iterator[tuple[bytes, NDArray[np.int32]]]:
        """The names of each table, as NameTable takes them."""
        first = letter = 0
        for count in self.other_counts.tolist():
            lengths = self.other_lengths[first : first + count]
            size = int(lengths.sum())
            yield self.other_names[letter : letter + size].tobytes(), lengths.copy()
            first, letter = first + count, letter + size


_DTYPES = tuple(map(np.dtype, ("i4", "i4", "i8", "i8", "i4", "i4", "i4", "u1", "i4", "i4", "u1")))


class _Version1(msgspec.Struct, frozen=True, array_like=True):
    version: int
    windows_us: list[int]
    retention_us: int
    lateness_us: int
    entities: list[str]
    lengths: bytes  # int32 events per entity
    times: bytes  # int64, by entity
    values: bytes  # int64
    other_names: list[list[str]]
    others: list[bytes]  # int32 index into other_names, -1 for none


def _read(frame: Buffer) -> tuple[_Header, _Arrays]:
    # an array of ten that begins with 1 and an array, in msgpack
    if bytes(frame[:2]) == b"\x9a\x01" and frame[2] >> 4 == 9:
        return _of_version_1(decode_snapshot(frame, _Version1, (1,), "sliding windows"))
    header, arrays = unpack(frame, _Header, {2: _DTYPES}, "sliding windows")
    return header, _Arrays(*arrays)


def _of_version_1(saved: _Version1) -> tuple[_Header, _Arrays]:
    numbers = np.arange(len(saved.entities), dtype=np.int32)
    text, name_lengths = encode_names(saved.entities)
    others = [encode_names(names) for names in saved.other_names]
    arrays = _Arrays(
        slots=numbers,
        lengths=np.frombuffer(saved.lengths, np.int32),
        times=np.frombuffer(saved.times, np.int64),
        values=np.frombuffer(saved.values, np.int64),
        others=np.frombuffer(b"".join(saved.others), np.int32),
        name_at=numbers,
        name_lengths=name_lengths,
        names=np.frombuffer(text, np.uint8),
        other_counts=np.array([len(names) for names in saved.other_names], np.int32),
        other_lengths=_joined([lengths for _, lengths in others], np.int32),
        other_names=np.frombuffer(b"".join(text for text, _ in others), np.uint8),
    )
    header = _Header(
        version=1,
        windows_us=saved.windows_us,
        retention_us=saved.retention_us,
        lateness_us=saved.lateness_us,
        others=len(saved.others),
        lengths=[],
        everything=True,
    )
    return header, arrays


def _joined(arrays: Sequence[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0, kind)


def _renamed(
    told: NDArray[np.int32], text: bytes, lengths: NDArray[np.int32], names: NameTable
) -> NDArray[np.int32]:
    """The ids in `names` of indices into other names; only those that occur get one."""
    used, places = np.unique(told, return_inverse=True)
    missing = int(used.size > 0 and used[0] == NO_NAME)
    listed = NameTable()
    listed.ids_of(text, lengths)  # these are different names: their ids are 0, 1, ...
    ids = np.full(used.size, NO_NAME, np.int32)
    ids[missing:] = names.ids_of(*listed.names_of(used[missing:]))
    return ids[places]


def _columns(answers: kernel.Answers) -> WindowColumns:
    return WindowColumns(
        counts=answers.windows[:, 0],
        sums=answers.windows[:, 1],
        maxima=answers.windows[:, 2],
        distinct=answers.windows[:, 3:],
        seen=answers.seen,
        since_us=answers.since,
    )


def _new_pool(room: int, others: int) -> kernel.Pool:
    slabs = np.full(kernel.SIZE_CLASSES + 1, kernel.NONE, np.int64)
    slabs[kernel.SIZE_CLASSES] = 0
    return kernel.Pool(
        events=np.zeros((room, 2), np.int64),
        others=np.zeros((others, room), np.int32),
        links=np.zeros((room, 2 * others), np.int32),
        slabs=slabs,
    )


def _grown_pool(pool: kernel.Pool) -> kernel.Pool:
    used = len(pool.events)
    grown = _new_pool(2 * used, len(pool.others))
    grown.events[:used] = pool.events
    grown.others[:, :used] = pool.others
    grown.links[:used] = pool.links
    return grown._replace(slabs=pool.slabs)


def _new_entities(room: int, windows: int, others: int) -> NDArray[np.int32]:
    entities = np.zeros((room, kernel.entity_width(windows, others)), np.int32)
    entities[:, kernel.SIZE] = kernel.NONE
    entities[:, kernel.WINDOWS + kernel.PEAK :: kernel.DISTINCT + others] = kernel.NONE
    return entities


def _new_references(room: int, others: int) -> kernel.References:
    return kernel.References(
        held=np.zeros((others, room), np.int32),
        idle=np.zeros((others, room), np.int32),
        is_idle=np.zeros((others, room), np.bool_),
        idle_length=np.zeros(others, np.int64),
    )


def _grown_references(references: kernel.References, room: int) -> kernel.References:
    used = references.held.shape[1]
    grown = _new_references(room, len(references.held))
    for new, old in zip(grown[:3], references[:3], strict=True):
        new[:, :used] = old
    return grown._replace(idle_length=references.idle_length)
