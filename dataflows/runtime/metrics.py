"""Every metric, declared once: name, help, unit by suffix, labels. Read from slots at scrape time.

Labels are bounded: `flow` and `topic` by the flow list and schemas/, `partition` by the topics,
`kind` and `reason` by the fates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dataflows.connectors.log import Log
from dataflows.runtime.fates import Reconciliation
from dataflows.runtime.stats import LATENCY_BUCKETS_S, SlotStats

SLOT = ("flow", "topic", "partition")


@dataclass(frozen=True)
class Declared:
    """A metric's name (base units, `_total` left to counters), meaning and labels."""

    family: Callable[..., Metric]
    name: str
    help: str
    labels: tuple[str, ...] = SLOT

    def new(self) -> Metric:
        return self.family(self.name, self.help, labels=self.labels)


OFFSET = Declared(GaugeMetricFamily, "tidegate_slot_offset", "Next input offset not yet published.")
LAG = Declared(
    GaugeMetricFamily, "tidegate_slot_lag_records", "Records in the partition not yet published."
)
LAG_SECONDS = Declared(
    GaugeMetricFamily,
    "tidegate_slot_lag_seconds",
    "Seconds since the arrival of the last published record; 0 without lag.",
)
WATERMARK_DELAY = Declared(
    GaugeMetricFamily,
    "tidegate_watermark_delay_seconds",
    "Wall clock minus the slot's watermark.",
)
RECORDS = Declared(
    CounterMetricFamily,
    "tidegate_records",
    "Input records by what became of them: good, late, failed, duplicate, suppressed, heartbeat.",
    (*SLOT, "kind"),
)
LATE = Declared(
    CounterMetricFamily,
    "tidegate_late_records",
    "Late records by class: late (corrected), buffered (merged later), expired.",
    (*SLOT, "class"),
)
DEAD_LETTERS = Declared(
    CounterMetricFamily,
    "tidegate_dead_letters",
    "Records rejected into a dead-letter topic, by reason.",
    (*SLOT, "reason"),
)
RECONCILIATION = Declared(
    GaugeMetricFamily,
    "tidegate_reconciliation_difference_records",
    "Records the log counts minus records with a fate. Anything but 0 is a loss or a repeat.",
)
LATENCY = Declared(
    HistogramMetricFamily,
    "tidegate_publish_latency_seconds",
    "From a record's arrival in the input topic to the commit of its outputs.",
)
STATE_BYTES = Declared(
    GaugeMetricFamily, "tidegate_state_bytes", "Size of the slot's last snapshot."
)
SNAPSHOT_SECONDS = Declared(
    GaugeMetricFamily, "tidegate_snapshot_seconds", "How long taking the last snapshot stalled."
)
DECLARED = (
    OFFSET,
    LAG,
    LAG_SECONDS,
    WATERMARK_DELAY,
    RECORDS,
    LATE,
    DEAD_LETTERS,
    RECONCILIATION,
    LATENCY,
    STATE_BYTES,
    SNAPSHOT_SECONDS,
)


class SlotCollector(Collector):
    """Turns the stats of the process's slots into metrics when they are asked for."""

    def __init__(self, log: Log, slots: Iterable[SlotStats]):
        self._log, self._slots = log, list(slots)

    def collect(self) -> Iterator[Metric]:
        metrics = {declared.name: declared.new() for declared in DECLARED}
        for stats in self._slots:
            for declared, labels, value in self._samples(stats):
                metrics[declared.name].add_metric(labels, value)  # type: ignore[attr-defined]
            metrics[LATENCY.name].add_metric(  # type: ignore[attr-defined]
                _labels(stats), _buckets(stats), sum_value=stats.latency_sum_s
            )
        yield from metrics.values()

    def _samples(self, stats: SlotStats) -> Iterator[tuple[Declared, list[str], float]]:
        slot, now_us = _labels(stats), time.time_ns() // 1_000
        yield STATE_BYTES, slot, stats.state_bytes
        yield SNAPSHOT_SECONDS, slot, stats.snapshot_seconds
        marker = stats.marker
        low, _ = self._log.offsets(stats.topic, stats.partition)
        place = (stats.topic, stats.partition)
        lag = self._log.unread({place: marker.next_offset if marker else low})[place]
        yield LAG, slot, lag
        if marker is None:
            return
        yield OFFSET, slot, marker.next_offset
        yield LAG_SECONDS, slot, (now_us - marker.arrival_us) / 1e6 if lag else 0.0
        yield WATERMARK_DELAY, slot, (now_us - marker.watermark_us) / 1e6
        totals = Reconciliation.of(marker.counts.values())
        heartbeats = totals["heartbeat"]
        yield RECONCILIATION, slot, marker.rows - heartbeats - totals.accounted
        for kind, count in totals.items():
            yield RECORDS, [*slot, kind], count
        for fate, count in _total_fates(marker.counts.values()).items():
            kind, _, reason = fate.partition(".")
            if reason:
                yield DEAD_LETTERS, [*slot, reason], count
            elif kind in ("late", "buffered", "expired"):
                yield LATE, [*slot, kind], count


def _labels(stats: SlotStats) -> list[str]:
    return [stats.flow, stats.topic, str(stats.partition)]


def _buckets(stats: SlotStats) -> list[tuple[str, float]]:
    cumulative = stats.latency_counts.cumsum().tolist()
    edges = [*(str(edge) for edge in LATENCY_BUCKETS_S), "+Inf"]
    return list(zip(edges, cumulative, strict=True))


def _total_fates(days: Iterable[dict[str, int]]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for fates in days:
        for fate, count in fates.items():
            totals[fate] = totals.get(fate, 0) + count
    return totals
