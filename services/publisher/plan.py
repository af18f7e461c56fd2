"""Which column fills which field of the contract, and rows of cells as records by that plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.contracts import Contract
from dataflows.contracts.shapes import Shape, Text
from services.publisher.errors import PublishError, listing, suggestion
from services.publisher.fields import Fields
from services.publisher.options import PublishOptions
from services.publisher.times import UNTIMED
from services.publisher.values import ABSENT, Column, convert

_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Table:
    """What a file offers: its columns, and what its format makes of them unless told otherwise.

    `defaults` is field -> column, `constants` field -> text. `shapes` tells the columns that are
    not text when no field of the contract takes them.
    """

    file: str
    columns: Sequence[str]
    defaults: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    timestamp_format: str | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """A member of the record (its names, outermost first) and the column that fills it."""

    members: tuple[str, ...]
    shape: Shape
    column: int

    @property
    def path(self) -> str:
        return ".".join(self.members)


@dataclass(frozen=True, slots=True)
class Encoded:
    """n rows as JSON objects. A key is None where its cell is empty, a time UNTIMED.

    `faults` has (column, reason) by row where a cell does not fit; such a row's record lacks it.
    """

    bodies: list[bytes]
    keys: list[bytes | None]
    times_us: NDArray[np.int64]
    faults: dict[int, tuple[int, str]]


class RowPlan:
    """Turns cells into records of one contract.

    A field is filled by --set, else by --map, else by the format's default, else by the column of
    the same name. A column that fills no field is kept under its own name, as unknown fields are.
    `derives_id` says that nothing fills the contract's dedup key.
    """

    def __init__(self, contract: Contract, table: Table, options: PublishOptions) -> None:
        fields = Fields(contract)
        self._key = contract.key
        self._event_time = contract.event_time
        self._timestamp_format = table.timestamp_format
        self._constants = constants(fields, {**table.constants, **options.constants}, options)
        bound = _bound(fields, table, options, self._constants)
        given: dict[str, object] = {**dict.fromkeys(b.path for b in bound), **self._constants}
        self.derives_id = contract.dedup_key not in given
        _check_complete(fields, table, {**given, contract.dedup_key: None})
        check_nesting(given)
        self._bindings = [*bound, *_leftovers(fields, table, bound)]
        self._members = _Members(
            [
                *(binding.members for binding in self._bindings),
                *(tuple(path.split(".")) for path in self._constants),
            ]
        )

    def encode(self, columns: Sequence[Sequence[str]]) -> Encoded:
        """n rows, given as the table's columns of n cells each ("" where there is nothing)."""
        rows = len(columns[0])
        filled = [
            convert(binding.shape, columns[binding.column], self._timestamp_format)
            for binding in self._bindings
        ]
        filled += [_repeated(constant, rows) for constant in self._constants.values()]
        faults = self._faults(filled)
        lines = _ENCODER.encode_lines(self._members.rows([column.values for column in filled]))
        bodies = lines.split(b"\n")[:-1]
        paths = [*(binding.path for binding in self._bindings), *self._constants]
        by_path = dict(zip(paths, filled, strict=True))
        return Encoded(bodies, self._keys(by_path, rows), self._times(by_path, rows), faults)

    def _faults(self, filled: list[Column]) -> dict[int, tuple[int, str]]:
        """The leftmost fault of each row."""
        found: dict[int, tuple[int, str]] = {}
        for binding, column in zip(self._bindings, filled, strict=False):
            for row, reason in column.faults.items():
                fault = binding.column, reason
                found[row] = min(found.get(row, fault), fault)
        return found

    def _keys(self, by_path: Mapping[str, Column], rows: int) -> list[bytes | None]:
        column = by_path.get(self._key)
        if column is None:
            return [None] * rows
        return [None if value is ABSENT else str(value).encode() for value in column.values]

    def _times(self, by_path: Mapping[str, Column], rows: int) -> NDArray[np.int64]:
        column = by_path.get(self._event_time)
        if column is None or column.times_us is None:
            return np.full(rows, UNTIMED, np.int64)
        return column.times_us


