"""Columns with nulls: what features are made of and rules read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Scalar: TypeAlias = str | bool | int | float


class Kind(StrEnum):
    """What the values of a column are."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXT = "text"


class Unit(StrEnum):
    """What a number counts; decides how it is written for people."""

    COUNT = "count"
    MONEY = "money"
    SECONDS = "seconds"
    RATIO = "ratio"
    HOUR = "hour"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A column as it is declared: its name, what it holds and what it means."""

    name: str
    kind: Kind
    description: str
    unit: Unit = Unit.NONE


@dataclass(frozen=True, slots=True)
class Column:
    """n values, some of them null.

    `values` is float64 or int64 (a number; never NaN where valid), bool, or object (text). Where
    `valid` is False the value is null and the entry means nothing.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.values)

    def for_json(self) -> list[Scalar | None]:
        """Python values as a JSON encoder takes them: null is None, or NaN in place of a number."""
        values: list[Scalar | None]
        if self.values.dtype == np.bool_:
            values = _BOOLEANS[np.where(self.valid, self.values, 2)].tolist()
        elif self.values.dtype == object or self.valid.all():
            values = self.values.tolist()
        else:
            values = np.where(self.valid, self.values, np.nan).tolist()
        return values


class ColumnsOnDemand(Mapping[str, Column]):
    """Columns that are made when one is first read; most rules read few of them."""

    def __init__(self, makers: Mapping[str, Callable[[], Column]]) -> None:
        self._makers = dict(makers)
        self._made: dict[str, Column] = {}

    def add(self, name: str, make: Callable[[], Column]) -> None:
        """One more column, made when it is first read."""
        self._makers[name] = make

    def __getitem__(self, name: str) -> Column:
        column = self._made.get(name)
        if column is None:
            column = self._made[name] = self._makers[name]()
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


Columns: TypeAlias = Mapping[str, Column]
_NULL = np.array(None, dtype=object)
_BOOLEANS = np.array([False, True, None], dtype=object)


def full(values: NDArray[Any]) -> Column:
    """A column without nulls."""
    return Column(values, np.ones(len(values), dtype=np.bool_))


def from_list(kind: Kind, values: Sequence[Any]) -> Column:
    """A column from Python values, None for null; NaN is null too."""
    if kind is Kind.TEXT:
        texts = np.array(values, dtype=object)
        return Column(texts, texts != _NULL)
    return from_numbers(kind, np.array(values, dtype=np.float64))  # None becomes NaN


def from_numbers(kind: Kind, numbers: NDArray[np.float64]) -> Column:
    """A column of numbers or booleans from what `as_rows` gives of it: NaN for null."""
    return Column(numbers == 1 if kind is Kind.BOOLEAN else numbers, ~np.isnan(numbers))


def present(values: Sequence[Any]) -> NDArray[np.bool_]:
    """Which values are not None."""
    entries: NDArray[np.bool_] = np.array(values, dtype=object) != _NULL
    return entries


def from_rows(specs: Mapping[str, ColumnSpec], rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Columns from rows of named values; a value that a row leaves out is null."""
    return {
        name: from_list(spec.kind, [row.get(name) for row in rows]) for name, spec in specs.items()
    }


def as_rows(columns: Columns, names: Sequence[str]) -> NDArray[np.float64]:
    """Columns as a model takes them: float64[n, names], NaN for null, booleans as 0 and 1."""
    return np.column_stack(
        [
            np.where(columns[name].valid, columns[name].values.astype(np.float64), np.nan)
            for name in names
        ]
    )
