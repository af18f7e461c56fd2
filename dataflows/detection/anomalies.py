"""Anomaly scores for many metric series at once, online: a row's score uses only rows so far.

There is nothing to set. A series is told by its name, is of any unit and scale, and may have a
daily or weekly season or none; see docs/reference/anomalies.md for the method and its figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.detection import novelty_kernel as kernel
from dataflows.eventtime.name_table import NameRows, NameTable
from dataflows.eventtime.snapshots import Buffer, SnapshotError, pack, unpack

SNAPSHOT_VERSION = 1
ALERT_AT = 0.5
"""The score from which a row is worth a person's attention, for every series."""
MOST = kernel.MOST
"""A value further from zero is no measurement."""

_WHAT = "anomaly detector"


class Scores(NamedTuple):
    """Of n rows, in the order in which they were given."""

    score: NDArray[np.float64]  # [n] 0..1; 0 while a series is new, and for a missing value
    expected: NDArray[np.float64]  # [n] what was expected before the row; NaN if nothing was
    lower: NDArray[np.float64]  # [n] 99 of 100 rows lie from lower to upper; NaN at first
    upper: NDArray[np.float64]  # [n]


class AnomalyDetector:
    """The state of all series, which grows with their number: 60 kB each."""

    def __init__(self) -> None:
        self._names = NameTable()
        self._store = _new_store(1)

    def __len__(self) -> int:
        """Series seen so far."""
        return len(self._names)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, and of the names."""
        return sum(array.nbytes for array in self._store) + self._names.nbytes

    def score(
        self, series: Sequence[str], times_us: NDArray[np.int64], values: NDArray[np.float64]
    ) -> Scores:
        """Score n rows, which are of any series, in order of arrival.

        A value that is not finite, or beyond 1e150, is a missing one: it scores 0 and teaches
        nothing. Rows make the windows, times only the season: a gap is bridged, and times may stand
        still or go back.
        """
        which = self._names.ids(series)
        if len(self._store.series) < self._names.room:
            self._store = _grown(self._store, 2 * self._names.room)
        answers = np.empty((len(which), 4))
        # copies are writable: or the kernel would be compiled once more for arrays that are not
        times, numbers = np.array(times_us, np.int64), np.array(values, np.float64)
        kernel.score(self._store, which, times, numbers, answers)
        return Scores(*answers.T)

    def snapshot(self) -> bytes:
        """The whole state as versioned bytes; restoring them goes on bit-identically."""
        count = self._names.room
        named = self._names.rows_of(np.arange(count, dtype=np.int32))
        arrays = [
            *(array[:count].reshape(-1) for array in _state(self._store)),
            named.lengths,
            named.text,
        ]
        header = _Header(SNAPSHOT_VERSION, count, [len(array) for array in arrays])
        return b"".join(pack(header, arrays))

    @classmethod
    def restore(cls, snapshot: Buffer) -> AnomalyDetector:
        """A detector that goes on where `snapshot` was taken.

        Raises SnapshotError if it is damaged, or a version wrote it that this code does not know.
        """
        header, arrays = unpack(snapshot, _Header, {SNAPSHOT_VERSION: _DTYPES}, _WHAT)
        *state, lengths, text = arrays
        restored = cls()
        restored._store = _new_store(max(header.series, 1))
        for ours, saved in zip(_state(restored._store), state, strict=True):
            part = ours[: header.series]
            if part.size != saved.size or len(lengths) != header.series:
                raise SnapshotError(
                    f"the snapshot of the {_WHAT} is damaged: restore a backup, or rebuild"
                )
            part[...] = saved.reshape(part.shape)
        ids = np.arange(header.series, dtype=np.int32)
        wanted = np.ones(header.series, np.bool_)
        restored._names = NameTable.of_rows([NameRows(ids, lengths, text)], wanted)
        return restored


class _Header(msgspec.Struct, frozen=True, array_like=True):
    version: int
    series: int
    lengths: list[int]  # elements of the arrays that follow


def _state(store: kernel.Store) -> tuple[NDArray[Any], ...]:
    """The arrays without those that are only room to work in."""
    return store[:-3]


def _new_store(count: int) -> kernel.Store:
    series = np.zeros(count, kernel.SERIES)
    series["reported"] = kernel.NONE
    series["above"] = series["below"] = _FIRST_REACH
    channels = np.zeros((count, kernel.CHANNELS), kernel.CHANNEL)
    channels["begun"] = kernel.NONE
    return kernel.Store(
        series=series,
        channels=channels,
        slots=np.zeros((count, kernel.DAILY + kernel.WEEKLY), kernel.SLOT),
        recent=np.zeros((count, 2, kernel.RECENT)),
        windows=np.zeros((count, kernel.NUMBERS)),
        matched=np.zeros((count, kernel.WINDOWS), np.int64),
        largest=np.zeros((count, kernel.CHANNELS, kernel.LARGEST)),
        stretch=np.zeros((count, kernel.CHANNELS, kernel.LARGEST), np.int64),
        scratch_window=np.zeros((2, kernel.WIDEST)),
        scratch_distances=np.zeros(kernel.ROOMIEST),
        scratch_order=np.zeros(kernel.ROOMIEST, np.int64),
    )


_FIRST_REACH = 4.0  # mean errors, until rows beyond it have told better
_DTYPES = (*(array.dtype for array in _state(_new_store(1))), np.dtype("i4"), np.dtype("u1"))


def _grown(store: kernel.Store, count: int) -> kernel.Store:
    larger = _new_store(count)
    for new, old in zip(_state(larger), _state(store), strict=True):
        new[: len(old)] = old
    return larger
