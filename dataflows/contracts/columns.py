"""One field of many events, as a column."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from msgspec import UNSET

from dataflows.contracts.shapes import Array, Map, Object, element


class Column(NamedTuple):
    """The k values at a path, each with the row of its event; rows rise."""

    rows: Sequence[int]
    values: list[Any]


def column(rows: Sequence[int], events: Sequence[Any], shape: Object, path: str) -> Column:
    """What n events hold at a dotted path; what is absent or null is left out.

    An array, or a map, on the way gives a value for each of its entries.
    """
    values = list(events)
    inside: Any = shape
    for step in path.split("."):
        field = inside.fields[step]
        values = list(map(attrgetter(step), values))
        if not field.required or field.nullable:
            present = [
                index
                for index, value in enumerate(values)
                if value is not UNSET and value is not None
            ]
            if len(present) < len(values):
                rows = [rows[index] for index in present]
                values = [values[index] for index in present]
        if isinstance(field.shape, Map):
            values = [list(value.values()) for value in values]
        if isinstance(field.shape, Map | Array):
            rows = [row for row, entries in zip(rows, values, strict=True) for _ in entries]
            values = [entry for entries in values for entry in entries]
        inside = element(field.shape)
    return Column(rows, values)
