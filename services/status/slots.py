"""Offset, lag, watermark and counts of each slot, from the markers in the log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import starmap

import msgspec

from dataflows.connectors.log import Marker
from dataflows.connectors.records import END_OF_TIME_US
from dataflows.flows.shop import Shop
from dataflows.flows.topology import FLOWS
from dataflows.runtime.fates import Reconciliation, add_counts

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SlotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One slot. `records_in` is counted by the log; the kinds are counted by the flow.

    `published_by` is the process that published last, host/pid.
    """

    flow: str
    topic: str
    partition: int
    offset: int
    lag_records: int
    lag_seconds: float
    watermark: str | None
    records_in: int
    good: int
    failed: int
    late: int
    duplicate: int
    suppressed: int
    fates: dict[str, int]
    published_by: str | None

    @property
    def difference(self) -> int:
        """Records the log counts and no fate accounts for; 0 when nothing was lost or repeated."""
        return self.records_in - (
            self.good + self.failed + self.late + self.duplicate + self.suppressed
        )


def slot_statuses(shop: Shop, flows: Sequence[str] = FLOWS) -> list[SlotStatus]:
    """Every slot of the flows, started or not."""
    found = shop.log.markers()
    slots = [(flow, *place) for flow in flows for place in shop.topology.slots(flow)]
    markers = [
        found.get(f"{flow}.{topic}.{partition}") or _before_the_first(shop, topic, partition)
        for flow, topic, partition in slots
    ]
    lags: list[int] = []
    for flow in flows:  # a topic may have several readers
        own = [(s[1:], m.next_offset) for s, m in zip(slots, markers, strict=True) if s[0] == flow]
        left = shop.log.unread(dict(own))
        lags += [left[place] for place, _ in own]
    return list(starmap(_status, zip(slots, markers, lags, strict=True)))


def _before_the_first(shop: Shop, topic: str, partition: int) -> Marker:
    low, _ = shop.log.offsets(topic, partition)
    return Marker(seq=0, next_offset=low, first_offset=low)


def _status(slot: tuple[str, str, int], marker: Marker, lag: int) -> SlotStatus:
    flow, topic, partition = slot
    fates: dict[str, int] = {}
    for day in marker.counts.values():
        fates = add_counts({"": fates}, {"": day})[""]
    kinds = Reconciliation.of([fates])
    waited = time.time() - marker.arrival_us / 1e6 if lag and marker.arrival_us else 0.0
    return SlotStatus(
        flow=flow,
        topic=topic,
        partition=partition,
        offset=marker.next_offset,
        lag_records=lag,
        lag_seconds=round(max(waited, 0.0), 3),
        watermark=_instant(marker.watermark_us),
        records_in=marker.rows - kinds["heartbeat"],
        **{kind: kinds[kind] for kind in Reconciliation.KINDS},
        fates=fates,
        published_by=marker.by or None,
    )


def _instant(watermark_us: int) -> str | None:
    if watermark_us <= -END_OF_TIME_US:
        return None
    if watermark_us >= END_OF_TIME_US // 2:
        return "end of time"
    return (EPOCH + timedelta(microseconds=watermark_us)).isoformat(timespec="seconds")


class FlowTotals(msgspec.Struct, kw_only=True):
    """A flow's slots added up."""

    flow: str
    records_in: int = 0
    good: int = 0
    failed: int = 0
    late: int = 0
    duplicate: int = 0
    suppressed: int = 0
    lag_records: int = 0
    fates: dict[str, int] = {}

    @property
    def difference(self) -> int:
        return self.records_in - (
            self.good + self.failed + self.late + self.duplicate + self.suppressed
        )

    def line(self) -> str:
        """The reconciliation line."""
        sign = "=" if self.difference == 0 else f"DIFFERS BY {self.difference} FROM"
        return (
            f"{self.flow}: in {self.records_in:,} {sign} good {self.good:,} + failed "
            f"{self.failed:,} + late {self.late:,} + duplicate {self.duplicate:,} + suppressed "
            f"{self.suppressed:,}"
        )


def flow_totals(statuses: Sequence[SlotStatus]) -> list[FlowTotals]:
    """The totals of each flow, in the order of the statuses."""
    totals: dict[str, FlowTotals] = {}
    for status in statuses:
        total = totals.setdefault(status.flow, FlowTotals(flow=status.flow))
        for name in ("records_in", *Reconciliation.KINDS, "lag_records"):
            setattr(total, name, getattr(total, name) + getattr(status, name))
        total.fates = add_counts({"": total.fates}, {"": status.fates})[""]
    return list(totals.values())
