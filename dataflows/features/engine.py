"""The features of a spec, computed event by event: the same code makes training rows and serves.

Numbers are kept as whole millionths, so sums are exact and any order of arrival within the lateness
gives the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime.changed_rows import Changes, JoinedRounds
from dataflows.eventtime.snapshots import Buffer, check_configuration, decode_snapshot
from dataflows.eventtime.timelines import (
    MISSING,
    Answered,
    Ask,
    Given,
    Keeps,
    Timeline,
    Timelines,
    What,
)
from dataflows.features.catalogue import DAY_US, HOUR_US
from dataflows.features.columns import Column
from dataflows.features.great_circle import great_circle_km
from dataflows.features.rolling import SECOND_US
from dataflows.features.spec import (
    Aggregate,
    Calendar,
    CalendarFlag,
    FeatureSpec,
    Filter,
    Value,
    Windowed,
)

SNAPSHOT_VERSION = 1
SCALE: Final = 1_000_000.0
MOST_NUMBER: Final = 1e9
"""A number further from zero is not taken: sums of such would not be exact."""
NEVER: Final = -(2**63)
"""Since when a label is known that never will be."""

_EARLIER: Final = frozenset(
    {Aggregate.TIME_SINCE, Aggregate.RATIO, Aggregate.ZSCORE, Aggregate.GEO_VELOCITY}
)


@dataclass(frozen=True, slots=True)
class Events:
    """n records in order of arrival: events, and labels that have become known.

    A label is the event's own record again, at the event's time, with `known_us` instead of NEVER;
    only events that turned out positive have one. `fields` has a column for each field of the
    spec: text as objects with None for null, numbers within MOST_NUMBER. There is a watermark for
    each record, in force when it arrives; it never falls.
    """

    times_us: NDArray[np.int64]
    fields: Mapping[str, Column]
    watermarks_us: NDArray[np.int64]
    known_us: NDArray[np.int64]

    @property
    def is_label(self) -> NDArray[np.bool_]:
        labels: NDArray[np.bool_] = self.known_us != NEVER
        return labels


@dataclass(frozen=True, slots=True)
class _Selection:
    """Which events a timeline is of, and what it keeps of them."""

    filter_text: str
    fields: tuple[str, ...]  # the one that is kept, then those that must not be null either
    keeps_names: bool
    labelled: bool


@dataclass(slots=True)
class _Draft:
    """A timeline as features add their asks to it."""

    asks: list[Ask] = field(default_factory=list)

    def row(self, ask: Ask) -> int:
        if ask not in self.asks:
            self.asks.append(ask)
        return self.asks.index(ask)


@dataclass(frozen=True, slots=True)
class _Answers:
    """What an entity's timelines said of n records; `known`: those that have the entity."""

    events: Events
    known: NDArray[np.bool_]
    answered: list[Answered]


