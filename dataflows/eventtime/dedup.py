"""Deduplication by id, exact within a retention of event time, in bounded memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from dataflows.eventtime.changed_rows import ChangedRows, Changes
from dataflows.eventtime.name_table import NameRows, NameTable, encode_names
from dataflows.eventtime.snapshots import (
    Buffer,
    check_configuration,
    decode_snapshot,
    pack,
    unpack,
)

SNAPSHOT_VERSION: Final = 2
FORGOTTEN: Final = np.int64(-(2**63))
_BUCKETS = 64  # how many a retention is divided into
_RUNS = 64  # so many arrays of ids of one bucket become one

Id = str | bytes

kernel = njit(cache=True, nogil=True, _nrt=False)


class Deduplicator:
    """Remembers the ids of one partition.

    An id is remembered by the event time of its first occurrence, until the watermark is more than
    `retention_us` beyond it; ids are forgotten in buckets of a 64th of the retention, so up to that
    much later. An id whose time is already beyond the retention is new and not remembered. At most
    `max_ids` are held: when one more comes, the bucket of the oldest event times goes, and
    `evicted` counts its ids. What is forgotten, and when, depends on the records alone.
    """

    def __init__(self, retention_us: int, max_ids: int) -> None:
        if retention_us < 0 or max_ids < 1:
            raise ValueError("retention_us must not be negative, max_ids at least 1")
        self._retention_us = retention_us
        self._max_ids = max_ids
        self._width_us = max(retention_us // _BUCKETS, 1)
        self._names = NameTable()
        self._bucket_of = np.full(1024, FORGOTTEN, np.int64)  # by number of the id
        self._by_bucket: defaultdict[int, list[NDArray[np.int32]]] = defaultdict(list)
        self._changed = ChangedRows(1)
        self._renumbered = False  # so that rows written before mean others now
        self._held = 0
        self.evicted = 0

    def __len__(self) -> int:
        """Ids remembered."""
        return self._held

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        runs = sum(run.nbytes for run in chain.from_iterable(self._by_bucket.values()))
        return self._names.nbytes + self._bucket_of.nbytes + runs

    def seen(
        self, ids: Sequence[Id], times_us: NDArray[np.int64], watermarks_us: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether each id occurred before, in an earlier batch or earlier in this one: bool[n].

        `times_us` int64[n] are event times, `watermarks_us` int64[n] the watermarks in force, which
        never fall. A str and bytes are never the same id.
        """
        numbers = self._names.ids_of(*_encode(ids))
        self._reserve()
        buckets = times_us // self._width_us
        floors = (watermarks_us - self._retention_us) // self._width_us
        found = np.zeros(len(ids), np.bool_)
        gone = [numbers]
        edges = [0, *(np.flatnonzero(np.diff(floors)) + 1).tolist(), len(ids)]
        for start, end in pairwise(edges):
            if start < end:
                part = slice(start, end)
                floor = int(floors[start])
                gone += self._forget_before(floor)
                gone += self._look_up(numbers[part], buckets[part], floor, found[part])
        self._free(np.concatenate(gone))
        return found

    def _reserve(self) -> None:
        room = len(self._bucket_of)
        if self._names.room > room:
            grown = np.full(2 * self._names.room, FORGOTTEN, np.int64)
            grown[:room] = self._bucket_of
            self._bucket_of = grown

    def _look_up(
        self,
        numbers: NDArray[np.int32],
        buckets: NDArray[np.int64],
        floor: int,
        found: NDArray[np.bool_],
    ) -> list[NDArray[np.int32]]:
        """Fill in `found`; return the ids that had to go for those that came."""
        gone: list[NDArray[np.int32]] = []
        done = 0
        while done < len(numbers):
            first, room = done, self._max_ids - self._held
            done = remember(self._bucket_of, numbers, buckets, floor, room, found, first)
            fresh = np.flatnonzero(~found[first:done] & (buckets[first:done] >= floor)) + first
            self._file(numbers[fresh], buckets[fresh])
            if done < len(numbers):
                gone += self._evict_oldest()
        return gone

    def _file(self, numbers: NDArray[np.int32], buckets: NDArray[np.int64]) -> None:
        self._held += len(numbers)
        for bucket in np.unique(buckets).tolist():
            runs = self._by_bucket[bucket]
            runs.append(numbers[buckets == bucket])
            if len(runs) == _RUNS:
                runs[:] = [np.concatenate(runs)]

    def _forget_before(self, floor: int) -> list[NDArray[np.int32]]:
        past = [bucket for bucket in self._by_bucket if bucket < floor]
        return list(chain.from_iterable(self._forget(bucket) for bucket in past))

    def _evict_oldest(self) -> list[NDArray[np.int32]]:
        runs = self._forget(min(self._by_bucket))
        self.evicted += sum(map(len, runs))
        return runs

    def _forget(self, bucket: int) -> list[NDArray[np.int32]]:
        runs = self._by_bucket.pop(bucket)
        for run in runs:
            self._bucket_of[run] = FORGOTTEN
            self._held -= len(run)
        return runs

    def _free(self, numbers: NDArray[np.int32]) -> None:
        """Free the numbers of ids that are not remembered."""
        gone = np.unique(numbers[self._bucket_of[numbers] == FORGOTTEN])
        self._names.changed[gone] = 1
        self._names.forget(gone)
        if self._names.is_sparse:
            self._renumber()

    def _renumber(self) -> None:
        """Give back the memory of ids that are gone."""
        used = np.flatnonzero(self._bucket_of != FORGOTTEN).astype(np.int32)
        text, lengths = self._names.names_of(used)
        buckets = self._bucket_of[used]
        self._names = NameTable()
        self._fill(self._names.ids_of(text, lengths), buckets)
        self._renumbered = True

    def _fill(self, numbers: NDArray[np.int32], buckets: NDArray[np.int64]) -> None:
        """Remember these and no others."""
        self._bucket_of = np.full(max(2 * self._names.room, 1024), FORGOTTEN, np.int64)
        self._bucket_of[numbers] = buckets
        self._by_bucket.clear()
        self._held = 0
        self._file(numbers, buckets)

    @property
    def snapshot_bytes(self) -> int:
        """About how long a snapshot would be."""
        return self._names.room * 20 + self._names.text_bytes

    def snapshot(self) -> bytes:
        """The whole state as versioned bytes."""
        used = np.flatnonzero(self._bucket_of != FORGOTTEN).astype(np.int32)
        return b"".join(self._frame(used, True))

    def changes(self, everything: bool = False) -> Changes:
        """What is to be written down since the last call, so that `restore` finds this state."""
        everything |= self._renumbered
        flags, used = (self._names.changed,), (self._names.room,)
        (numbers,), complete = self._changed.take(flags, used, everything)
        self._renumbered = False
        return Changes(self._frame(numbers, everything), complete)

    def _frame(self, numbers: NDArray[np.int32], everything: bool) -> list[Buffer]:
        named = self._names.rows_of(numbers)
        arrays = _Arrays(numbers, self._bucket_of[numbers], *named)
        return pack(
            _Header(
                version=SNAPSHOT_VERSION,
                retention_us=self._retention_us,
                max_ids=self._max_ids,
                evicted=self.evicted,
                lengths=[len(array) for array in arrays],
                everything=everything,
            ),
            arrays,
        )

    @classmethod
    def restore(cls, retention_us: int, max_ids: int, frames: Iterable[Buffer]) -> Deduplicator:
        """Go on from a snapshot, or from what `changes` gave since it was complete, oldest first;
        from nothing without any.

        Raises SnapshotError if it is damaged, or was written by a version that this code does not
        know or with other limits.
        """
        deduplicator = cls(retention_us, max_ids)
        parts: list[_Arrays] = []
        for frame in frames:
            header, arrays = _read(frame)
            check_configuration(
                "deduplicator",
                {"retention_us": header.retention_us, "max_ids": header.max_ids},
                {"retention_us": retention_us, "max_ids": max_ids},
            )
            parts = [arrays] if header.everything else [*parts, arrays]
            deduplicator.evicted = header.evicted
        if parts:
            deduplicator._restore(parts)
        return deduplicator

    def _restore(self, parts: Sequence[_Arrays]) -> None:
        room = max(int(part.numbers.max(initial=-1)) for part in parts) + 1
        bucket_of = np.full(room, FORGOTTEN, np.int64)
        for part in parts:
            bucket_of[part.numbers] = part.buckets
        rows = [NameRows(part.name_at, part.name_lengths, part.names) for part in parts]
        wanted = bucket_of != FORGOTTEN
        self._names = NameTable.of_rows(rows, wanted)
        numbers = np.flatnonzero(wanted).astype(np.int32)
        self._fill(numbers, bucket_of[numbers])


