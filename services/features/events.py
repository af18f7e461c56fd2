"""Events of a file as a spec takes them: typed, every cell that does not fit named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataflows.features.columns import Column, Kind
from dataflows.features.engine import MOST_NUMBER, NEVER
from dataflows.features.spec import FeatureSpec
from services.anomalies.series import read_values
from services.features.errors import EventsError
from services.features.files import EventFile, read_events
from services.publisher.errors import suggestion
from services.publisher.times import UNTIMED, read_times

_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no"})


@dataclass(frozen=True)
class EventTable:
    """n events in the order of the file.

    `positive` and `known_us` are None where the spec has no label; `known_us` is NEVER for events
    that are not positive. `ids` are None where the spec names none.
    """

    name: str
    times_us: NDArray[np.int64]
    fields: dict[str, Column]
    ids: pa.Array | None
    positive: NDArray[np.bool_] | None
    known_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.times_us)


def load_events(
    path: str, spec: FeatureSpec, mapping: Mapping[str, str], timestamp_format: str | None = None
) -> EventTable:
    """Read what the spec needs; `mapping` is its name -> the file's column.

    Raises EventsError naming file, row and column of the first cell that does not fit.
    """
    for name in mapping:
        if name not in spec.columns:
            raise EventsError(
                f"--map {name}={mapping[name]}: {spec.source} has no such field"
                f"{suggestion(name, spec.columns)}: it has {', '.join(spec.columns)}"
            )
    column_of = {name: mapping.get(name, name) for name in spec.columns}
    wanted = {
        column: f"{spec.source} needs it, say --map {name}=COLUMN"
        for name, column in column_of.items()
    }
    file = read_events(path, wanted)
    cells = _Cells(file, column_of, timestamp_format)
    times_us = cells.times(spec.time)
    return EventTable(
        name=file.name,
        times_us=times_us,
        fields={name: cells.field(name, kind) for name, kind in spec.fields.items()},
        ids=cells.texts(spec.id) if spec.id else None,
        positive=cells.flags(spec.label.field).values if spec.label else None,
        known_us=_known(spec, cells, times_us),
    )


def _known(spec: FeatureSpec, cells: _Cells, times_us: NDArray[np.int64]) -> NDArray[np.int64]:
    never = np.full(len(times_us), NEVER, np.int64)
    if spec.label is None:
        return never
    positive = cells.flags(spec.label.field).values
    if spec.label.known is None:
        return np.where(positive, times_us + spec.label.delay_us, never)
    known_us = cells.times(spec.label.known, least=times_us, needed=positive)
    return np.where(positive, known_us, never)


class _Cells:
    """The columns of a file, by the names of the spec."""

    def __init__(
        self, file: EventFile, column_of: Mapping[str, str], timestamp_format: str | None
    ) -> None:
        self._file, self._column_of, self._format = file, column_of, timestamp_format

    def _fault(self, name: str, row: int, what: str) -> EventsError:
        return EventsError(f"{self._file.place(row)}: {self._column_of[name]}: {what}")

    def _raw(self, name: str) -> pa.Array:
        return self._file.columns[self._column_of[name]]

    def texts(self, name: str) -> pa.Array:
        raw = self._raw(name)
        if pa.types.is_nested(raw.type) or pa.types.is_binary(raw.type):
            raise EventsError(f"{self._file.name}: {name}: is {raw.type}, and no text")
        return raw.cast(pa.string())

    def _strings(self, name: str) -> list[str]:
        return [text or "" for text in self.texts(name).to_pylist()]

    def times(
        self,
        name: str,
        least: NDArray[np.int64] | None = None,
        needed: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Microseconds; where `needed`, a time that is not before `least`."""
        raw = self._raw(name)
        faults: dict[int, str] = {}
        if pa.types.is_timestamp(raw.type) or pa.types.is_date(raw.type):
            us = raw.cast(pa.timestamp("us", getattr(raw.type, "tz", None))).cast(pa.int64())
            times_us = us.fill_null(UNTIMED).to_numpy(zero_copy_only=False)
        else:
            times_us, faults = read_times(self._strings(name), self._format)
        needed = np.ones(len(times_us), np.bool_) if needed is None else needed
        for row in np.flatnonzero(needed & (times_us == UNTIMED)).tolist():
            raise self._fault(name, row, faults.get(row, "there is no time: every event needs one"))
        if least is not None:
            for row in np.flatnonzero(needed & (times_us < least)).tolist():
                raise self._fault(name, row, "the label was known before the event: correct it")
        return times_us

    def field(self, name: str, kind: Kind) -> Column:
        match kind:
            case Kind.TEXT:
                texts = self.texts(name)
                valid = texts.is_valid().to_numpy(zero_copy_only=False)
                return Column(np.array(texts.to_pylist(), dtype=object), valid)
            case Kind.BOOLEAN:
                return self.flags(name, may_be_null=True)
            case Kind.NUMBER:
                return self.numbers(name)

    def numbers(self, name: str) -> Column:
        raw = self._raw(name)
        faults: dict[int, str] = {}
        if pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type):
            values, faults = read_values(self._strings(name))
        elif any(is_kind(raw.type) for is_kind in _NUMBERS):
            values = pc.fill_null(raw.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
        else:
            raise EventsError(f"{self._file.name}: {name}: is {raw.type}, and no number")
        for row in np.flatnonzero(np.abs(values) > MOST_NUMBER).tolist():
            faults.setdefault(row, f"{values[row]:g} is beyond {MOST_NUMBER:g}: use a larger unit")
        if faults:
            raise self._fault(name, min(faults), faults[min(faults)])
        return Column(values, ~np.isnan(values))

    def flags(self, name: str, may_be_null: bool = False) -> Column:
        """0 or 1, true or false, yes or no; null is false unless it may be null."""
        raw = self._raw(name)
        texts: Sequence[str] = [str(t or "").strip().lower() for t in self.texts(name).to_pylist()]
        if pa.types.is_floating(raw.type):
            texts = [text.removesuffix(".0") for text in texts]
        for row, text in enumerate(texts):
            if text and text not in _TRUE and text not in _FALSE:
                raise self._fault(name, row, f"{text!r} is neither 0 nor 1, true nor false")
        values = np.array([text in _TRUE for text in texts])
        valid = np.array([bool(text) for text in texts]) if may_be_null else np.ones_like(values)
        return Column(values, valid)