class _Members:
    """Rows as structs that encode to JSON objects, nested as the names say."""

    def __init__(self, names: Sequence[tuple[str, ...]]) -> None:
        grouped: dict[str, list[int]] = {}
        for column, path in enumerate(names):
            grouped.setdefault(path[0], []).append(column)
        self._parts: list[tuple[list[int], _Members | None]] = [
            (group, None if len(names[group[0]]) == 1 else _Members([names[c][1:] for c in group]))
            for group in grouped.values()
        ]
        attributes = {f"m{number}": name for number, name in enumerate(grouped)}
        self._row: Any = msgspec.defstruct(
            "Row", [(name, Any, ABSENT) for name in attributes], rename=attributes, gc=False
        )

    def rows(self, columns: Sequence[Sequence[Any]]) -> list[Any]:
        parts: list[Sequence[Any]] = []
        for group, inner in self._parts:
            if inner is None:
                parts.append(columns[group[0]])
            else:
                nothing = inner._row()
                objects = inner.rows([columns[column] for column in group])
                parts.append([ABSENT if each == nothing else each for each in objects])
        return list(map(self._row, *parts))


def constants(
    fields: Fields, texts: Mapping[str, str], options: PublishOptions
) -> dict[str, Column]:
    """The --set values (and a format's own), each as a column of one row."""
    columns = {}
    for path, text in texts.items():
        if path in options.mapping:
            continue
        column = convert(fields.shape(path), [text])
        if column.faults or column.values[0] is ABSENT:
            raise PublishError(f"--set {path}={text}: {column.faults.get(0, 'there is no value')}")
        columns[path] = column
    return columns


def check_nesting(paths: Iterable[str]) -> None:
    """Refuse to fill an object both as a whole and in part."""
    known = set(paths)
    for path in sorted(known):
        parent = path.rpartition(".")[0]
        if parent in known:
            raise PublishError(
                f"{parent} and {path} cannot both be filled: map either the whole or its parts"
            )


def _bound(
    fields: Fields, table: Table, options: PublishOptions, fixed: Mapping[str, object]
) -> list[Binding]:
    wanted = {path: column for path, column in table.defaults.items() if path not in fixed}
    for path, column in options.mapping.items():
        fields.shape(path)
        if column not in table.columns:
            raise PublishError(
                f"{table.file}: --map {path}={column}: there is no column {column!r}"
                f"{suggestion(column, table.columns)}: the columns are {listing(table.columns)}"
            )
        wanted[path] = column
    mapped = set(options.mapping.values()) | set(wanted.values())
    for column in table.columns:
        if column in fields and column not in mapped and column not in fixed:
            wanted.setdefault(column, column)
    bindings = [
        Binding(tuple(path.split(".")), fields.shape(path), table.columns.index(column))
        for path, column in wanted.items()
    ]
    order = list(fields.shapes)
    return sorted(bindings, key=lambda b: order.index(b.path) if b.path in order else len(order))


def _leftovers(fields: Fields, table: Table, bound: Sequence[Binding]) -> list[Binding]:
    used = {binding.column for binding in bound}
    extras = []
    for number, column in enumerate(table.columns):
        if number not in used:
            name = column
            while name in fields.shapes or (name != column and name in table.columns):
                name = f"original_{name}"
            extras.append(Binding((name,), table.shapes.get(column, Text()), number))
    return extras


def _check_complete(fields: Fields, table: Table, given: Mapping[str, object]) -> None:
    missing = fields.missing(given)
    if missing:
        raise PublishError(
            f"{table.file}: nothing fills {listing(missing)}, which {fields.source} needs:"
            f" say --map {missing[0]}=COLUMN or --set {missing[0]}=VALUE;"
            f" the columns are {listing(table.columns)}"
        )


def _repeated(constant: Column, rows: int) -> Column:
    times = None if constant.times_us is None else np.repeat(constant.times_us, rows)
    return Column(constant.values * rows, {}, times)
