"""Exact sliding windows (t - w, t] per entity over event time.

Every record is answered at once from the events that have arrived so far, itself included, whose
event time lies in (t - w, t]. Nothing is bucketed and sums are of integers, so the answer is exact
and does not depend on where batches are cut. An event out of order goes to its place in time and is
answered as of that time; answers already given are not taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime import windows_kernel as kernel
from dataflows.eventtime.name_table import NO_NAME, NameTable
from dataflows.eventtime.snapshots import check_configuration, decode_snapshot

SNAPSHOT_VERSION = 1
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


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
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
        watermark when record i arrives and never falls. A record without an entity only carries
        its watermark.
        """
        n = len(entities)
        answers = self._answers(n)
        if n == 0:
            return _columns(answers)
        slots = self._names.ids(entities)
        other_ids = np.empty((n, self.others), dtype=np.int32)
        for m, names in enumerate(others):
            other_ids[:, m] = self._other_names[m].ids(names)
        floors = watermarks_us - (self.lateness_us + self.retention_us)
        self._grow_to_names()
        self._named[slots[slots != NO_NAME]] = True
        self._slide(slots, times_us, values, other_ids, floors, answers)
        self._sweep(int(floors[-1]), budget=SWEEP * (n + 16))
        for m in range(self.others):
            self._forget_others(m)
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
            self._named = np.pad(self._named, (0, 2 * room - self._named.size))
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

    def snapshot(self) -> bytes:
        """The whole state as versioned bytes; restoring them goes on bit-identically."""
        slots = np.flatnonzero(self._entities[:, kernel.END]).astype(np.int32)
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
            other_names.append(names.names(used[missing:]))
        return msgspec.msgpack.encode(
            _Snapshot(
                version=SNAPSHOT_VERSION,
                windows_us=list(self.windows_us),
                retention_us=self.retention_us,
                lateness_us=self.lateness_us,
                entities=self._names.names(slots),
                lengths=lengths.tobytes(),
                times=times.tobytes(),
                values=values.tobytes(),
                other_names=other_names,
                others=[row.tobytes() for row in others],
            )
        )

    def restore(self, snapshot: bytes) -> None:
        """Replace the state with that of a snapshot.

        Raises SnapshotError if it was written by another version or for other windows.
        """
        saved = decode_snapshot(snapshot, _Snapshot, SNAPSHOT_VERSION, "sliding windows")
        check_configuration(
            "sliding windows",
            {
                "windows_us": saved.windows_us,
                "retention_us": saved.retention_us,
                "lateness_us": saved.lateness_us,
                "others": len(saved.others),
            },
            {
                "windows_us": list(self.windows_us),
                "retention_us": self.retention_us,
                "lateness_us": self.lateness_us,
                "others": self.others,
            },
        )
        self._clear()
        slots = np.repeat(
            self._names.ids(saved.entities), np.frombuffer(saved.lengths, dtype=np.int32)
        )
        # writable as a batch's arrays are: the kernel would be compiled again for others
        times = np.frombuffer(bytearray(saved.times), dtype=np.int64)
        values = np.frombuffer(bytearray(saved.values), dtype=np.int64)
        others = np.empty((slots.size, self.others), dtype=np.int32)
        for m, names in enumerate(saved.other_names):
            self._other_names[m].ids(names)
            others[:, m] = np.frombuffer(saved.others[m], dtype=np.int32)
        self._grow_to_names()
        self._named[slots] = True
        for begin in range(0, slots.size, _RESTORE_AT_ONCE):
            part = slice(begin, begin + _RESTORE_AT_ONCE)
            n = slots[part].size
            floors = np.full(n, np.iinfo(np.int64).min)
            self._slide(
                slots[part], times[part], values[part], others[part], floors, self._answers(n)
            )


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
