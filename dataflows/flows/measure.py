"""measure: events.* -> metrics.parts, dlq.measure; the first hop of metrics

    read -> decode -> count -> publish

Each partition counts its own share of every window of its source's metrics. The share goes on once
no event of the window can come any more, to the hop that adds the shares of all partitions up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.operators import map_value
from numpy.typing import NDArray

from dataflows.connectors.records import Output
from dataflows.contracts import Contract
from dataflows.contracts.money import parse_money
from dataflows.contracts.shapes import Boolean, Integer, Money, Number, Shape
from dataflows.decodable import LOOKING_OVER
from dataflows.detection.metrics import CompiledMetric, EventField, Metrics
from dataflows.detection.predicates import Predicate
from dataflows.eventtime.lateness import classify
from dataflows.eventtime.snapshots import decode_snapshot
from dataflows.eventtime.watermark import START_OF_TIME_US, Watermark
from dataflows.eventtime.window_sums import Closed, OpenWindows, WindowSums
from dataflows.features.columns import Column, ColumnsOnDemand, from_list
from dataflows.flows.dead_letters import dead_letters
from dataflows.flows.decoding import Events, Timed, decode_events
from dataflows.flows.metric_parts import PARTS, Part, WindowPart, instants
from dataflows.flows.shop import Shop
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime
from dataflows.runtime.sink import Processed, publish
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.state import keep_state

SNAPSHOT_VERSION = 1
CENTS = 100


def measure(slot: Slot, shop: Shop) -> Dataflow:
    contract = shop.contract(slot.topic)
    metrics = tuple(m for m in shop.metrics if m.metric.source == contract.source)
    counts = partial(
        MetricCounts,
        slot.config.event_time,
        metrics,
        slot.partition,
        shop.topology.topics[slot.topic],
    )
    flow = Dataflow("measure")
    records = read("read", flow, slot)
    events = map_value("decode", records, partial(decode_events, event_decoder(contract, metrics)))
    parts = keep_state("count", events, slot, counts)
    publish("publish", parts, slot)
    return flow


def event_decoder(contract: Contract, metrics: Metrics) -> msgspec.json.Decoder[Timed]:
    """Decodes of an event its time and what the metrics read of it; what is missing is None."""
    tree: dict[str, Any] = {}
    for field in (field for metric in metrics for field in metric.reads.values()):
        *parents, name = field.path.split(".")
        inside = tree
        for parent in parents:
            inside = inside.setdefault(parent, {})
        inside[name] = _python(field.shape)
    kind = msgspec.defstruct(
        f"Measured_{contract.source}",
        _members(tree),
        bases=(Timed,),
        rename={"event_timestamp": contract.event_time},
        gc=False,
        kw_only=True,
    )
    with LOOKING_OVER:
        return msgspec.json.Decoder(kind)


def _python(shape: Shape) -> Any:
    match shape:
        case Integer():
            return Annotated[int, msgspec.Meta(ge=shape.minimum, le=shape.maximum)]
        case Number():
            return float
        case Boolean():
            return bool
    return str


def _members(tree: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    members: list[tuple[str, Any, Any]] = []
    for name, inner in tree.items():
        if isinstance(inner, dict):
            nested = msgspec.defstruct(name, _members(inner), gc=False, frozen=True)
            members.append((name, nested | None, nested()))
        else:
            members.append((name, inner | None, None))
    return members


class _Saved(msgspec.Struct, array_like=True):
    snapshot_version: int
    newest_us: int
    metrics: dict[str, tuple[str, OpenWindows]]  # by id, with the version


class MetricCounts:
    """The slot's state: the open windows of every metric.

    A metric that is new, or another than before, is counted from the first window on that begins
    after the newest event so far, so that no window is told of which a part was not counted.
    """

    def __init__(
        self,
        settings: EventTime,
        metrics: Metrics,
        partition: int,
        partitions: int,
        blob: bytes | None,
    ):
        self._settings, self._metrics = settings, metrics
        self._partition, self._partitions = partition, partitions
        saved = _Saved(SNAPSHOT_VERSION, START_OF_TIME_US, {})
        if blob:
            saved = decode_snapshot(blob, _Saved, (SNAPSHOT_VERSION,), "metrics")
        self._watermark = Watermark(int(self._settings.bound), saved.newest_us)
        self._windows = [self._restored(metric, saved) for metric in metrics]

    def _restored(self, compiled: CompiledMetric, saved: _Saved) -> WindowSums:
        lateness_us = int(self._settings.lateness)
        windows = WindowSums(compiled.window_us, lateness_us, _groups(compiled), saved.newest_us)
        version, known = saved.metrics.get(compiled.metric.id, ("", None))
        if known is not None and version == compiled.version:
            windows.restore(known)
        return windows

    def snapshot(self) -> bytes:
        metrics = {
            compiled.metric.id: (compiled.version, windows.snapshot())
            for compiled, windows in zip(self._metrics, self._windows, strict=True)
        }
        saved = _Saved(SNAPSHOT_VERSION, self._watermark.snapshot(), metrics)
        return msgspec.msgpack.encode(saved)

    def process(self, events: Events[Timed]) -> Processed:
        records, times_us, codes = events.records, events.times_us, events.fates
        moves = (codes == fates.GOOD) | (codes == fates.HEARTBEAT)
        watermarks_us = self._watermark.advance(times_us, moves)
        rows = np.flatnonzero(codes == fates.GOOD)
        settings = self._settings
        classes = classify(times_us[rows], watermarks_us[rows], settings.lateness, settings.horizon)
        codes[rows] = fates.FATE_OF_CLASS[classes]
        timely = rows[(codes[rows] == fates.GOOD) | (codes[rows] == fates.LATE)]
        columns = event_columns(self._metrics, events.at(timely))
        closed = [
            (each, compiled, windows.since_us)
            for compiled, windows in zip(self._metrics, self._windows, strict=True)
            for each in windows.process(
                times_us[timely], *summands(compiled, columns, len(timely)), timely, watermarks_us
            )
        ]
        return Processed(
            offsets=records.offsets,
            arrival_us=records.arrival_us,
            fates=codes,
            outputs=[
                self._parts(sorted(closed, key=lambda found: found[0].row), records.offsets),
                dead_letters("dlq.measure", records, events.rejections, "metrics", partition=0),
            ],
            watermark_us=int(watermarks_us[-1]),
        )

    def _parts(
        self, closed: Sequence[tuple[Closed, CompiledMetric, int]], offsets: NDArray[np.int64]
    ) -> Output:
        if not closed:
            return Output(PARTS, np.zeros(0, np.int64), [], [])
        until_texts = instants(np.array([each.until_us for each, _, _ in closed]))
        return Output(
            topic=PARTS,
            causes=offsets[[each.row for each, _, _ in closed]],
            keys=[compiled.metric.id.encode() for _, compiled, _ in closed],
            values=[
                _encode(self._part(*found, until))
                for found, until in zip(closed, until_texts, strict=True)
            ],
            partition=0,
        )

    def _part(self, closed: Closed, compiled: CompiledMetric, since_us: int, until: str) -> Part:
        metric = compiled.metric
        return Part(
            event_timestamp=until,
            metric=metric.id,
            version=compiled.version,
            aggregate=metric.aggregate,
            window_us=compiled.window_us,
            scale=CENTS if _is_money(compiled.of) else 1,
            at_least=metric.at_least,
            signed=_is_signed(compiled.of),
            segments=compiled.segments,
            since_us=None if since_us == START_OF_TIME_US else since_us,
            partition=self._partition,
            partitions=self._partitions,
            windows=[
                WindowPart(start_us, [(count, amount) for count, amount in sums.tolist()])
                for start_us, sums in closed.windows.items()
            ],
        )


_encode = msgspec.json.Encoder().encode


def _is_money(of: object) -> bool:
    return isinstance(of, EventField) and isinstance(of.shape, Money)


def _is_signed(of: object) -> bool:
    return isinstance(of, EventField) and isinstance(of.shape, Integer) and of.shape.minimum < 0


def _groups(compiled: CompiledMetric) -> int:
    """Each segment and the others; or only all."""
    return len(compiled.segments) + 1


def event_columns(metrics: Metrics, events: Sequence[Timed]) -> ColumnsOnDemand:
    """What the metrics read, of k events."""
    fields = {name: field for metric in metrics for name, field in metric.reads.items()}
    makers: dict[str, Callable[[], Column]] = {
        name: partial(_column, field, events) for name, field in fields.items()
    }
    return ColumnsOnDemand(makers)


def _column(field: EventField, events: Sequence[Timed]) -> Column:
    values = _each(field.path, events)
    if isinstance(field.shape, Money):
        cents, readable = parse_money([value or "" for value in values])
        return Column(cents / CENTS, readable)
    return from_list(field.spec.kind, values)


def _each(path: str, events: Sequence[Timed]) -> list[Any]:
    get = attrgetter(path)
    try:
        return list(map(get, events))
    except AttributeError:  # an object on the way is null
        return [_or_none(get, event) for event in events]


def _or_none(get: Callable[[Any], Any], event: Timed) -> Any:
    try:
        return get(event)
    except AttributeError:
        return None


def summands(
    compiled: CompiledMetric, columns: ColumnsOnDemand, events: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of each of k events its group, and what it adds to the number and to the amount there."""
    if not events:
        return _NONE, _NONE, _NONE
    where = _rows(compiled.where, columns, events)
    of, amounts = compiled.of, np.zeros(events, np.int64)
    if isinstance(of, Predicate):
        amounts[where & of.holds(columns)] = 1
        where &= _rows(compiled.per, columns, events)
    elif of is not None:
        summed = columns[of.spec.name]
        where &= summed.valid
        scale = CENTS if _is_money(of) else 1
        amounts[where] = np.rint(summed.values[where] * scale)  # exact up to LARGEST_SUMMAND
    return _segments(compiled, columns, events), where.astype(np.int64), amounts


_NONE = np.zeros(0, np.int64)


def _rows(condition: Predicate | None, columns: ColumnsOnDemand, events: int) -> NDArray[np.bool_]:
    return np.ones(events, np.bool_) if condition is None else condition.holds(columns)


def _segments(compiled: CompiledMetric, columns: ColumnsOnDemand, events: int) -> NDArray[np.int64]:
    if compiled.by is None:
        return np.zeros(events, np.int64)
    values = columns[compiled.by.spec.name].values.tolist()
    numbers = {value: number for number, value in enumerate(compiled.segments)}
    return np.array([numbers.get(value, len(numbers)) for value in values], np.int64)
