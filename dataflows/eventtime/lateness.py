"""The four lateness classes of an event, measured against the watermark in force for it."""

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray


class Lateness(IntEnum):
    """Where an event of time t stands against watermark w; values fit a uint8."""

    ON_TIME = 0
    """t >= w."""
    LATE = 1
    """w - lateness <= t < w: results are corrected."""
    BUFFERED = 2
    """w - horizon <= t < w - lateness: too late for the stream, merged in the warehouse."""
    EXPIRED = 3
    """t < w - horizon: too late altogether, a dead letter."""


NOT_AN_EVENT: Final = 255
"""Stands in a uint8 array of classes for a record that is no event, such as a heartbeat."""


def classify(
    times_us: NDArray[np.int64],
    watermarks_us: NDArray[np.int64],
    lateness_us: int,
    horizon_us: int,
) -> NDArray[np.uint8]:
    """Return the `Lateness` of each event as uint8[n].

    `times_us` and `watermarks_us` are int64[n]; an event's own time is part of its watermark, and
    never makes itself late. Raises ValueError unless 0 <= lateness_us <= horizon_us.
    """
    if not 0 <= lateness_us <= horizon_us:
        raise ValueError(f"need 0 <= lateness ({lateness_us}) <= horizon ({horizon_us})")
    classes = (times_us < watermarks_us).astype(np.uint8)
    classes += times_us < watermarks_us - lateness_us
    classes += times_us < watermarks_us - horizon_us
    return classes
