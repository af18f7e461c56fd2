"""The state of declared features in one hop: an engine for each spec, beside the catalogue's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from dataflows.eventtime.changed_rows import JoinedRounds
from dataflows.eventtime.snapshots import Buffer
from dataflows.features.catalogue import payment_columns
from dataflows.features.columns import Column, ColumnsOnDemand, Kind, from_list
from dataflows.features.declared import FIELDS
from dataflows.features.engine import MOST_NUMBER, NEVER, Events, FeatureEngine
from dataflows.features.rolling import Payments
from dataflows.features.spec import FeatureSpec, Windowed

_MADE: Final = frozenset({"total_amount", "hour_of_day"})
"""The fields that come of the amount and of the time."""


class DeclaredState:
    """What the payments of every entity were, as far as the features of some specs look back.

    Exact for payments up to `lateness_us` behind the watermark, as FeatureEngine. Numbers beyond
    its MOST_NUMBER are null to declared features.
    """

    def __init__(self, specs: Sequence[FeatureSpec], lateness_us: int) -> None:
        self._engines = [FeatureEngine(spec, lateness_us) for spec in specs]
        self._rounds = JoinedRounds(sum(map(_keeps, specs)))
        read = {name for spec in specs for name in spec.fields}
        self.fields = [name for name in FIELDS if name in read and name not in _MADE]
        """What it wants to know of each payment, beside amount and time."""

    @property
    def nbytes(self) -> int:
        """Bytes of the state in memory."""
        return sum(engine.nbytes for engine in self._engines)

    def process(self, payments: Payments) -> dict[str, Column]:
        """The features of every payment, as of its event time; null without the entity."""
        if not self._engines:
            return {}
        n = len(payments.times_us)
        events = _with_nobody(payments)
        made: dict[str, Column] = {}
        for engine in self._engines:
            for name, column in engine.process(events).items():
                made[name] = Column(column.values[:n], column.valid[:n])
        return made

    def snapshot(self) -> dict[str, bytes]:
        """The state of each spec that keeps any, by the spec's version."""
        return {each.spec.version: each.snapshot() for each in self._engines if _keeps(each.spec)}

    def changes(self, everything: bool = False) -> tuple[dict[str, bytes], bool]:
        """What is to be written down of each spec since the last call, and whether what was written
        since it was complete is all of them."""
        found = {
            engine.spec.version: engine.changes(everything)
            for engine in self._engines
            if _keeps(engine.spec)
        }
        done = [changes.complete for changes in found.values()]
        frames = {version: b"".join(changes.parts) for version, changes in found.items()}
        return frames, self._rounds.complete(done, everything)

    def restore(self, saved: Mapping[str, Sequence[Buffer]]) -> None:
        """Go on from the snapshot of each spec, or from what `changes` gave of it since it was
        complete, oldest first; a spec of which nothing was saved begins empty.

        Raises SnapshotError if it is damaged.
        """
        for engine in self._engines:
            if engine.spec.version in saved:
                engine.restore(saved[engine.spec.version])

    def missing(self, saved: Mapping[str, Sequence[Buffer]]) -> list[FeatureSpec]:
        """The specs of which nothing was saved."""
        specs = [engine.spec for engine in self._engines]
        return [spec for spec in specs if _keeps(spec) and spec.version not in saved]


def _keeps(spec: FeatureSpec) -> bool:
    return any(isinstance(feature, Windowed) for feature in spec.features)


def _with_nobody(payments: Payments) -> Events:
    """The payments, and a record of nobody at the end: it carries the last watermark, so that state
    expires without payments."""
    times_us = np.append(payments.times_us, 0)
    cents = np.append(payments.amounts_cents, 0)

    def values(name: str) -> list[Any]:
        return [*payments.fields[name], None]

    makers = payment_columns(cents, times_us, values)
    makers["total_amount"] = partial(_within_reach, makers["total_amount"])
    for name in FIELDS.keys() - makers.keys():
        makers[name] = partial(_texts, name, values)
    return Events(
        times_us=times_us,
        fields=ColumnsOnDemand(makers),
        watermarks_us=payments.watermarks_us,
        known_us=np.full(len(times_us), NEVER),
    )


def _within_reach(make: Callable[[], Column]) -> Column:
    amounts = make()
    return Column(amounts.values, amounts.valid & (amounts.values <= MOST_NUMBER))


def _texts(name: str, values: Callable[[str], list[Any]]) -> Column:
    return from_list(Kind.TEXT, values(name))
