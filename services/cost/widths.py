"""How many bytes BigQuery counts for a row, column by column, by its sizes of data types.

https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#data_type_sizes: text and
bytes take 2 and what they are, numbers, dates and times 8, exact decimals 16, a truth value 1; a
list or a struct takes what is in it, and null nothing.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import cast

import duckdb
from duckdb.sqltypes import DuckDBPyType

ROWS_READ = 200_000
DATE_BYTES = 8

_FIXED = {"boolean": 1, "decimal": 16}
_OTHER = 8


def widths(relation: duckdb.DuckDBPyRelation) -> tuple[int, dict[str, Decimal]]:
    """How many rows there are, and the mean bytes a row of each column; 0 without rows."""
    sizes = [
        f"coalesce(sum({_size(quoted(name), kind, count())}), 0)::HUGEINT"
        for name, kind in zip(relation.columns, relation.types, strict=True)
    ]
    row = relation.aggregate(", ".join(["count(*)", *sizes])).fetchone()
    rows, *totals = row or (0,)
    means = (Decimal(total) / max(rows, 1) for total in totals)
    return rows, dict(zip(relation.columns, means, strict=True))


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _size(value: str, kind: DuckDBPyType, numbers: count[int]) -> str:
    """SQL for the bytes of a value; `numbers` name the elements of lists."""
    if kind.id == "varchar":
        size = f"2 + strlen({value})"
    elif kind.id == "blob":
        size = f"2 + octet_length({value})"
    elif kind.id == "list":
        each, ((_, inner),) = f"each_{next(numbers)}", _children(kind)
        size = f"list_sum(list_transform({value}, lambda {each}: {_size(each, inner, numbers)}))"
    elif kind.id == "map":
        each = f"each_{next(numbers)}"
        of = [_size(f"{each}.{n}", inner, numbers) for n, inner in _children(kind)]
        size = f"list_sum(list_transform(map_entries({value}), lambda {each}: {' + '.join(of)}))"
    elif kind.id == "struct":
        of = [_size(f"{value}.{quoted(n)}", inner, numbers) for n, inner in _children(kind)]
        size = " + ".join(of)
    else:
        size = str(_FIXED.get(kind.id, _OTHER))
    return f"(CASE WHEN {value} IS NULL THEN 0 ELSE coalesce({size}, 0) END)"


def _children(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    """Of a nested type; DuckDB's own annotation also covers what other types have."""
    return cast("list[tuple[str, DuckDBPyType]]", kind.children)
