"""Deduplication by id, exact within a retention of event time, in bounded memory."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime.snapshots import check_configuration, decode_snapshot

SNAPSHOT_VERSION: Final = 1
_BUCKETS = 64  # how many a retention is divided into

Id = str | bytes


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
    version: int
    retention_us: int
    max_ids: int
    evicted: int
    by_bucket: dict[int, list[Any]]  # ids, str or bytes


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
        self._known: set[Id] = set()
        self._by_bucket: defaultdict[int, list[Id]] = defaultdict(list)
        self.evicted = 0

    def __len__(self) -> int:
        """Ids remembered."""
        return len(self._known)

    def seen(
        self, ids: Sequence[Id], times_us: NDArray[np.int64], watermarks_us: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether each id occurred before, in an earlier batch or earlier in this one: bool[n].

        `times_us` int64[n] are event times, `watermarks_us` int64[n] the watermarks in force, which
        never fall. A str and bytes are never the same id.
        """
        buckets = (times_us // self._width_us).tolist()
        floors = (watermarks_us - self._retention_us) // self._width_us
        found: list[bool] = []
        edges = [0, *(np.flatnonzero(np.diff(floors)) + 1).tolist(), len(ids)]
        for start, end in pairwise(edges):
            if start < end:
                floor = int(floors[start])
                self._forget_before(floor)
                self._look_up(zip(ids[start:end], buckets[start:end], strict=True), floor, found)
        return np.array(found, np.bool_)

    def _look_up(self, ids: Iterable[tuple[Id, int]], floor: int, found: list[bool]) -> None:
        known, by_bucket, most = self._known, self._by_bucket, self._max_ids
        for key, bucket in ids:
            if key in known:
                found.append(True)
                continue
            found.append(False)
            if bucket >= floor:
                if len(known) == most:
                    self._evict_oldest()
                known.add(key)
                by_bucket[bucket].append(key)

    def _forget_before(self, floor: int) -> None:
        for bucket in [bucket for bucket in self._by_bucket if bucket < floor]:
            self._known.difference_update(self._by_bucket.pop(bucket))

    def _evict_oldest(self) -> None:
        ids = self._by_bucket.pop(min(self._by_bucket))
        self._known.difference_update(ids)
        self.evicted += len(ids)

    def snapshot(self) -> bytes:
        """The whole state as versioned bytes."""
        return msgspec.msgpack.encode(
            _Snapshot(
                version=SNAPSHOT_VERSION,
                retention_us=self._retention_us,
                max_ids=self._max_ids,
                evicted=self.evicted,
                by_bucket=dict(self._by_bucket),
            )
        )

    @classmethod
    def restore(cls, retention_us: int, max_ids: int, snapshot: bytes) -> "Deduplicator":
        """Go on from a snapshot.

        Raises SnapshotError if it is damaged, or was written by another version of this code or
        with other limits.
        """
        saved = decode_snapshot(snapshot, _Snapshot, SNAPSHOT_VERSION, "deduplicator")
        check_configuration(
            "deduplicator",
            {"retention_us": saved.retention_us, "max_ids": saved.max_ids},
            {"retention_us": retention_us, "max_ids": max_ids},
        )
        deduplicator = cls(retention_us, max_ids)
        deduplicator.evicted = saved.evicted
        deduplicator._by_bucket.update(saved.by_bucket)
        deduplicator._known.update(chain.from_iterable(saved.by_bucket.values()))
        return deduplicator