_Row = tuple[int, int]
"""A timeline, and a row of its answers."""
_Told = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Values, and where they are valid."""


class _Entity:
    """The timelines of one entity, and how its features come out of them."""

    def __init__(self) -> None:
        self._drafts: dict[_Selection, _Draft] = {}
        self._makers: dict[str, Callable[[_Answers], Column]] = {}

    def add(self, feature: Windowed) -> None:
        self._makers[feature.name] = _maker(feature, self)

    def row(
        self,
        feature: Windowed,
        what: What,
        fields: tuple[str, ...] = (),
        keeps_names: bool = False,
        labelled: bool = False,
    ) -> _Row:
        """Where the answer will be."""
        selection = _Selection(feature.filter_text, fields, keeps_names, labelled)
        draft = self._drafts.setdefault(selection, _Draft())
        earlier = feature.aggregate in _EARLIER and not labelled
        ask = Ask(what, feature.window_us, feature.delay_us, earlier)
        return list(self._drafts).index(selection), draft.row(ask)

    @property
    def timelines(self) -> tuple[Timeline, ...]:
        return tuple(
            Timeline(_keeps(selection, draft.asks), tuple(draft.asks))
            for selection, draft in self._drafts.items()
        )

    @property
    def described(self) -> list[tuple[str, Timeline]]:
        words = []
        for selection in self._drafts:
            of = f"{selection.fields[0]} of events" if selection.fields else "events"
            of = "labels" if selection.labelled else of
            words.append(f"{of} where {selection.filter_text}" if selection.filter_text else of)
        return list(zip(words, self.timelines, strict=True))

    def given(self, events: Events, filters: Mapping[str, NDArray[np.bool_]]) -> list[Given]:
        """The records as each timeline takes them."""
        is_label = events.is_label
        given = []
        for selection in self._drafts:
            puts = is_label if selection.labelled else ~is_label
            if selection.filter_text:
                puts = puts & filters[selection.filter_text]
            for name in selection.fields:
                puts = puts & events.fields[name].valid
            if selection.labelled or not selection.fields:
                given.append(Given(puts, events.known_us))
                continue
            column = events.fields[selection.fields[0]]
            if selection.keeps_names:
                given.append(Given(puts, events.known_us, column.values.tolist()))
            else:
                given.append(Given(puts, _scaled(column)))
        return given

    def columns(self, answers: _Answers) -> dict[str, Column]:
        return {name: make(answers) for name, make in self._makers.items()}


class FeatureEngine:
    """The state of a spec: what every entity did within the longest reach of its features.

    Exact for events up to `lateness_us` behind the watermark; an event further behind is answered
    as if nothing older were known.
    """

    def __init__(self, spec: FeatureSpec, lateness_us: int) -> None:
        self.spec = spec
        self._entities: dict[str, _Entity] = {}
        self._filters: dict[str, Filter] = {}
        for feature in spec.features:
            if isinstance(feature, Windowed):
                self._entities.setdefault(feature.entity, _Entity()).add(feature)
                if feature.filter is not None:
                    self._filters[feature.filter_text] = feature.filter
        self._states = {
            name: Timelines(entity.timelines, lateness_us)
            for name, entity in self._entities.items()
        }
        self._rounds = JoinedRounds(len(self._states))

    @property
    def described(self) -> dict[str, list[tuple[str, Timeline]]]:
        """By entity, its timelines with what they are of."""
        return {name: entity.described for name, entity in self._entities.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of the state in memory."""
        return sum(state.nbytes for state in self._states.values())

    def process(self, events: Events) -> dict[str, Column]:
        """The features of every record, by name in the spec's order; of a label they mean nothing.

        Raises ValueError for a number beyond MOST_NUMBER.
        """
        made: dict[str, Column] = {}
        if not len(events.times_us):
            return {name: Column(np.zeros(0), np.zeros(0, np.bool_)) for name in self.spec.names}
        filters = {text: kept.holds(events.fields) for text, kept in self._filters.items()}
        for name, entity in self._entities.items():
            column = events.fields[name]
            answered = self._states[name].process(
                column.values.tolist(),
                events.times_us,
                ~events.is_label,
                entity.given(events, filters),
                events.watermarks_us,
            )
            made |= entity.columns(_Answers(events, column.valid, answered))
        for feature in self.spec.features:
            if isinstance(feature, Value):
                made[feature.name] = events.fields[feature.field]
            elif not isinstance(feature, Windowed):
                made[feature.name] = _calendar(feature, events.times_us)
        return {name: made[name] for name in self.spec.names}

    def snapshot(self) -> bytes:
        """The state as versioned bytes; restoring them goes on bit-identically."""
        return msgspec.msgpack.encode(
            _Snapshot(
                version=SNAPSHOT_VERSION,
                spec=self.spec.version,
                entities={name: state.snapshot() for name, state in self._states.items()},
            )
        )

    def changes(self, everything: bool = False) -> Changes:
        """What is to be written down since the last call, so that `restore` finds this state."""
        found = {name: state.changes(everything) for name, state in self._states.items()}
        entities = {name: b"".join(changes.parts) for name, changes in found.items()}
        frame = _Snapshot(SNAPSHOT_VERSION, self.spec.version, entities)
        done = [changes.complete for changes in found.values()]
        return Changes([msgspec.msgpack.encode(frame)], self._rounds.complete(done, everything))

    def restore(self, frames: Iterable[Buffer]) -> None:
        """Go on from a snapshot, or from what `changes` gave since it was complete, oldest first.

        Raises SnapshotError if it is damaged, or of another spec.
        """
        parts: list[_Snapshot] = []
        for frame in frames:
            parts.append(decode_snapshot(frame, _Snapshot, (SNAPSHOT_VERSION,), "features"))
            spec = {"spec": parts[-1].spec}
            check_configuration("features", spec, {"spec": self.spec.version})
        for name, state in self._states.items():
            state.restore(part.entities[name] for part in parts)


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
    version: int
    spec: str
    entities: dict[str, bytes]


