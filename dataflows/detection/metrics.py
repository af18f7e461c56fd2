"""Metrics: one YAML file a series of figures over windows of event time, for the anomaly detector.

A file that cannot be used is refused with its name, line, field and what to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Final

import msgspec
import yaml

from dataflows.contracts import Contract
from dataflows.contracts.shapes import Boolean, Integer, Money, Number, Object, Shape, Text, walk
from dataflows.decodable import make_decodable
from dataflows.detection.predicates import (
    Predicate,
    PredicateError,
    compile_predicate,
    unknown_column,
)
from dataflows.durations import MICROSECONDS, Duration
from dataflows.errors import TidegateError
from dataflows.features.columns import ColumnSpec, Kind
from dataflows.features.places import Places, yaml_files

MOST_SEGMENTS: Final = 50
MOST_SERIES: Final = 1_000
"""Of all metrics together: the detector keeps 60 kB for each."""
LARGEST_SUMMAND: Final = 10**14
"""What a sum adds is no larger, so that sums are exact: 92,000 of the largest fit into int64."""
OTHER: Final = "(other)"
"""The segment of events whose value is not listed, or missing."""
_SHORTEST: Final = Duration.parse("1m")
_DAY: Final = MICROSECONDS["d"]

NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class MetricError(TidegateError):
    """A metric file that cannot be used."""


class Aggregate(StrEnum):
    """What a metric says about the events of a window."""

    COUNT = "count"  # how many
    SUM = "sum"  # of the field `of`
    MEAN = "mean"  # of the field `of`, over the events that have it
    RATE = "rate"  # events that meet the condition `of`, for each that meets `per`


class Segments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A series of its own for each of these values of a field, and one for all others."""

    by: NonEmpty
    values: Annotated[tuple[NonEmpty, ...], msgspec.Meta(min_length=1, max_length=MOST_SEGMENTS)]


class Metric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A metric as its file says it."""

    id: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
    description: NonEmpty
    owner: NonEmpty
    source: NonEmpty
    where: NonEmpty | None = None
    aggregate: Aggregate
    of: NonEmpty | None = None
    per: NonEmpty | None = None
    window: NonEmpty
    segments: Segments | None = None
    at_least: Annotated[int, msgspec.Meta(ge=1)] = 1


make_decodable(Metric)


@dataclass(frozen=True, slots=True)
class EventField:
    """A field of a source's events as a column: nested ones are joined by `_`."""

    path: str
    shape: Shape
    spec: ColumnSpec


@dataclass(frozen=True)
class CompiledMetric:
    """A metric ready to run; `reads` are the fields it reads, by column."""

    metric: Metric
    window_us: int
    where: Predicate | None
    of: Predicate | EventField | None
    per: Predicate | None
    by: EventField | None
    reads: Mapping[str, EventField]

    @property
    def segments(self) -> tuple[str, ...]:
        return self.metric.segments.values if self.metric.segments else ()

    @property
    def series(self) -> int:
        """The whole, and with segments each of them and the others."""
        return len(self.segments) + 2 if self.segments else 1

    @property
    def version(self) -> str:
        """Two metrics of a version have the same figures."""
        said = msgspec.structs.asdict(self.metric)
        content = {k: v for k, v in said.items() if k not in ("description", "owner")}
        return blake2b(msgspec.json.encode(content), digest_size=6).hexdigest()


Metrics = tuple[CompiledMetric, ...]


def load_metrics(folder: Path, contracts: Mapping[str, Contract]) -> Metrics:
    """Every metric of a folder, by id; it may have none.

    Raises MetricError naming file, line and field of the first that cannot be used.
    """
    metrics = tuple(
        _in_its_file(path, contracts) for path in yaml_files(folder, "metrics", MetricError)
    )
    series = sum(each.series for each in metrics)
    if series > MOST_SERIES:
        raise MetricError(
            f"{folder}: {series:,} series; {MOST_SERIES:,} at most: give some metric fewer segments"
        )
    return metrics


def fitting_metrics(
    folder: Path, contracts: Mapping[str, Contract]
) -> tuple[Metrics, list[MetricError]]:
    """The metrics of a folder that fit the contracts, by id; and why the others do not."""
    fitting, others = [], []
    for path in yaml_files(folder, "metrics", MetricError):
        try:
            fitting.append(_in_its_file(path, contracts))
        except MetricError as error:
            others.append(error)
    return tuple(fitting), others


def _in_its_file(path: Path, contracts: Mapping[str, Contract]) -> CompiledMetric:
    found = read_metric(path, contracts)
    if path.name != f"{found.metric.id}.yaml":
        raise MetricError(f"{path}: id: {found.metric.id} belongs in {found.metric.id}.yaml")
    return found


