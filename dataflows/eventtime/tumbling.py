"""Tumbling windows [k size, (k + 1) size): count and sum per key, revised by late events."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime.snapshots import check_configuration, decode_snapshot

SNAPSHOT_VERSION = 1
_BEFORE_ALL = -(2**62)


@dataclass(slots=True)
class TumblingRows:
    """Results in the order in which they became known; one list entry a row."""

    keys: list[str] = field(default_factory=list)
    starts_us: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)
    causes: list[int] = field(default_factory=list)  # index of the record that triggered the row

    def __len__(self) -> int:
        return len(self.keys)


class _Cell(msgspec.Struct):
    count: int = 0
    sum: int = 0
    revision: int = 0


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
    version: int
    size_us: int
    lateness_us: int
    watermark_us: int
    windows: dict[int, dict[str, _Cell]]


class TumblingWindows:
    """Count and integer sum per key and tumbling window of event time.

    A window is emitted, revision 0, when the watermark reaches its end: keys in their own order,
    earlier windows first. An event within the allowed lateness of an emitted window emits it again,
    revision + 1. An event further behind is not counted. A window is forgotten once the watermark
    is past its end by the lateness.
    """

    def __init__(self, size_us: int, lateness_us: int) -> None:
        if size_us < 1 or lateness_us < 0:
            raise ValueError("a size of at least 1 us and a lateness of at least 0")
        self.size_us = size_us
        self.lateness_us = lateness_us
        self._watermark = _BEFORE_ALL
        self._windows: dict[int, dict[str, _Cell]] = {}
        self._open: list[int] = []  # heap of the starts that have not been emitted
        self._closed: list[int] = []  # heap of the starts that may still be revised

    def __len__(self) -> int:
        """Windows that are open or may still be revised."""
        return len(self._windows)

    def process(
        self,
        keys: Sequence[str | None],
        times_us: NDArray[np.int64],
        values: NDArray[np.int64],
        watermarks_us: NDArray[np.int64],
    ) -> TumblingRows:
        """Count records in order of arrival; return the rows that become known.

        `watermarks_us[i]` is the watermark with record i seen and never falls. A record without a
        key only carries its watermark.
        """
        rows = TumblingRows()
        records = zip(keys, times_us.tolist(), values.tolist(), watermarks_us.tolist(), strict=True)
        for i, (key, time, value, watermark) in enumerate(records):
            if key is not None and time >= watermark - self.lateness_us:
                self._count(key, time, value, i, rows)
            if watermark > self._watermark:
                self._watermark = watermark
                self._emit(i, rows)
        return rows

    def _count(self, key: str, time: int, value: int, cause: int, rows: TumblingRows) -> None:
        start = time - time % self.size_us
        emitted = start + self.size_us <= self._watermark
        window = self._windows.get(start)
        if window is None:
            window = self._windows[start] = {}
            heapq.heappush(self._closed if emitted else self._open, start)
        cell = window.get(key)
        revised = cell is not None
        if cell is None:
            cell = window[key] = _Cell()
        cell.count += 1
        cell.sum += value
        if emitted:
            cell.revision += revised
            _append(rows, key, start, cell, cause)

    def _emit(self, cause: int, rows: TumblingRows) -> None:
        while self._open and self._open[0] + self.size_us <= self._watermark:
            start = heapq.heappop(self._open)
            heapq.heappush(self._closed, start)
            for key, cell in sorted(self._windows[start].items()):
                _append(rows, key, start, cell, cause)
        settled = self._watermark - self.lateness_us - self.size_us
        while self._closed and self._closed[0] <= settled:
            del self._windows[heapq.heappop(self._closed)]

    def snapshot(self) -> bytes:
        """The whole state as versioned bytes."""
        return msgspec.msgpack.encode(
            _Snapshot(
                version=SNAPSHOT_VERSION,
                size_us=self.size_us,
                lateness_us=self.lateness_us,
                watermark_us=self._watermark,
                windows=self._windows,
            )
        )

    def restore(self, snapshot: bytes) -> None:
        """Replace the state with that of a snapshot.

        Raises SnapshotError if it was written by another version or for other windows.
        """
        saved = decode_snapshot(snapshot, _Snapshot, (SNAPSHOT_VERSION,), "tumbling windows")
        check_configuration(
            "tumbling windows",
            {"size_us": saved.size_us, "lateness_us": saved.lateness_us},
            {"size_us": self.size_us, "lateness_us": self.lateness_us},
        )
        self._watermark = saved.watermark_us
        self._windows = saved.windows
        ends = self._watermark - self.size_us
        self._open = [start for start in saved.windows if start > ends]
        self._closed = [start for start in saved.windows if start <= ends]
        heapq.heapify(self._open)
        heapq.heapify(self._closed)


def _append(rows: TumblingRows, key: str, start: int, cell: _Cell, cause: int) -> None:
    rows.keys.append(key)
    rows.starts_us.append(start)
    rows.counts.append(cell.count)
    rows.sums.append(cell.sum)
    rows.revisions.append(cell.revision)
    rows.causes.append(cause)