class _Header(msgspec.Struct, frozen=True, array_like=True):
    version: int
    retention_us: int
    max_ids: int
    evicted: int
    lengths: list[int]  # elements of the arrays that follow
    everything: bool  # what came before does not count


class _Arrays(NamedTuple):
    """What a frame holds, in this order: numbers with their buckets, and those in use with ids."""

    numbers: NDArray[np.int32]
    buckets: NDArray[np.int64]
    name_at: NDArray[np.int32]
    name_lengths: NDArray[np.int32]
    names: NDArray[np.uint8]


_DTYPES: Final = tuple(map(np.dtype, ("i4", "i8", "i4", "i4", "u1")))


class _Version1(msgspec.Struct, frozen=True, array_like=True):
    version: int
    retention_us: int
    max_ids: int
    evicted: int
    by_bucket: dict[int, list[Any]]  # ids, str or bytes


def _read(frame: Buffer) -> tuple[_Header, _Arrays]:
    if bytes(frame[:2]) == b"\x95\x01":
        return _of_version_1(decode_snapshot(frame, _Version1, (1,), "deduplicator"))
    header, arrays = unpack(frame, _Header, {2: _DTYPES}, "deduplicator")
    return header, _Arrays(*arrays)


def _of_version_1(saved: _Version1) -> tuple[_Header, _Arrays]:
    ids = list(chain.from_iterable(saved.by_bucket.values()))
    numbers = np.arange(len(ids), dtype=np.int32)
    buckets = np.repeat(
        np.array(list(saved.by_bucket), np.int64), [len(some) for some in saved.by_bucket.values()]
    )
    text, lengths = _encode(ids)
    arrays = _Arrays(numbers, buckets, numbers, lengths, np.frombuffer(text, np.uint8))
    return _Header(1, saved.retention_us, saved.max_ids, saved.evicted, [], True), arrays


def _encode(ids: Sequence[Id]) -> tuple[bytes, NDArray[np.int32]]:
    """Ids as a NameTable takes them; bytes begin with a letter that no str has in UTF-8."""
    if bytes not in set(map(type, ids)):
        return encode_names(ids)  # type: ignore[arg-type]
    encoded = [key.encode() if isinstance(key, str) else b"\xff" + key for key in ids]
    return b"".join(encoded), np.fromiter(map(len, encoded), np.int32, len(encoded))


@kernel
def remember(
    bucket_of: NDArray[np.int64],
    numbers: NDArray[np.int32],
    buckets: NDArray[np.int64],
    floor: int,
    room: int,
    found: NDArray[np.bool_],
    begin: int,
) -> int:
    """Look up ids from `begin` on and remember the new ones that are not below the floor; return
    how far it got: less than n when one more would not fit."""
    for i in range(begin, len(numbers)):
        if bucket_of[numbers[i]] != FORGOTTEN:
            found[i] = True
        elif buckets[i] >= floor:
            if room == 0:
                return i
            room -= 1
            bucket_of[numbers[i]] = buckets[i]
    return len(numbers)
