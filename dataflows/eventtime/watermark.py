"""The watermark: how far event time has come in one partition.

The newest event time seen minus a bound (bounded out-of-orderness, as in Flink's
`BoundedOutOfOrdernessWatermarks`). It moves with records alone, events and heartbeats, never with
a clock, so a replay sees the watermarks of the live run and an outage makes nothing late.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

START_OF_TIME_US: Final = -(2**62)
END_OF_TIME_US: Final = 2**62


class Watermark:
    """Watermark of one partition; its whole state is the newest event time, an int.

    `bound_us` is how far behind the newest event an event may be and still be on time, in
    microseconds. Event times beyond `START_OF_TIME_US` or `END_OF_TIME_US` count as that instant.
    """

    def __init__(self, bound_us: int, newest_us: int = START_OF_TIME_US) -> None:
        """Start with nothing seen, or go on from `newest_us`, the value of a `snapshot`."""
        if bound_us < 0:
            raise ValueError(f"bound_us must not be negative, got {bound_us}")
        self._bound_us = bound_us
        self._newest_us = newest_us

    @property
    def value_us(self) -> int:
        """The watermark in force, microseconds; `START_OF_TIME_US` before any event."""
        return max(self._newest_us - self._bound_us, START_OF_TIME_US)

    def advance(self, times_us: NDArray[np.int64], counts: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Take in records in log order; return the watermark in force for each, itself included.

        `times_us` int64[n] and `counts` bool[n]; the time of a record that does not count (a dead
        letter, a control record) is ignored. Returns int64[n], never falling.
        """
        seen = np.where(counts, times_us, START_OF_TIME_US)
        newest = np.maximum.accumulate(np.clip(seen, self._newest_us, END_OF_TIME_US))
        if len(newest):
            self._newest_us = int(newest[-1])
        return np.maximum(newest - self._bound_us, START_OF_TIME_US)

    def snapshot(self) -> int:
        """The newest event time, microseconds: all that a later `Watermark` needs to go on."""
        return self._newest_us
