"""A hop of scoring: a watermark and the rolling features of one entity."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime.lateness import classify
from dataflows.eventtime.watermark import Watermark
from dataflows.features.rolling import RollingFeatures
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime
from dataflows.runtime.fates import Fates


class EntityHop:
    """What the customer's and the device's hop share."""

    def __init__(self, settings: EventTime, rolling: RollingFeatures, blob: bytes | None):
        self._settings, self._rolling = settings, rolling
        self._watermark = Watermark(int(settings.bound))
        if blob is not None:
            newest_us, windows = msgspec.msgpack.decode(blob, type=tuple[int, bytes])
            self._watermark = Watermark(int(settings.bound), newest_us)
            rolling.restore(windows)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._watermark.snapshot(), self._rolling.snapshot()))

    def advance(self, times_us: NDArray[np.int64], codes: Fates) -> NDArray[np.int64]:
        """Moves the watermark and gives the good events their lateness; the watermarks."""
        moves = (codes == fates.GOOD) | (codes == fates.HEARTBEAT)
        watermarks_us = self._watermark.advance(times_us, moves)
        events = np.flatnonzero(codes == fates.GOOD)
        classes = classify(
            times_us[events],
            watermarks_us[events],
            self._settings.lateness,
            self._settings.horizon,
        )
        codes[events] = fates.FATE_OF_CLASS[classes]
        return watermarks_us
