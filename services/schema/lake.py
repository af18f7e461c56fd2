"""The contracts beside the lake's tables, as their Parquet files have them.

No file is ever changed: readers take columns by their names, and what a file lacks is NULL there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dataflows.connectors.lake import DATE_COLUMN, LakeError, lake_files
from services.schema.errors import SchemaError
from services.schema.steps import Step
from services.warehouse.bronze import BronzeTable

_ATTEMPTS = 20
_READ_AS = {("int64", "double")}  # what bronze casts without losing a row


@dataclass
class Column:
    """What a table's files have of a column: its types, and the days that have it."""

    types: set[str] = field(default_factory=set)
    days: set[str] = field(default_factory=set)


@dataclass
class Held:
    """A table of the lake: its days, and every column, nested ones by dotted path."""

    days: set[str] = field(default_factory=set)
    columns: dict[str, Column] = field(default_factory=lambda: defaultdict(Column))


def lake_steps(lake: Path, tables: Mapping[str, BronzeTable]) -> list[Step]:
    """How each source's table differs from its contract; only a column that no contract knows, or
    of another type, is refused.

    Raises:
        LakeError: the lake cannot be read.
        SchemaError: a file is no Parquet file.
    """
    if not lake.is_dir():
        return [_itself("", f"{lake} is not there yet; it begins with every column")]
    return [
        step
        for table in tables.values()
        if table.of_contract
        for step in table_steps(table.name, held(lake, table.name), columns_of(table.in_lake))
    ]


def table_steps(table: str, there: Held, wanted: Mapping[str, str]) -> Iterator[Step]:
    """Of one table; `wanted` are the contract's columns by dotted path, and their types."""
    if not there.days:
        yield _itself(table, "no rows yet; the first ones bring every column")
        return
    span = f"{min(there.days)} to {max(there.days)}"
    for path, kind in wanted.items():
        if path not in there.columns:
            if path.rpartition(".")[0] in there.columns or "." not in path:
                what = (
                    f"in none of {_days(there.days)} ({span}), NULL there; in the rows that are "
                    "loaded from the next start of `tidegate up` on"
                )
                yield _itself(table, what, path, kind)
            continue
        found = there.columns[path]
        if len(found.days) < len(there.days):
            what = f"in {len(found.days)} of {_days(there.days)}, since {min(found.days)}"
            yield _itself(table, f"{what}; NULL in the others", path, kind)
        for other in sorted(found.types - {kind, "null"}):
            if (other, kind) in _READ_AS:
                yield _itself(table, f"some files have it as {other}, read as {kind}", path, kind)
            else:
                yield _refuse(table, path, f"files have it as {other}, the contract as {kind}")
    for path in there.columns.keys() - wanted.keys():
        if path.rpartition(".")[0] in wanted or "." not in path:
            yield _refuse(table, path, "files have it, and the contract does not know it")


def held(lake: Path, table: str) -> Held:
    """What a table's files have, by their footers alone.

    Raises:
        LakeError: the table cannot be read, or changes all the time.
        SchemaError: a file is no Parquet file.
    """
    if not (lake / table).is_dir():
        return Held()
    for _ in range(_ATTEMPTS):
        try:
            return _held(lake, table)
        except FileNotFoundError:  # compacted after it was listed: ask again
            continue
    raise LakeError(f"{lake / table} changes all the time; plan when less is written")


def _held(lake: Path, table: str) -> Held:
    found = Held()
    for file in lake_files(lake, table):
        day = file.parent.name.removeprefix(f"{DATE_COLUMN}=")
        found.days.add(day)
        try:
            schema = pq.read_schema(file)
        except pa.ArrowInvalid as error:
            raise SchemaError(
                f"{file}: no Parquet file ({error}); move it out of the lake, and load its records "
                "again"
            ) from error
        for path, kind in columns_of(schema).items():
            found.columns[path].types.add(kind)
            found.columns[path].days.add(day)
    return found


def columns_of(schema: pa.Schema) -> dict[str, str]:
    """Every column by dotted path with its type; a list adds nothing to a path."""
    return dict(entry for column in schema for entry in _columns(column.name, column.type, ""))


def _columns(path: str, kind: pa.DataType, around: str) -> Iterator[tuple[str, str]]:
    if pa.types.is_list(kind):
        yield from _columns(path, kind.value_type, "list of ")
    elif pa.types.is_map(kind):
        yield path, f"map of {kind.key_type} to {kind.item_type}"
    elif pa.types.is_struct(kind):
        yield path, f"{around}struct"
        for inner in kind:
            yield from _columns(f"{path}.{inner.name}", inner.type, "")
    else:
        yield path, f"{around}{kind}"


def _itself(table: str, what: str, column: str = "", kind: str = "") -> Step:
    return Step(place="lake", do="itself", table=table, column=column, what=what, type=kind)


def _refuse(table: str, column: str, what: str) -> Step:
    return Step(
        place="lake",
        do="refuse",
        table=table,
        column=column,
        what=what,
        instead="use the schemas/ with which the lake was written, and add a new field beside it",
    )


def _days(days: set[str]) -> str:
    return "1 day" if len(days) == 1 else f"{len(days)} days"
