"""Rolling features: declared aggregates of an entity's payments over exact windows (t - w, t].

A feature set is one entity (the customer, the device) and its features; computing it is one pass of
:class:`dataflows.eventtime.windows.SlidingWindows`. Amounts are whole cents inside, so sums are
exact; the columns that leave here hold amounts in the currency's main unit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime.changed_rows import Changes
from dataflows.eventtime.snapshots import Buffer
from dataflows.eventtime.windows import SlidingWindows, WindowColumns
from dataflows.features.columns import Column, ColumnSpec, Kind, Unit, present

CENTS = 100.0
SECOND_US = 1_000_000


class Aggregate(StrEnum):
    """What a feature says about the entity's payments in the window, this one included.

    Where "earlier" is said, this payment itself is left out.
    """

    COUNT = "count"
    SUM = "sum"
    MAX = "max"
    EARLIER_MEAN = "earlier_mean"  # null without an earlier payment
    RATIO_TO_EARLIER_MEAN = "ratio_to_earlier_mean"  # null below MIN_EARLIER payments, or mean 0
    DISTINCT = "distinct"  # distinct values of `of`
    NEW = "new"  # payments before the window, but none with this `of`; null without `of`
    SECONDS_SINCE_EARLIER = "seconds_since_earlier"  # null without an earlier payment


MIN_EARLIER = 3
_KINDS = {Aggregate.NEW: Kind.BOOLEAN}
_UNITS = {
    Aggregate.COUNT: Unit.COUNT,
    Aggregate.SUM: Unit.MONEY,
    Aggregate.MAX: Unit.MONEY,
    Aggregate.EARLIER_MEAN: Unit.MONEY,
    Aggregate.RATIO_TO_EARLIER_MEAN: Unit.RATIO,
    Aggregate.DISTINCT: Unit.COUNT,
    Aggregate.SECONDS_SINCE_EARLIER: Unit.SECONDS,
}


@dataclass(frozen=True, slots=True)
class Feature:
    """One declared column: an aggregate over a window, of a field where it needs one."""

    name: str
    aggregate: Aggregate
    window_us: int
    description: str
    of: str | None = None

    @property
    def spec(self) -> ColumnSpec:
        """The column as rules see it."""
        kind = _KINDS.get(self.aggregate, Kind.NUMBER)
        return ColumnSpec(self.name, kind, self.description, _UNITS.get(self.aggregate, Unit.NONE))


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The features of one entity, named by the field that holds its id.

    NEW looks back the longest window of the set and must have one window throughout;
    SECONDS_SINCE_EARLIER must have the longest.
    """

    entity: str
    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        longest = max(self.windows_us)
        for feature in self.features:
            match feature.aggregate:
                case Aggregate.SECONDS_SINCE_EARLIER if feature.window_us != longest:
                    raise ValueError(
                        f"{feature.name}: its window must be the longest, {longest} us"
                    )
                case Aggregate.NEW if feature.window_us != self.settle_us:
                    raise ValueError(f"{feature.name}: its window must be {self.settle_us} us")
                case Aggregate.NEW | Aggregate.DISTINCT if feature.of is None:
                    raise ValueError(f"{feature.name}: say what it is of")

    @property
    def settle_us(self) -> int:
        """The window of the NEW features; 0 if there is none."""
        return next((f.window_us for f in self.features if f.aggregate is Aggregate.NEW), 0)

    @property
    def windows_us(self) -> tuple[int, ...]:
        """The distinct windows, ascending."""
        return tuple(sorted({feature.window_us for feature in self.features}))

    @property
    def others(self) -> tuple[str, ...]:
        """The fields whose distinct values are followed, in order of declaration."""
        return tuple(dict.fromkeys(f.of for f in self.features if f.of is not None))

    @property
    def specs(self) -> dict[str, ColumnSpec]:
        """The columns that the set makes, by name."""
        return {feature.name: feature.spec for feature in self.features}


