"""detect: metrics.parts -> metrics, anomalies, dlq.detect; the second hop of metrics

    read -> decode -> add up -> judge -> publish

A window is complete once every partition of its source is closed up to its end. Then its figures
are scored, one series for the whole and one a segment: each is published with the band in which it
was expected, and an anomaly besides where its score says that it is worth a person's attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import isnan, nan

import msgspec
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.operators import map_value

from dataflows.connectors.records import Output, Records
from dataflows.contracts.timestamps import MAX_US
from dataflows.detection.anomalies import ALERT_AT, AnomalyDetector
from dataflows.detection.metrics import OTHER, Aggregate
from dataflows.eventtime.snapshots import decode_snapshot
from dataflows.eventtime.watermark import START_OF_TIME_US
from dataflows.flows.dead_letters import dead_letters
from dataflows.flows.decoding import Events, decode_events
from dataflows.flows.metric_parts import Part, instants, part_decoder
from dataflows.flows.shop import Shop
from dataflows.runtime import fates
from dataflows.runtime.sink import Processed, publish
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.state import keep_state

SNAPSHOT_VERSION = 1
MOST_EMPTY = 1_000
"""So many windows without an event are told in a row; what lies between them and the next event is
passed over: sources that were off for years, and clocks that were wrong."""


def detect(slot: Slot, shop: Shop) -> Dataflow:
    flow = Dataflow("detect")
    records = read("read", flow, slot)
    parts = map_value("decode", records, decode)
    windows = keep_state("add_up", parts, slot, Sums)
    judged = keep_state("judge", windows, slot, Judge)
    publish("publish", judged, slot)
    return flow


class Measured(msgspec.Struct, gc=False, frozen=True):
    """The figure of a series in a window, and what was expected before it was known.

    Numbers that there are not are NaN, null in JSON.
    """

    metric: str
    segment: str | None
    window_start: str
    window_end: str
    value: float
    expected: float
    lower: float
    upper: float
    score: float
    version: str


class Anomaly(Measured, gc=False, frozen=True, kw_only=True):
    """A figure that is worth a person's attention. Its id depends on series and window alone."""

    anomaly_id: str
    explanation: str


def decode(records: Records) -> Events[Part]:
    """Parts, as the first hop wrote them."""
    parts = decode_events(part_decoder, records)
    for row in np.flatnonzero(parts.fates == fates.GOOD).tolist():
        part = parts.events[row]
        assert part is not None
        wanted = len(part.segments) + 1
        if any(len(window.sums) != wanted for window in part.windows):
            parts.reject(row, "invalid", f"$.windows: a window has {wanted} sums here")
    return parts


@dataclass(frozen=True, slots=True)
class Window:
    """A window with all its events; the part that completed it is record `row` of the batch."""

    row: int
    part: Part
    start_us: int
    sums: Sequence[tuple[int, int]]  # as in a part, over all partitions

    @property
    def figures(self) -> Iterator[tuple[str | None, float]]:
        """Of the whole (no segment), then of each segment and of the others."""
        counts, amounts = zip(*self.sums, strict=True)
        yield None, _figure(self.part, sum(counts), sum(amounts))
        if self.part.segments:
            for segment, sums in zip((*self.part.segments, OTHER), self.sums, strict=True):
                yield segment, _figure(self.part, *sums)


def _figure(part: Part, count: int, amount: int) -> float:
    """NaN where there is none: a mean or a rate of too few events."""
    if part.aggregate is Aggregate.COUNT:
        return float(count)
    if part.aggregate is Aggregate.SUM:
        return amount / part.scale
    return amount / part.scale / count if count >= part.at_least else nan


@dataclass(frozen=True, slots=True)
class Windows:
    """A batch of parts, and the windows that became complete, in that order."""

    parts: Events[Part]
    complete: list[Window]
    watermark_us: int

    @property
    def records(self) -> Records:
        return self.parts.records