def _scaled(column: Column) -> NDArray[np.int64]:
    """Numbers as whole millionths, 0 for null."""
    numbers = np.where(column.valid, column.values, 0.0).astype(np.float64)
    if (np.abs(numbers) > MOST_NUMBER).any():
        raise ValueError(f"a number beyond {MOST_NUMBER:.0e}")
    return np.rint(numbers * SCALE).astype(np.int64)


def _keeps(selection: _Selection, asks: list[Ask]) -> Keeps:
    if selection.labelled:
        return Keeps.KNOWN_AT
    if not selection.fields:
        return Keeps.NOTHING
    if selection.keeps_names:
        return Keeps.NAME
    has_spread = any(ask.what is What.SPREAD for ask in asks)
    return Keeps.SQUARES if has_spread else Keeps.NUMBER


def _maker(feature: Windowed, entity: _Entity) -> Callable[[_Answers], Column]:
    tell = _teller(feature, entity)

    def make(answers: _Answers) -> Column:
        with np.errstate(divide="ignore", invalid="ignore"):
            values, valid = tell(answers)
        if feature.otherwise is not None:
            values, valid = np.where(valid, values, feature.otherwise), answers.known
        return Column(np.where(valid, values, 0.0), valid & answers.known)

    return make


def _teller(feature: Windowed, entity: _Entity) -> Callable[[_Answers], _Told]:
    """How the feature's values come out of the answers; asks for what it needs."""
    fields = (feature.of,) if feature.of is not None else ()

    def row(what: What) -> _Row:
        return entity.row(feature, what, fields, labelled=feature.labelled)

    match feature.aggregate:
        case Aggregate.COUNT:
            count = row(What.COUNT)
            return lambda answers: _always(_numbers(answers, count))
        case Aggregate.SUM:
            total, count = row(What.SUM), row(What.COUNT)
            return lambda answers: (_numbers(answers, total) / SCALE, _numbers(answers, count) > 0)
        case Aggregate.MEAN:
            total, count = row(What.SUM), row(What.COUNT)
            return lambda answers: _mean(answers, total, count)
        case Aggregate.STDDEV:
            spread = row(What.SPREAD)
            return lambda answers: _stddev(answers, spread)
        case Aggregate.MIN | Aggregate.MAX | Aggregate.FIRST | Aggregate.LAST:
            number = row(What[feature.aggregate.name])
            return lambda answers: _present(answers, number, SCALE)
        case Aggregate.DISTINCT:
            names = entity.row(feature, What.DISTINCT, fields, keeps_names=True)
            return lambda answers: _always(_numbers(answers, names))
        case Aggregate.TIME_SINCE:
            since = row(What.SINCE_LAST)
            return lambda answers: _present(answers, since, SECOND_US)
        case Aggregate.TIME_SINCE_FIRST:
            since = row(What.SINCE_FIRST)
            return lambda answers: _present(answers, since, SECOND_US)
        case Aggregate.RISK:
            positive = entity.row(feature, What.COUNT, labelled=True)
            count = row(What.COUNT)
            return lambda answers: _share(answers, positive, count)
        case Aggregate.RATIO:
            total, count = row(What.SUM), row(What.COUNT)
            return lambda answers: _ratio(answers, str(feature.of), total, count)
        case Aggregate.ZSCORE:
            total, count, spread = row(What.SUM), row(What.COUNT), row(What.SPREAD)
            return lambda answers: _zscore(answers, str(feature.of), total, count, spread)
        case Aggregate.GEO_VELOCITY:
            assert feature.place is not None
            place = feature.place
            latitude = entity.row(feature, What.LAST, place)
            since = entity.row(feature, What.SINCE_LAST, place)
            longitude = entity.row(feature, What.LAST, place[::-1])
            return lambda answers: _velocity(answers, place, latitude, longitude, since)


