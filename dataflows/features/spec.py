"""Feature specs: what a model sees of an event, declared in one YAML file.

A file that cannot be used is refused with its name, line, field and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from dataflows.durations import Duration
from dataflows.errors import TidegateError
from dataflows.features.columns import Columns, ColumnSpec, Kind, Unit
from dataflows.features.places import Places

MOST_REACH: Final = Duration.parse("400d")
"""A window and its delay reach no further back: what is kept so long hardly ever expires."""


class SpecError(TidegateError):
    """A feature spec that cannot be used."""


class Filter(Protocol):
    """A compiled SQL predicate."""

    def holds(self, columns: Columns) -> NDArray[np.bool_]: ...


CompileFilter = Callable[[str, Mapping[str, ColumnSpec]], Filter]


class Aggregate(StrEnum):
    """What a feature says about the entity's events in the window, this one included.

    Where "earlier" is said, this event itself is left out.
    """

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    STDDEV = "stddev"  # of a sample (n - 1); null with fewer than two
    FIRST = "first"
    LAST = "last"
    DISTINCT = "distinct"  # different values of `of`; exact up to 4,096 of them
    TIME_SINCE = "time_since"  # seconds since the last earlier one
    TIME_SINCE_FIRST = "time_since_first"  # seconds since the first one
    RISK = "risk"  # share of events known to be positive
    RATIO = "ratio"  # this value over the mean of the earlier ones
    ZSCORE = "zscore"  # how many of their standard deviations it lies above that mean
    GEO_VELOCITY = "geo_velocity"  # km/h from the last earlier place, a second away at least


class Calendar(StrEnum):
    """What the UTC clock says of the event time."""

    WEEKEND = "weekend"  # Saturday or Sunday
    NIGHT = "night"  # hours 0 to 6
    HOUR = "hour"  # 0..23
    WEEKDAY = "weekday"  # 0, Monday, to 6


_CHOICES: Final = {"aggregate": Aggregate, "calendar": Calendar}
_NUMERIC: Final = frozenset(
    {
        *(Aggregate.SUM, Aggregate.MEAN, Aggregate.MIN, Aggregate.MAX, Aggregate.STDDEV),
        *(Aggregate.FIRST, Aggregate.LAST, Aggregate.RATIO, Aggregate.ZSCORE),
    }
)
_LABELLED: Final = (Aggregate.COUNT, Aggregate.TIME_SINCE, Aggregate.TIME_SINCE_FIRST)
"""The aggregates that may be of the events known to be positive only."""

_UNITS: Final = {
    Aggregate.COUNT: Unit.COUNT,
    Aggregate.DISTINCT: Unit.COUNT,
    Aggregate.TIME_SINCE: Unit.SECONDS,
    Aggregate.TIME_SINCE_FIRST: Unit.SECONDS,
    Aggregate.RISK: Unit.RATIO,
    Aggregate.RATIO: Unit.RATIO,
}
_FLAGS: Final = frozenset({Calendar.WEEKEND, Calendar.NIGHT})

_Pattern = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*(\{window\}[a-z0-9_]*)?\Z")]
_Field = Annotated[str, msgspec.Meta(min_length=1)]


class _Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    field: _Field
    known: _Field | None = None
    delay: str | None = None


class _Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A feature, or one for each of its windows, as the file says it."""

    name: _Pattern
    description: str = ""
    value: _Field | None = None
    calendar: Calendar | None = None
    entity: _Field | None = None
    aggregate: Aggregate | None = None
    of: _Field | None = None
    window: str | None = None
    windows: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] | None = None
    delay: str | None = None
    filter: str | None = None
    labelled: bool = False
    latitude: _Field | None = None
    longitude: _Field | None = None
    otherwise: float | None = None


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    description: str = ""
    time: _Field
    id: _Field | None = None
    label: _Label | None = None
    fields: Annotated[dict[str, Kind], msgspec.Meta(min_length=1)]
    features: Annotated[tuple[_Declared, ...], msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Label:
    """Which events are positive, and since when that is known: a field, or so long after them."""

    field: str
    known: str | None
    delay_us: int


@dataclass(frozen=True, slots=True)
class Value:
    """A field of the event as it is: a number, or a flag."""

    name: str
    field: str
    spec: ColumnSpec


@dataclass(frozen=True, slots=True)
class CalendarFlag:
    """What the clock says."""

    name: str
    calendar: Calendar
    spec: ColumnSpec


@dataclass(frozen=True, slots=True)
class Windowed:
    """An aggregate of the entity's events in (t - delay - window, t - delay].

    `otherwise` stands where there is nothing to tell it from; else that is null. An event without
    the entity has null in any case.
    """

    name: str
    entity: str
    aggregate: Aggregate
    window_us: int
    delay_us: int
    of: str | None
    place: tuple[str, str] | None  # the fields of latitude and longitude, in degrees
    filter: Filter | None
    filter_text: str
    labelled: bool
    otherwise: float | None
    spec: ColumnSpec


Feature = Value | CalendarFlag | Windowed


@dataclass(frozen=True)
class FeatureSpec:
    """A file that can be used: its fields, and its features in order."""

    source: str
    description: str
    time: str
    id: str | None
    label: Label | None
    fields: Mapping[str, Kind]
    features: tuple[Feature, ...]
    version: str
    """Two specs with the same version make the same features."""

    @property
    def names(self) -> list[str]:
        """The features', in order."""
        return [feature.name for feature in self.features]

    @property
    def columns(self) -> list[str]:
        """Everything it reads of an event: time, id, label, fields."""
        label = (self.label.field, self.label.known) if self.label else ()
        named = (self.time, self.id, *label, *self.fields)
        return list(dict.fromkeys(name for name in named if name))


def load_spec(path: Path, compile_filter: CompileFilter) -> FeatureSpec:
    """Read a spec. Raises SpecError naming file, line, field and what to do."""
    return parse_spec(read_spec(path), str(path), compile_filter)


def read_spec(path: Path) -> str:
    """The text of a spec. Raises SpecError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8: convert it") from error


def parse_spec(text: str, source: str, compile_filter: CompileFilter) -> FeatureSpec:
    """A spec from its YAML text; `source` names it in errors. Raises SpecError."""
    places = Places(text, source, SpecError)
    document = yaml.safe_load(text)
    try:
        file = msgspec.convert(document, _File)
    except msgspec.ValidationError as error:
        raise places.invalid(error, _members, _CHOICES) from error
    return _Reader(file, source, places, compile_filter).read(document)


def _members(path: str) -> tuple[str, ...]:
    if path.startswith("features["):
        return _Declared.__struct_fields__
    return (_Label if path.startswith("label") else _File).__struct_fields__


class _Reader:
    """Checks a file beyond its types."""

    def __init__(
        self, file: _File, source: str, places: Places, compile_filter: CompileFilter
    ) -> None:
        self._file, self._source, self._places = file, source, places
        self._compile_filter = compile_filter
        self._specs = {name: ColumnSpec(name, kind, "") for name, kind in file.fields.items()}

    def read(self, document: Any) -> FeatureSpec:
        file, label = self._file, self._label()
        taken = {file.time, file.id, label.field if label else None}
        features: dict[str, Feature] = {}
        for number, declared in enumerate(file.features):
            at = f"features[{number}]"
            for feature in self._features(declared, at):
                if feature.name in features:
                    raise self._error(f"{at}.name", f"{feature.name} is there twice: rename one")
                if feature.name in taken:
                    raise self._error(
                        f"{at}.name", f"{feature.name} is the time, id or label itself: rename it"
                    )
                features[feature.name] = feature
        meaning = {key: value for key, value in document.items() if key != "description"}
        digest = blake2b(msgspec.json.encode(meaning, order="sorted"), digest_size=6)
        return FeatureSpec(
            source=self._source,
            description=file.description,
            time=file.time,
            id=file.id,
            label=label,
            fields=dict(file.fields),
            features=tuple(features.values()),
            version=digest.hexdigest(),
        )

    def _error(self, path: str, what: str) -> TidegateError:
        return self._places.error(path, what)

    def _label(self) -> Label | None:
        label = self._file.label
        if label is None:
            return None
        if (label.known is None) == (label.delay is None):
            raise self._error(
                "label",
                "say since when it is known: either `known`, a field with that time, or `delay`, "
                "so long after the event",
            )
        if label.field in self._file.fields:
            raise self._error(
                f"fields.{label.field}",
                "is the label itself, which nobody knows when the event comes: remove it",
            )
        delay = 0 if label.delay is None else self._duration("label.delay", label.delay, 0)
        return Label(label.field, label.known, delay)

    def _features(self, declared: _Declared, at: str) -> list[Feature]:
        ways = [n for n in ("value", "calendar", "aggregate") if getattr(declared, n) is not None]
        if len(ways) != 1:
            raise self._error(at, "give exactly one of value, calendar and aggregate")
        if declared.aggregate is not None:
            return self._windowed(declared, declared.aggregate, at)
        self._refuse_others(declared, at, ways[0])
        if declared.calendar is not None:
            kind = Kind.BOOLEAN if declared.calendar in _FLAGS else Kind.NUMBER
            spec = ColumnSpec(declared.name, kind, declared.description)
            return [CalendarFlag(declared.name, declared.calendar, spec)]
        field = str(declared.value)
        kind = self._field(f"{at}.value", field, Kind.NUMBER, Kind.BOOLEAN)
        return [Value(declared.name, field, ColumnSpec(declared.name, kind, declared.description))]

    def _refuse_others(self, declared: _Declared, at: str, way: str) -> None:
        for field in _Declared.__struct_fields__:
            allowed = field in ("name", "description", way)
            if not allowed and getattr(declared, field) not in (None, False):
                raise self._error(f"{at}.{field}", f"a {way} feature has no {field}: remove it")

    def _windowed(self, declared: _Declared, aggregate: Aggregate, at: str) -> list[Feature]:
        if declared.entity is None:
            raise self._error(at, "say whose events it is of: entity, a text field")
        self._field(f"{at}.entity", declared.entity, Kind.TEXT)
        of = self._of(declared, aggregate, at)
        place = self._place(declared, aggregate, at)
        self._check_label(declared, aggregate, at)
        condition = self._filter(declared, at)
        delay = 0 if declared.delay is None else self._duration(f"{at}.delay", declared.delay, 0)
        if delay and aggregate is Aggregate.GEO_VELOCITY:
            raise self._error(f"{at}.delay", f"{aggregate} is from the last place: remove it")
        features: list[Feature] = []
        for path, text in self._windows(declared, at):
            window = self._duration(path, text)
            if window + delay > MOST_REACH:
                raise self._error(
                    path,
                    f"{text} and a delay of {Duration(delay)} reach back further than "
                    f"{MOST_REACH}: shorten the window",
                )
            name = declared.name.replace("{window}", text)
            unit = _UNITS.get(aggregate, Unit.NONE)
            features.append(
                Windowed(
                    name=name,
                    entity=declared.entity,
                    aggregate=aggregate,
                    window_us=window,
                    delay_us=delay,
                    of=of,
                    place=place,
                    filter=condition,
                    filter_text=declared.filter or "",
                    labelled=declared.labelled,
                    otherwise=declared.otherwise,
                    spec=ColumnSpec(name, Kind.NUMBER, declared.description, unit),
                )
            )
        return features

    def _windows(self, declared: _Declared, at: str) -> list[tuple[str, str]]:
        """The windows with their paths."""
        if declared.window is not None and declared.windows is None:
            return [(f"{at}.window", declared.window)]
        if declared.window is not None or declared.windows is None:
            raise self._error(at, "give either window, e.g. 7d, or windows, e.g. [1d, 7d]")
        if len(declared.windows) > 1 and "{window}" not in declared.name:
            raise self._error(
                f"{at}.name",
                f"with several windows write {{window}} in it: {declared.name}_{{window}}",
            )
        return [(f"{at}.windows[{n}]", text) for n, text in enumerate(declared.windows)]

    def _of(self, declared: _Declared, aggregate: Aggregate, at: str) -> str | None:
        if aggregate in _NUMERIC:
            wanted = Kind.NUMBER
        elif aggregate is Aggregate.DISTINCT:
            wanted = Kind.TEXT
        elif declared.of is not None:
            raise self._error(f"{at}.of", f"{aggregate} is of the events themselves: remove it")
        else:
            return None
        if declared.of is None:
            raise self._error(at, f"say what {aggregate} is of: of, a {wanted} field")
        self._field(f"{at}.of", declared.of, wanted)
        return declared.of

    def _place(self, declared: _Declared, aggregate: Aggregate, at: str) -> tuple[str, str] | None:
        given = {"latitude": declared.latitude, "longitude": declared.longitude}
        for name, field in given.items():
            if aggregate is not Aggregate.GEO_VELOCITY:
                if field is not None:
                    raise self._error(f"{at}.{name}", "only geo_velocity has it: remove it")
            elif field is None:
                raise self._error(at, f"geo_velocity needs {name}, a number field in degrees")
            else:
                self._field(f"{at}.{name}", field, Kind.NUMBER)
        if aggregate is not Aggregate.GEO_VELOCITY:
            return None
        return str(declared.latitude), str(declared.longitude)

    def _check_label(self, declared: _Declared, aggregate: Aggregate, at: str) -> None:
        if declared.labelled and aggregate not in _LABELLED:
            allowed = ", ".join(_LABELLED)
            raise self._error(f"{at}.labelled", f"only {allowed} can be of labelled events")
        if (declared.labelled or aggregate is Aggregate.RISK) and self._file.label is None:
            raise self._error(
                at, "it needs labels: add `label: {field: ..., delay: 7d}` to the file"
            )

    def _filter(self, declared: _Declared, at: str) -> Filter | None:
        if declared.filter is None:
            return None
        try:
            return self._compile_filter(declared.filter, self._specs)
        except TidegateError as error:
            raise self._error(f"{at}.filter", str(error)) from error

    def _field(self, path: str, name: str, *wanted: Kind) -> Kind:
        kind = self._file.fields.get(name)
        if kind is None:
            near = difflib.get_close_matches(name, self._file.fields, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise self._error(
                path, f"there is no field {name!r}{hint}: fields has {', '.join(self._file.fields)}"
            )
        if kind not in wanted:
            raise self._error(
                path, f"{name} is a {kind} field, and a {' or '.join(wanted)} field is needed"
            )
        return kind

    def _duration(self, path: str, text: str, least: int = 1) -> Duration:
        try:
            duration = Duration.parse(text)
        except ValueError as error:
            raise self._error(path, str(error)) from error
        if duration < least:
            raise self._error(path, f"{text} is no time at all: write e.g. 1d")
        return duration
