"""What a day holds is told by every bit of its rows, and not by files or their order."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.flows.load import LINEAGE
from services.archive.content import Span, content_of, read_content
from services.archive.errors import ArchiveError

KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "flag": (pa.bool_(), st.booleans()),
    "count": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "score": (pa.float64(), st.floats(allow_nan=False)),
    "name": (pa.string(), st.text(max_size=5)),
    "raw": (pa.binary(), st.binary(max_size=5)),
    "money": (pa.decimal128(18, 2), st.decimals(-999, 999, places=2)),
    "at": (pa.timestamp("us", "UTC"), st.integers(0, 2**50)),
    "rules": (pa.list_(pa.string()), st.lists(st.none() | st.text(max_size=3), max_size=3)),
    "reasons": (
        pa.list_(pa.struct([("rule", pa.string()), ("weight", pa.float64())])),
        st.lists(
            st.none()
            | st.fixed_dictionaries(
                {"rule": st.none() | st.text(max_size=3), "weight": st.floats(allow_nan=False)}
            ),
            max_size=2,
        ),
    ),
    "tags": (
        pa.map_(pa.string(), pa.int64()),
        st.dictionaries(st.text(max_size=2), st.none() | st.integers(0, 9), max_size=2).map(
            lambda tags: list(tags.items())
        ),
    ),
}


def with_lineage(columns: dict[str, pa.Array], count: int) -> pa.Table:
    lineage = [["events.t"] * count, [0] * count, list(range(count))]
    for (name, kind), values in zip(LINEAGE, lineage, strict=True):
        columns[name] = pa.array(values, kind)
    return pa.table(columns)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    count = draw(st.integers(0, 6))
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), unique=True, max_size=4))
    columns = {}
    for name in names:
        kind, values = KINDS[name]
        drawn = draw(st.lists(st.none() | values, min_size=count, max_size=count))
        columns[name] = pa.array(drawn, kind)
    return with_lineage(columns, count)


@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_columns_does_not_count(
    table: pa.Table, chance: random.Random
) -> None:
    rows, names = list(range(len(table))), table.column_names
    chance.shuffle(rows)
    chance.shuffle(names)
    cut = chance.randint(0, len(rows))
    shuffled = table.select(names).take(pa.array(rows, pa.int64()))
    pieces = pa.concat_tables([shuffled[:cut], shuffled[cut:]])
    assert content_of(pieces) == content_of(table)


@given(tables(), tables())
def test_other_rows_are_other_content(one: pa.Table, other: pa.Table) -> None:
    """The oracle: the same columns, types and values, as Python compares them."""
    order = [sorted(table.column_names) for table in (one, other)]
    same = order[0] == order[1] and one.select(order[0]).equals(other.select(order[1]))
    exact = repr(one.to_pylist()) == repr(other.to_pylist()) if same else False  # 0.0 is not -0.0
    assert (content_of(one) == content_of(other)) == (same and exact)


@given(tables().filter(lambda table: len(table) and table.num_columns > len(LINEAGE)), st.data())
def test_one_other_value_is_other_content(table: pa.Table, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(table.column_names[: -len(LINEAGE)]))
    row = data.draw(st.integers(0, len(table) - 1))
    kind, values = KINDS[name]
    old = table[name].to_pylist()
    drawn = pa.array([data.draw(st.none() | values)], kind)
    changed = [*old[:row], drawn.to_pylist()[0], *old[row + 1 :]]
    place = table.column_names.index(name)
    other = table.set_column(place, name, pa.array(changed, kind))
    assert (content_of(other) == content_of(table)) == (repr(changed) == repr(old))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array(["ab", "c"]), pa.array(["a", "bc"])),
        (pa.array([["a"], []]), pa.array([[], ["a"]])),
        (pa.array([None, ""]), pa.array(["", None])),
        (pa.array([0.0, 1.0]), pa.array([-0.0, 1.0])),
        (pa.array([1, 2]), pa.array([1, 2], pa.int32())),
        (pa.array([Decimal("1.0"), None]), pa.array([Decimal("1.00"), None])),
        (pa.array([None, None], pa.list_(pa.int64())), pa.array([[], []], pa.list_(pa.int64()))),
    ],
)
def test_what_looks_alike(one: pa.Array, other: pa.Array) -> None:
    assert content_of(with_lineage({"c": one}, 2)) != content_of(with_lineage({"c": other}, 2))


def test_bytes_below_a_null_do_not_count() -> None:
    validity = pa.py_buffer(b"\x02")
    arrays = [
        pa.Array.from_buffers(pa.int64(), 2, [validity, pa.py_buffer(bytes([n] * 8) + bytes(8))])
        for n in (0, 7)
    ]
    assert arrays[0].to_pylist() == arrays[1].to_pylist() == [None, 0]
    assert content_of(with_lineage({"c": arrays[0]}, 2)) == content_of(
        with_lineage({"c": arrays[1]}, 2)
    )


def test_files_that_lack_a_column_have_nulls_there(tmp_path: Path) -> None:
    rows = with_lineage({"c": pa.array(["x", None])}, 2)
    for number, part in enumerate((rows[:1], rows[1:].drop_columns(["c"]))):
        pq.write_table(part, tmp_path / f"{number}")
    content = read_content([tmp_path / "0", tmp_path / "1"], "t")
    assert content == content_of(rows)
    assert (content.rows, content.lineage) == (2, [Span("events.t", 0, 0, 1, 2)])
    assert content.columns["c"] == "string"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"c": [1]}), tmp_path / "foreign")
    with pytest.raises(ArchiveError, match="lake/t: has no column _topic, which says what record"):
        read_content([tmp_path / "foreign"], "lake/t")
    pq.write_table(pa.table({"c": ["x"]}), tmp_path / "other")
    (tmp_path / "torn").write_bytes(b"PAR1")
    for file in ("other", "torn"):
        with pytest.raises(ArchiveError, match=r"lake/t: its files cannot be read as one table \("):
            read_content([tmp_path / "foreign", tmp_path / file], "lake/t")
