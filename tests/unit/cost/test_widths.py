"""Bytes of a row, against each value counted by itself in Python."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cost.widths import widths

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
ITEM = pa.struct([("name", pa.string()), ("price", pa.decimal128(18, 2)), ("n", pa.int64())])
MONEY = st.decimals(0, 1000, places=2)
INSTANT = st.datetimes(datetime.datetime(2020, 1, 1), timezones=st.just(datetime.UTC))


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


ITEMS = st.fixed_dictionaries(
    {"name": maybe(TEXT), "price": maybe(MONEY), "n": maybe(st.integers(0, 9))}
)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), TEXT),
    "bytes": (pa.binary(), st.binary(max_size=5)),
    "flag": (pa.bool_(), st.booleans()),
    "count": (pa.int32(), st.integers(0, 9)),
    "share": (pa.float64(), st.floats(0, 1)),
    "money": (pa.decimal128(18, 2), MONEY),
    "at": (pa.timestamp("us", "UTC"), INSTANT),
    "on a day": (pa.date32(), st.dates()),
    "words": (pa.list_(pa.string()), st.lists(maybe(TEXT), max_size=3)),
    "items": (pa.list_(ITEM), st.lists(ITEMS, max_size=3)),
    "item": (ITEM, ITEMS),
    "extras": (pa.map_(pa.string(), pa.string()), st.dictionaries(TEXT, TEXT, max_size=3)),
}
ROWS = st.lists(
    st.fixed_dictionaries({name: maybe(values) for name, (_, values) in COLUMNS.items()}),
    min_size=1,
    max_size=6,
)

SIZES: list[tuple[type, Callable[[Any], int]]] = [
    (type(None), lambda value: 0),
    (bool, lambda value: 1),
    (int, lambda value: 8),
    (float, lambda value: 8),
    (Decimal, lambda value: 16),
    (datetime.date, lambda value: 8),
    (str, lambda value: 2 + len(value.encode())),
    (bytes, lambda value: 2 + len(value)),
    (list, lambda value: sum(map(size, value))),
]


def size(value: Any) -> int:
    return next(of(value) for kind, of in SIZES if isinstance(value, kind))


def size_in(name: str, value: Any) -> int:
    if not isinstance(value, dict):
        return sum(map(item, value)) if name == "items" and value else size(value)
    return item(value) if name == "item" else sum(size(k) + size(v) for k, v in value.items())


def item(value: dict[str, Any]) -> int:
    return sum(map(size, value.values()))


@given(ROWS)
@settings(max_examples=40)
def test_a_row_is_as_wide_as_its_values(rows: list[dict[str, Any]]) -> None:
    schema = pa.schema([(name, kind) for name, (kind, _) in COLUMNS.items()])
    listed = [{**row, "extras": list((row["extras"] or {}).items())} for row in rows]
    with duckdb.connect() as database:
        count, found = widths(database.from_arrow(pa.Table.from_pylist(listed, schema)))
    assert count == len(rows)
    for name, mean in found.items():
        assert round(mean * count) == sum(size_in(name, row[name]) for row in rows), name


def test_a_table_without_rows_has_no_width() -> None:
    with duckdb.connect() as database:
        assert widths(database.sql("SELECT 1 AS n WHERE false")) == (0, {"n": Decimal(0)})