class _Incomplete(msgspec.Struct, array_like=True):
    """A version of a metric: how far each partition is closed, and its windows that wait."""

    since_us: int = START_OF_TIME_US
    next_us: int | None = None  # the next window to be told
    empty: int = 0  # windows told since the last one with events
    until_us: dict[int, int] = {}  # by partition
    windows: dict[int, list[tuple[int, int]]] = {}

    def add(self, part: Part, until_us: int) -> None:
        self.until_us[part.partition] = max(until_us, self.until_us.get(part.partition, until_us))
        if part.since_us is not None:
            self.since_us = max(self.since_us, part.since_us)
        for window in part.windows:
            known = self.windows.get(window.start_us, [(0, 0)] * len(window.sums))
            self.windows[window.start_us] = [
                (count + more, amount + added)
                for (count, amount), (more, added) in zip(known, window.sums, strict=True)
            ]

    def complete(self, row: int, part: Part) -> Iterator[Window]:
        """The windows that every partition has closed, in order, those without events among
        them."""
        if not all(partition in self.until_us for partition in range(part.partitions)):
            return
        until_us, size_us = min(self.until_us.values()), part.window_us
        for start_us in sorted(s for s in self.windows if s + size_us <= until_us):
            sums = self.windows.pop(start_us)
            if start_us >= self.since_us:  # else a partition has not counted all of it
                yield from self._without_events(row, part, start_us)
                yield Window(row, part, start_us, sums)
                self.next_us, self.empty = start_us + size_us, 0
        if until_us < MAX_US:  # at the end of time nothing more is expected
            yield from self._without_events(row, part, until_us)

    def _without_events(self, row: int, part: Part, end_us: int) -> Iterator[Window]:
        """Those that end by `end_us`, after the first with events."""
        if self.next_us is None:
            return
        count = max((end_us - self.next_us) // part.window_us, 0)
        none = [(0, 0)] * (len(part.segments) + 1)
        told = min(count, MOST_EMPTY - self.empty)
        for number in range(told):
            yield Window(row, part, self.next_us + number * part.window_us, none)
        self.next_us += count * part.window_us
        self.empty += told


class _SavedSums(msgspec.Struct, array_like=True):
    snapshot_version: int
    watermark_us: int
    incomplete: dict[str, _Incomplete]


class Sums:
    """The slot's state: what partitions have told of windows that others have not closed yet."""

    def __init__(self, blob: bytes | None):
        saved = _SavedSums(SNAPSHOT_VERSION, START_OF_TIME_US, {})
        if blob:
            saved = decode_snapshot(blob, _SavedSums, (SNAPSHOT_VERSION,), "sums of metrics")
        self._watermark_us, self._incomplete = saved.watermark_us, saved.incomplete

    def snapshot(self) -> bytes:
        saved = _SavedSums(SNAPSHOT_VERSION, self._watermark_us, self._incomplete)
        return msgspec.msgpack.encode(saved)

    def process(self, parts: Events[Part]) -> Windows:
        rows = np.flatnonzero(parts.fates == fates.GOOD)
        complete: list[Window] = []
        for row, part in zip(rows.tolist(), parts.at(rows), strict=True):
            key = f"{_version(part)} {len(part.segments)}"  # parts of one key can be added up
            incomplete = self._incomplete.setdefault(key, _Incomplete())
            incomplete.add(part, int(parts.times_us[row]))
            complete += incomplete.complete(row, part)
        ends_us = [window.start_us + window.part.window_us for window in complete]
        self._watermark_us = max([self._watermark_us, *ends_us])
        return Windows(parts, complete, self._watermark_us)


def _version(part: Part) -> str:
    return f"{part.metric} {part.version}"


class Judge:
    """The slot's state: what the detector has learnt of each series."""

    def __init__(self, blob: bytes | None):
        self._detector = AnomalyDetector.restore(blob) if blob else AnomalyDetector()

    def snapshot(self) -> bytes:
        return self._detector.snapshot()

    def process(self, windows: Windows) -> Processed:
        parts = windows.parts
        records = parts.records
        return Processed(
            offsets=records.offsets,
            arrival_us=records.arrival_us,
            fates=parts.fates,
            outputs=[
                *self._judged(windows.complete, records),
                dead_letters("dlq.detect", records, parts.rejections, "metrics.parts"),
            ],
            watermark_us=windows.watermark_us,
        )

    def _judged(self, complete: Sequence[Window], records: Records) -> Iterator[Output]:
        figures = [
            (window, segment, value) for window in complete for segment, value in window.figures
        ]
        if not figures:
            return
        names = [_series(window.part, segment) for window, segment, _ in figures]
        starts_us = np.array([window.start_us for window, _, _ in figures])
        values = np.array([value for _, _, value in figures])
        scores = self._detector.score(names, starts_us, values)
        sizes_us = np.array([window.part.window_us for window, _, _ in figures])
        least = np.array([-np.inf if window.part.signed else 0.0 for window, _, _ in figures])
        bands = [np.maximum(column, least).tolist() for column in scores[1:]]
        starts, ends = instants(starts_us), instants(starts_us + sizes_us)
        measured = [
            Measured(
                metric=window.part.metric,
                segment=segment,
                window_start=start,
                window_end=end,
                value=value,
                expected=expected,
                lower=lower,
                upper=upper,
                score=score,
                version=window.part.version,
            )
            for (window, segment, value), start, end, score, expected, lower, upper in zip(
                figures, starts, ends, scores.score.tolist(), *bands, strict=True
            )
        ]
        causes = records.offsets[[window.row for window, _, _ in figures]]
        yield _output("metrics", causes, measured)
        alerting = np.flatnonzero(scores.score >= ALERT_AT)
        yield _output(
            "anomalies", causes[alerting], [_anomaly(measured[i]) for i in alerting.tolist()]
        )


def _series(part: Part, segment: str | None) -> str:
    return _version(part) if segment is None else f"{_version(part)} {segment}"


def _output(topic: str, causes: np.ndarray, found: Sequence[Measured | Anomaly]) -> Output:
    return Output(
        topic=topic,
        causes=causes,
        keys=[each.metric.encode() for each in found],
        values=list(map(_encode, found)),
        partition=0,
    )


_encode = msgspec.json.Encoder().encode  # NaN becomes null


def _anomaly(measured: Measured) -> Anomaly:
    series = (measured.metric, measured.version, measured.segment or "", measured.window_start)
    digest = blake2b("\0".join(("anomaly", *series)).encode(), digest_size=16)
    return Anomaly(
        anomaly_id=digest.hexdigest(),
        explanation=explained(measured),
        **msgspec.structs.asdict(measured),
    )


def explained(measured: Measured) -> str:
    """The anomaly in words."""
    of = "" if measured.segment is None else f" of {measured.segment}"
    start, end = (f"{at[:10]} {at[11:16]}" for at in (measured.window_start, measured.window_end))
    value, lower, upper = map(_number, (measured.value, measured.lower, measured.upper))
    said = f"{measured.metric}{of} was {value} from {start} to {end} UTC"
    if isnan(measured.lower):
        return f"{said}, unlike anything before"
    if measured.lower <= measured.value <= measured.upper:
        together = "but the last windows together are unlike any before"
        return f"{said}, within the {lower} to {upper} that was expected, {together}"
    side = "less" if measured.value < measured.lower else "more"
    return f"{said}, {side} than the {lower} to {upper} that was expected"


def _number(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
