"""Sums per tumbling window [k size, (k + 1) size) and group, of one partition of several.

A window is told once, when the watermark has passed its end by the allowed lateness: no event of it
can come any more, so what is told is exact, and never revised. Windows without events are not told;
that a partition is closed up to an instant is, so that whoever adds partitions up can wait for all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime.watermark import START_OF_TIME_US

Sums = NDArray[np.int64]
"""int64[groups, 2]: of each group how many, and how much."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What became final with a record: `row` is its index in the batch."""

    row: int
    until_us: int  # every window that ends by then is closed
    windows: Mapping[int, Sums]  # those with events that closed now, by their start, ascending


class OpenWindows(msgspec.Struct, frozen=True, array_like=True):
    """All that is to be kept of `WindowSums`."""

    since_us: int
    closed: int
    windows: dict[int, list[list[int]]]


class WindowSums:
    """The windows of one partition that are still open.

    Events before `since_us` are not counted: whoever starts in the middle of a log does not know
    what a window has had before.
    """

    def __init__(
        self, size_us: int, lateness_us: int, groups: int, newest_us: int = START_OF_TIME_US
    ) -> None:
        """Start where the newest event so far had the time `newest_us`."""
        self._size_us, self._lateness_us, self._groups = size_us, lateness_us, groups
        started = newest_us > START_OF_TIME_US
        self.since_us = (newest_us // size_us + 1) * size_us if started else START_OF_TIME_US
        self._closed = START_OF_TIME_US // size_us  # the number of the first window that is not
        self._open: dict[int, Sums] = {}

    def snapshot(self) -> OpenWindows:
        windows = {number: sums.tolist() for number, sums in self._open.items()}
        return OpenWindows(self.since_us, self._closed, windows)

    def restore(self, saved: OpenWindows) -> None:
        """Go on where the snapshot of windows of the same size and groups was taken."""
        self.since_us, self._closed = saved.since_us, saved.closed
        self._open = {number: np.array(sums) for number, sums in saved.windows.items()}

    def process(
        self,
        times_us: NDArray[np.int64],
        groups: NDArray[np.int64],
        counts: NDArray[np.int64],
        amounts: NDArray[np.int64],
        rows: NDArray[np.int64],
        watermarks_us: NDArray[np.int64],
    ) -> list[Closed]:
        """Add k events at ascending `rows` of a batch of n records; return what became final.

        The first five are int64[k], `watermarks_us` is int64[n] and never falls.
        """
        counted = (times_us >= self.since_us) & ((counts != 0) | (amounts != 0))
        rows = rows[counted]
        numbers = times_us[counted] // self._size_us
        events = numbers, groups[counted], counts[counted], amounts[counted]
        if (int(watermarks_us[-1]) - self._lateness_us) // self._size_us == self._closed:
            self._add(*events)
            return []
        closed = (watermarks_us - self._lateness_us) // self._size_us
        found, begin = [], 0
        for row in np.flatnonzero(np.diff(closed, prepend=self._closed)).tolist():
            end = int(np.searchsorted(rows, row, side="right"))
            self._add(*(column[begin:end] for column in events))
            found.append(self._close(row, int(closed[row])))
            begin = end
        self._add(*(column[begin:] for column in events))
        return found

    def _add(
        self,
        numbers: NDArray[np.int64],
        groups: NDArray[np.int64],
        counts: NDArray[np.int64],
        amounts: NDArray[np.int64],
    ) -> None:
        for number in set(numbers.tolist()):  # one, or two
            window = self._open.get(number)
            if window is None:
                window = self._open[number] = np.zeros((self._groups, 2), np.int64)
            inside = numbers == number
            np.add.at(window[:, 0], groups[inside], counts[inside])
            np.add.at(window[:, 1], groups[inside], amounts[inside])

    def _close(self, row: int, closed: int) -> Closed:
        self._closed = closed
        done = sorted(number for number in self._open if number < closed)
        windows = {number * self._size_us: self._open.pop(number) for number in done}
        return Closed(row, closed * self._size_us, windows)