@dataclass(frozen=True, slots=True)
class Payments:
    """n payments of one partition, in log order.

    `fields` holds what feature sets name (user_id, device_id, card_id, ...), None where the payment
    has none. There is a watermark for each payment, in force when it arrives, and one more
    at the end: records that are no payments (heartbeats, refunds) may have moved it on.
    """

    fields: Mapping[str, Sequence[Any]]
    amounts_cents: NDArray[np.int64]
    times_us: NDArray[np.int64]
    watermarks_us: NDArray[np.int64]  # [n + 1]


class RollingFeatures:
    """The state of one feature set: the payments of every entity within its longest window.

    Exact for payments up to `lateness_us` behind the watermark; see SlidingWindows for what becomes
    of those further behind.
    """

    def __init__(self, declared: FeatureSet, lateness_us: int) -> None:
        self.declared = declared
        self._others = declared.others
        self._place = {window: w for w, window in enumerate(declared.windows_us)}
        self._windows = SlidingWindows(
            declared.windows_us,
            lateness_us,
            others=len(self._others),
            settle_us=declared.settle_us,
        )

    def process(self, payments: Payments) -> dict[str, Column]:
        """The features of every payment, as of its event time; all null without the entity."""
        columns = self._windows.process(
            payments.fields[self.declared.entity],
            payments.times_us,
            payments.amounts_cents,
            [payments.fields[name] for name in self._others],
            payments.watermarks_us,
        )
        known = columns.counts[0] > 0
        return {
            feature.name: self._column(feature, columns, payments, known)
            for feature in self.declared.features
        }

    def _column(
        self,
        feature: Feature,
        columns: WindowColumns,
        payments: Payments,
        known: NDArray[np.bool_],
    ) -> Column:
        w = self._place[feature.window_us]
        earlier = columns.counts[w] - 1
        match feature.aggregate:
            case Aggregate.COUNT:
                return Column(columns.counts[w], known)
            case Aggregate.SUM:
                return Column(columns.sums[w] / CENTS, known)
            case Aggregate.MAX:
                return Column(columns.maxima[w] / CENTS, known)
            case Aggregate.DISTINCT:
                return Column(columns.distinct[w, self._others.index(str(feature.of))], known)
            case Aggregate.EARLIER_MEAN:
                sums = columns.sums[w] - payments.amounts_cents
                return Column(_mean(sums, earlier) / CENTS, known & (earlier > 0))
            case Aggregate.RATIO_TO_EARLIER_MEAN:
                sums = columns.sums[w] - payments.amounts_cents
                enough = known & (earlier >= MIN_EARLIER) & (sums > 0)
                mean = np.where(enough, _mean(sums, earlier), 1.0)
                return Column(payments.amounts_cents / mean, enough)
            case Aggregate.NEW:
                settled = columns.counts[-1] > columns.counts[w]
                new = ~columns.seen[self._others.index(str(feature.of))] & settled
                return Column(new, known & present(payments.fields[str(feature.of)]))
            case Aggregate.SECONDS_SINCE_EARLIER:
                return Column(columns.since_us / SECOND_US, columns.since_us >= 0)

    @property
    def snapshot_bytes(self) -> int:
        """About how long a snapshot would be."""
        return self._windows.snapshot_bytes

    def snapshot(self) -> bytes:
        """The state as versioned bytes."""
        return self._windows.snapshot()

    def changes(self, everything: bool = False) -> Changes:
        """What is to be written down since the last call, so that `restore` finds this state."""
        return self._windows.changes(everything)

    def restore(self, frames: Iterable[Buffer]) -> None:
        """Go on from a snapshot, or from what `changes` gave since it was complete, oldest first;
        SnapshotError if it was written for other windows."""
        self._windows.restore(frames)


def _mean(sums: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Quotients; 0 where there is nothing to divide by."""
    return np.divide(sums, counts, out=np.zeros(len(sums)), where=counts > 0)