def read_metric(path: Path, contracts: Mapping[str, Contract]) -> CompiledMetric:
    """A metric from any file. Raises MetricError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MetricError(f"{path}: cannot be read ({error})") from error
    return parse_metric(text, str(path), contracts)


def parse_metric(text: str, source: str, contracts: Mapping[str, Contract]) -> CompiledMetric:
    """A metric from its YAML text; `source` names it in errors. Raises MetricError."""
    place = Places(text, source, MetricError)
    try:
        metric = msgspec.convert(yaml.safe_load(text), Metric)
    except msgspec.ValidationError as error:
        raise place.invalid(error, _members, {"aggregate": Aggregate}) from error
    if metric.source not in contracts:
        known = ", ".join(contracts)
        raise place.error("source", f"there is no source {metric.source!r}: there are {known}")
    return _Compiler(metric, place, event_fields(contracts[metric.source])).compile()


def _members(path: str) -> tuple[str, ...]:
    return (Segments if path == "segments" else Metric).__struct_fields__


# What ingest adds and metrics may read, with the names that rules have for it.
_ADDED: Final = {
    "device_class": "device_class",
    "lateness": "lateness",
    "product_category": "product.category",
    "product_brand": "product.brand",
    "customer_segment": "customer.segment",
    "customer_country": "customer.address.country",
}
_KINDS: Final[dict[type, Kind]] = {
    Text: Kind.TEXT,
    Money: Kind.NUMBER,
    Integer: Kind.NUMBER,
    Number: Kind.NUMBER,
    Boolean: Kind.BOOLEAN,
}


def event_fields(contract: Contract) -> dict[str, EventField]:
    """What metrics may read of a source's events, by column."""
    found = {}
    for path, field in walk(contract.shape):
        column = path.replace(".", "_")
        if type(field.shape) in _KINDS and not _in_array(contract.shape, path):
            spec = ColumnSpec(column, _KINDS[type(field.shape)], field.description)
            found[column] = EventField(path, field.shape, spec)
    for column, path in _ADDED.items():
        found.setdefault(column, EventField(path, Text(), ColumnSpec(column, Kind.TEXT, "")))
    return found


def _in_array(shape: Object, path: str) -> bool:
    """Whether a path leads through an array: there may be several values, then."""
    *parents, _ = path.split(".")
    for name in parents:
        inner = shape.fields[name].shape
        if not isinstance(inner, Object):
            return True
        shape = inner
    return False


class _Compiler:
    """Checks one metric against the fields of its source."""

    def __init__(self, metric: Metric, place: Places, fields: Mapping[str, EventField]) -> None:
        self._metric, self._place, self._fields = metric, place, fields
        self._specs = {column: field.spec for column, field in fields.items()}

    def compile(self) -> CompiledMetric:
        metric = self._metric
        where, per = self._condition("where", metric.where), self._condition("per", metric.per)
        of, by = self._of(), self._by()
        columns = [c for p in (where, per, of) if isinstance(p, Predicate) for c in p.columns]
        columns += [field.spec.name for field in (of, by) if isinstance(field, EventField)]
        reads = {column: self._fields[column] for column in dict.fromkeys(columns)}
        return CompiledMetric(metric, self._window(), where, of, per, by, reads)

    def _of(self) -> Predicate | EventField | None:
        metric, aggregate = self._metric, self._metric.aggregate
        if metric.per is not None and aggregate is not Aggregate.RATE:
            raise self._place.error("per", "belongs to a rate alone: leave it out")
        if metric.at_least > 1 and aggregate in (Aggregate.COUNT, Aggregate.SUM):
            raise self._place.error("at_least", f"a {aggregate} of few events is one: leave it out")
        if aggregate is Aggregate.COUNT:
            if metric.of is not None:
                raise self._place.error("of", "a count is of events: say which ones in `where`")
            return None
        if metric.of is None:
            what = "condition" if aggregate is Aggregate.RATE else "field"
            raise self._place.error("aggregate", f"a {aggregate} needs `of`, the {what} it is of")
        if aggregate is Aggregate.RATE:
            return self._condition("of", metric.of)
        return self._summand(metric.of)

    def _summand(self, column: str) -> EventField:
        field = self._field("of", column)
        exact = isinstance(field.shape, Money | Integer)
        if not exact:
            raise self._place.error(
                "of", f"{column} is neither money nor an integer, whose sums are exact"
            )
        if isinstance(field.shape, Integer) and (
            max(-field.shape.minimum, field.shape.maximum) > LARGEST_SUMMAND
        ):
            raise self._place.error(
                "of", f"{column} may be beyond 10^14: give it a minimum and a maximum in its schema"
            )
        return field

    def _by(self) -> EventField | None:
        segments = self._metric.segments
        if segments is None:
            return None
        field = self._field("segments.by", segments.by)
        if field.spec.kind is not Kind.TEXT:
            raise self._place.error(
                "segments.by", f"{segments.by} is a {field.spec.kind}: segments are by texts"
            )
        seen: set[str] = set()
        for number, value in enumerate(segments.values):
            at = f"segments.values[{number}]"
            if value in seen:
                raise self._place.error(at, f"{value} is there twice: keep one")
            if value == OTHER:
                raise self._place.error(at, f"{OTHER} is what all values not listed are called")
            if isinstance(field.shape, Text) and field.shape.enum and value not in field.shape.enum:
                known = ", ".join(field.shape.enum)
                raise self._place.error(
                    at, f"{segments.by} is never {value!r}: it is one of {known}"
                )
            seen.add(value)
        return field

    def _field(self, at: str, column: str) -> EventField:
        field = self._fields.get(column)
        if field is None:
            raise self._place.error(at, unknown_column(column, self._specs))
        return field

    def _condition(self, at: str, text: str | None) -> Predicate | None:
        if text is None:
            return None
        try:
            condition = compile_predicate(text, self._specs)
        except PredicateError as error:
            raise self._place.error(at, str(error)) from error
        if not condition.columns:
            raise self._place.error(at, "names no field, so it is the same for all events")
        return condition

    def _window(self) -> int:
        try:
            window = Duration.parse(self._metric.window)
        except ValueError as error:
            raise self._place.error("window", str(error)) from error
        if not _SHORTEST <= window <= _DAY or _DAY % window:
            raise self._place.error(
                "window", f"{window} does not divide a day: write 1m to 1d, such as 10m or 1h"
            )
        return int(window)