def _numbers(answers: _Answers, row: _Row) -> NDArray[np.int64]:
    return answers.answered[row[0]].numbers[row[1]]


def _always(numbers: NDArray[np.int64]) -> _Told:
    return numbers.astype(np.float64), np.ones(len(numbers), np.bool_)


def _present(answers: _Answers, row: _Row, unit: float) -> _Told:
    numbers = _numbers(answers, row)
    return numbers / unit, numbers != MISSING


def _mean(answers: _Answers, total: _Row, count: _Row) -> _Told:
    counts = _numbers(answers, count)
    return _numbers(answers, total) / SCALE / counts, counts > 0


def _stddev(answers: _Answers, spread: _Row) -> _Told:
    counts = _numbers(answers, spread).astype(np.float64)
    spreads = answers.answered[spread[0]].spreads[spread[1]]
    return np.sqrt(spreads / (counts * (counts - 1))) / SCALE, counts > 1


def _share(answers: _Answers, positive: _Row, count: _Row) -> _Told:
    counts = _numbers(answers, count)
    return _numbers(answers, positive) / counts, counts > 0


def _this(answers: _Answers, name: str) -> _Told:
    column = answers.events.fields[name]
    return np.where(column.valid, column.values, 0.0), column.valid


def _ratio(answers: _Answers, of: str, total: _Row, count: _Row) -> _Told:
    value, given = _this(answers, of)
    means, valid = _mean(answers, total, count)
    return value / means, valid & given & (means != 0)


def _zscore(answers: _Answers, of: str, total: _Row, count: _Row, spread: _Row) -> _Told:
    value, given = _this(answers, of)
    means, _ = _mean(answers, total, count)
    deviations, valid = _stddev(answers, spread)
    return (value - means) / deviations, valid & given & (deviations > 0)


def _velocity(
    answers: _Answers, place: tuple[str, str], latitude: _Row, longitude: _Row, since: _Row
) -> _Told:
    (lat, has_lat), (lon, has_lon) = (_this(answers, name) for name in place)
    lat_before, _ = _present(answers, latitude, SCALE)
    lon_before, _ = _present(answers, longitude, SCALE)
    seconds, valid = _present(answers, since, SECOND_US)
    valid = valid & has_lat & has_lon
    lat, lon, lat_before, lon_before = (
        np.radians(np.where(valid, degrees, 0.0)) for degrees in (lat, lon, lat_before, lon_before)
    )
    kilometres = great_circle_km(lat, lon, lat_before, lon_before)
    return kilometres / (np.maximum(seconds, 1.0) / 3600), valid


def _calendar(flag: CalendarFlag, times_us: NDArray[np.int64]) -> Column:
    hours = times_us // HOUR_US % 24
    weekdays = (times_us // DAY_US + 3) % 7  # 1 January 1970 was a Thursday
    values = {
        Calendar.WEEKEND: weekdays >= 5,
        Calendar.NIGHT: hours <= 6,
        Calendar.HOUR: hours,
        Calendar.WEEKDAY: weekdays,
    }[flag.calendar]
    return Column(values, np.ones(len(times_us), np.bool_))
