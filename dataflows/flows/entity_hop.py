"""A hop of scoring: a watermark, and the features of one entity, the catalogue's and declared."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime.changed_rows import Changes, JoinedRounds
from dataflows.eventtime.lateness import classify
from dataflows.eventtime.snapshots import Buffer, prefixed, split_prefix
from dataflows.eventtime.watermark import Watermark
from dataflows.features.columns import Column
from dataflows.features.declared_state import DeclaredState
from dataflows.features.rolling import Payments, RollingFeatures
from dataflows.features.spec import FeatureSpec
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime
from dataflows.runtime.fates import Fates

logger = logging.getLogger(__name__)


class Decoded(Protocol):
    """A batch as n rows: payments, heartbeats, and what could not be read."""

    @property
    def times_us(self) -> NDArray[np.int64]: ...

    @property
    def fates(self) -> Fates: ...


D = TypeVar("D", bound=Decoded)


@dataclass(frozen=True, slots=True)
class Accepted(Generic[D]):
    """The rows of a batch that are payments, ascending, and the watermark of every row."""

    decoded: D
    rows: NDArray[np.int64]
    watermarks_us: NDArray[np.int64]

    def where(self, keep: NDArray[np.bool_]) -> Accepted[D]:
        """Those of the payments for which `keep` is true."""
        return Accepted(self.decoded, self.rows[keep], self.watermarks_us)

    @property
    def times_us(self) -> NDArray[np.int64]:
        return self.decoded.times_us[self.rows]

    @property
    def watermark_us(self) -> int:
        """The watermark after the batch."""
        return int(self.watermarks_us[-1])


class EntityHop:
    """What the customer's and the device's hop share."""

    def __init__(
        self,
        settings: EventTime,
        rolling: RollingFeatures,
        frames: Iterable[Buffer],
        declared: Sequence[FeatureSpec],
    ):
        self._settings, self._rolling = settings, rolling
        self._declared = DeclaredState(declared, int(settings.lateness))
        self._watermark = Watermark(int(settings.bound))
        self._rounds = JoinedRounds(2)
        saved: list[dict[str, bytes]] = []
        rolling.restore(self._read(frames, saved))
        if saved:
            self._restore_declared(saved)

    def _read(self, frames: Iterable[Buffer], declared: list[dict[str, bytes]]) -> Iterator[Buffer]:
        """Takes the watermark, and what is declared, from each frame and gives on the rest."""
        for frame in frames:
            saved = split_prefix(frame, "watermark")
            self._watermark = Watermark(int(self._settings.bound), saved.number)
            # copies: views would keep all frames in memory
            declared.append({version: bytes(each) for version, each in saved.beside.items()})
            yield saved.rest

    def _restore_declared(self, frames: Sequence[Mapping[str, bytes]]) -> None:
        saved: dict[str, list[bytes]] = {}
        for frame in frames:
            # A spec that was away meanwhile has missed payments: what was before does not count.
            saved = {version: [*saved.get(version, ()), each] for version, each in frame.items()}
        self._declared.restore(saved)
        for spec in self._declared.missing(saved):
            logger.warning(
                "%s: %s begin without what came before: the state was left by another spec, or by "
                "none; `tidegate reset` would rebuild it from the log",
                spec.source,
                ", ".join(spec.names),
            )

    @property
    def declared_fields(self) -> Sequence[str]:
        """What declared features want to know of each payment, beside amount and time."""
        return self._declared.fields

    @property
    def snapshot_bytes(self) -> int:
        return self._rolling.snapshot_bytes + self._declared.nbytes

    def snapshot(self) -> bytes:
        windows, declared = [self._rolling.snapshot()], self._declared.snapshot()
        return b"".join(prefixed(self._watermark.snapshot(), windows, declared))

    def changes(self, everything: bool = False) -> Changes:
        windows, complete = self._rolling.changes(everything)
        declared, all_declared = self._declared.changes(everything)
        frame = prefixed(self._watermark.snapshot(), windows, declared)
        return Changes(frame, self._rounds.complete((complete, all_declared), everything))

    def accept(self, decoded: D) -> Accepted[D]:
        """Moves the watermark and gives the payments their lateness."""
        times_us, codes = decoded.times_us, decoded.fates
        moves = (codes == fates.GOOD) | (codes == fates.HEARTBEAT)
        watermarks_us = self._watermark.advance(times_us, moves)
        rows = np.flatnonzero(codes == fates.GOOD)
        classes = classify(
            times_us[rows], watermarks_us[rows], self._settings.lateness, self._settings.horizon
        )
        codes[rows] = fates.FATE_OF_CLASS[classes]
        return Accepted(decoded, rows, watermarks_us)

    def features(
        self,
        accepted: Accepted[D],
        fields: Mapping[str, Sequence[Any]],
        cents: NDArray[np.int64],
    ) -> dict[str, Column]:
        """The entity's features of the k payments, whose ids and amounts are given, and those that
        are declared."""
        payments = Payments(
            fields=fields,
            amounts_cents=cents,
            times_us=accepted.times_us,
            watermarks_us=accepted.watermarks_us[np.append(accepted.rows, -1)],
        )
        return {**self._rolling.process(payments), **self._declared.process(payments)}
