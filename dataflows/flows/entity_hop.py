"""A hop of scoring: a watermark and the rolling features of one entity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dataflows.connectors.records import spread
from dataflows.eventtime.changed_rows import Changes
from dataflows.eventtime.lateness import classify
from dataflows.eventtime.snapshots import Buffer, prefixed, split_prefix
from dataflows.eventtime.watermark import Watermark
from dataflows.features.columns import Column
from dataflows.features.rolling import Payments, RollingFeatures
from dataflows.flows.decoding import Events, Timed
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime

E = TypeVar("E", bound=Timed)


@dataclass(frozen=True, slots=True)
class Accepted(Generic[E]):
    """The k payments of a batch, in order of their rows, and the watermark of every row."""

    decoded: Events[E]
    rows: NDArray[np.int64]
    payments: list[E]
    watermarks_us: NDArray[np.int64]

    def where(self, keep: NDArray[np.bool_]) -> Accepted[E]:
        """Those of the k payments for which `keep` is true."""
        payments = list(compress(self.payments, keep.tolist()))
        return Accepted(self.decoded, self.rows[keep], payments, self.watermarks_us)

    def each(self, path: str) -> list[Any]:
        """What each payment holds at a dotted path."""
        return list(map(attrgetter(path), self.payments))

    def columns(self, *paths: str) -> list[Sequence[Any]]:
        """What each payment holds at dotted paths, two or more: one pass, faster than `each`."""
        if not self.payments:
            return [()] * len(paths)
        return list(zip(*map(attrgetter(*paths), self.payments), strict=True))

    def spread(self, values: list[Any]) -> list[Any]:
        """k values as one for every row of the batch, None where there is no payment."""
        return spread(values, self.rows, len(self.decoded.fates))

    @property
    def times_us(self) -> NDArray[np.int64]:
        return self.decoded.times_us[self.rows]

    @property
    def watermark_us(self) -> int:
        """The watermark after the batch."""
        return int(self.watermarks_us[-1])


class EntityHop:
    """What the customer's and the device's hop share."""

    def __init__(self, settings: EventTime, rolling: RollingFeatures, frames: Iterable[Buffer]):
        self._settings, self._rolling = settings, rolling
        self._watermark = Watermark(int(settings.bound))
        rolling.restore(self._read(frames))

    def _read(self, frames: Iterable[Buffer]) -> Iterator[Buffer]:
        """Takes the watermark from each frame and gives on the rest."""
        for frame in frames:
            newest_us, windows = split_prefix(frame, "watermark")
            self._watermark = Watermark(int(self._settings.bound), newest_us)
            yield windows

    @property
    def snapshot_bytes(self) -> int:
        return self._rolling.snapshot_bytes

    def snapshot(self) -> bytes:
        return b"".join(prefixed(self._watermark.snapshot(), [self._rolling.snapshot()]))

    def changes(self, everything: bool = False) -> Changes:
        windows, complete = self._rolling.changes(everything)
        return Changes(prefixed(self._watermark.snapshot(), windows), complete)

    def accept(self, decoded: Events[E]) -> Accepted[E]:
        """Moves the watermark and gives the good events their lateness."""
        times_us, codes = decoded.times_us, decoded.fates
        moves = (codes == fates.GOOD) | (codes == fates.HEARTBEAT)
        watermarks_us = self._watermark.advance(times_us, moves)
        rows = np.flatnonzero(codes == fates.GOOD)
        classes = classify(
            times_us[rows], watermarks_us[rows], self._settings.lateness, self._settings.horizon
        )
        codes[rows] = fates.FATE_OF_CLASS[classes]
        return Accepted(decoded, rows, decoded.at(rows), watermarks_us)

    def features(
        self,
        accepted: Accepted[E],
        fields: Mapping[str, Sequence[str | None]],
        cents: NDArray[np.int64],
    ) -> dict[str, Column]:
        """The entity's features of the k payments, whose ids and amounts are given."""
        return self._rolling.process(
            Payments(
                fields=fields,
                amounts_cents=cents,
                times_us=accepted.times_us,
                watermarks_us=accepted.watermarks_us[np.append(accepted.rows, -1)],
            )
        )
