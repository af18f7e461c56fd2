"""Whatever a contract is: growth plans additions alone, and doing them leaves nothing to do; what
takes something away is refused."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.contracts import Contract, accept
from dataflows.contracts.loading import load_contract
from dataflows.contracts.schema import DIALECT
from services.schema import lake
from services.schema.bigquery import (
    Resource,
    fields,
    merged,
    sql_type,
    table_steps,
    wanted_table,
    widenings,
)
from services.schema.promises import history_steps
from services.schema.steps import Step, changes

TODAY = date(2026, 11, 27)
SOURCE = "readings"
DECLARATION = {
    "version": "v1",
    "owner": "somebody@shop.example",
    "topic": "raw.readings",
    "key": "id",
    "event_time": "at",
    "dedup_key": "id",
    "retention_days": 30,
    "warehouse": {"partition_by": "at", "cluster_by": ["id"]},
}
MONEY = {
    "type": "string",
    "pattern": "^[0-9]{1,12}[.][0-9]{2}(?!\\n)$",
    "x-tidegate": {"type": "money"},
}
SCALARS: list[Resource] = [
    {"type": "string"},
    {"type": "string", "enum": ["a", "b"]},
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "string", "format": "date-time"},
    MONEY,
]
NAMES = ("a", "b", "c", "d")

Schema = dict[str, Any]


@st.composite
def members(draw: st.DrawFn, depth: int) -> Schema:
    """The members of an object, some of them required."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=3))
    properties = {name: draw(specs(depth)) for name in names}
    required = [name for name in names if draw(st.booleans())]
    return {"type": "object", "properties": properties, "required": required}


def specs(depth: int) -> st.SearchStrategy[Schema]:
    scalars = st.sampled_from(SCALARS).map(copy.deepcopy)
    if depth == 0:
        return scalars
    return st.one_of(
        scalars,
        scalars.map(lambda items: {"type": "array", "items": items}),
        scalars.map(lambda values: {"type": "object", "additionalProperties": values}),
        members(depth - 1),
        members(depth - 1).map(lambda items: {"type": "array", "items": items}),
    )


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    drawn = draw(members(2))
    own = {"id": {"type": "string"}, "at": {"type": "string", "format": "date-time"}}
    return {
        "$schema": DIALECT,
        "type": "object",
        "properties": own | drawn["properties"],
        "required": ["id", "at", *drawn["required"]],
    }


def objects(schema: Schema) -> Iterator[Schema]:
    """Every object with named members, the whole first."""
    yield schema
    for spec in schema["properties"].values():
        inner = spec.get("items", spec)
        if "properties" in inner:
            yield from objects(inner)


@st.composite
def growths(draw: st.DrawFn) -> tuple[Schema, Schema]:
    """A schema, and what has become of it by additive changes."""
    old = draw(schemas())
    new = copy.deepcopy(old)
    for number in range(draw(st.integers(1, 4))):
        where = draw(st.sampled_from(list(objects(new))))
        change = draw(st.sampled_from(["add", "relax", "widen", "describe"]))
        name = draw(st.sampled_from(sorted(where["properties"])))
        spec = where["properties"][name]
        if change == "add":
            where["properties"][f"new_{number}"] = draw(specs(2))
        elif change == "relax" and name in where["required"] and name not in ("id", "at"):
            where["required"].remove(name)
        elif change == "widen" and spec.get("type") == "integer":
            spec["type"] = "number"
        else:
            spec["description"] = f"Said for the time {number}"
    return old, new


@st.composite
def losses(draw: st.DrawFn) -> tuple[Schema, Schema, bool]:
    """A schema, the same with something taken away, and whether tables show it, too."""
    old = draw(schemas())
    new = copy.deepcopy(old)
    where = draw(st.sampled_from(list(objects(new))))
    name = draw(st.sampled_from(sorted(where["properties"].keys() - {"id", "at"}) or ["x"]))
    where["properties"].setdefault(name, {"type": "string"})
    if name == "x":
        where["required"].append(name)
        return old, new, True
    spec, change = where["properties"][name], draw(st.sampled_from(["remove", "retype", "require"]))
    if change == "require" and name not in where["required"]:
        where["required"].append(name)
        return old, new, False  # a table that may lack it holds what must have it
    if change == "retype":
        was = spec.get("type")
        spec.clear()
        spec |= {"type": "boolean"} if was != "boolean" else {"type": "integer"}
        return old, new, True
    del where["properties"][name]
    if name in where["required"]:
        where["required"].remove(name)
    if not where["properties"]:
        where["properties"]["instead"] = {"type": "string"}
    return old, new, True


@contextmanager
def accepted(old: Schema, new: Schema) -> Iterator[tuple[Path, Contract, Contract]]:
    """A folder in which the old schema was accepted and the new one stands; both contracts."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / SOURCE
        folder.mkdir()
        (folder / "contract.yaml").write_text(yaml.safe_dump(DECLARATION))
        (folder / "v1.schema.json").write_text(json.dumps(old))
        before = load_contract(folder)
        accept(Path(place), TODAY)
        (folder / "v1.schema.json").write_text(json.dumps(new))
        yield Path(place), before, load_contract(folder)


def refused(steps: list[Step]) -> list[str]:
    return [f"{step.place} {step.column} {step.what}" for step in steps if step.do == "refuse"]


def applied(now: Resource, wanted: Resource) -> Resource:
    """The table after what `Dataset.change` asks BigQuery for."""
    schema = {"fields": merged(fields(now), fields(wanted))}
    told = {name: wanted[name] for name in ("description", "clustering")}
    return {**now, **told, "schema": schema}


@settings(max_examples=150)
@given(growths())
def test_growth_is_added_and_then_there_is_nothing_to_do(schemas: tuple[Schema, Schema]) -> None:
    with accepted(*schemas) as (place, old, new):
        assert refused(history_steps(place, {SOURCE: new})) == []
        now, wanted = wanted_table(old), wanted_table(new)
        steps = table_steps(SOURCE, now, wanted, {})
        assert refused(steps) == []
        assert len(changes(steps)) == len(steps)
        after = applied(now, wanted)
        assert table_steps(SOURCE, after, wanted, {}) == []
        names = [column["name"] for column in fields(after)]
        assert names[: len(fields(now))] == [column["name"] for column in fields(now)]
        for column in widenings(fields(now), fields(wanted)):
            assert sql_type(fields(now)[names.index(column)])

        files = lake.Held({"2026-11-01"})
        for path, kind in lake.columns_of(old.arrow_schema()).items():
            files.columns[path] = lake.Column({kind}, {"2026-11-01"})
        in_lake = list(lake.table_steps(SOURCE, files, lake.columns_of(new.arrow_schema())))
        assert changes(in_lake) == []
        assert refused(in_lake) == []

        accept(place, TODAY)
        assert history_steps(place, {SOURCE: new}) == []


@settings(max_examples=150)
@given(losses())
def test_what_takes_something_away_is_refused(schemas: tuple[Schema, Schema, bool]) -> None:
    old_schema, new_schema, shows = schemas
    with accepted(old_schema, new_schema) as (place, old, new):
        found = history_steps(place, {SOURCE: new})
        assert refused(found) != []
        assert all(step.instead for step in found if step.do == "refuse")
        in_table = table_steps(SOURCE, wanted_table(old), wanted_table(new), {})
        assert bool(refused(in_table)) == shows or same_in_a_table(old, new)


def same_in_a_table(old: Contract, new: Contract) -> bool:
    """Text is text in a table, whatever its values may be."""
    return fields(wanted_table(old)) == fields(wanted_table(new))


def column(name: str = "n", kind: str = "INTEGER", mode: str = "NULLABLE", **more: Any) -> Resource:
    return {"name": name, "type": kind, "mode": mode, **more}


def table(*columns: Resource, **more: Any) -> Resource:
    return {
        "description": "",
        "schema": {"fields": list(columns)},
        "timePartitioning": {"type": "DAY", "field": "event_date"},
        **more,
    }


def compared(now: Resource, wanted: Resource) -> list[tuple[str, str, str]]:
    steps = table_steps("t", now, wanted, {})
    return [(step.do, step.column, step.what) for step in steps]


@pytest.mark.parametrize(
    ("now", "wanted", "sql"),
    [
        (column(kind="INT64"), column(kind="NUMERIC"), "NUMERIC"),
        (column(), column(kind="FLOAT"), "FLOAT64"),
        (column(kind="NUMERIC"), column(kind="BIGNUMERIC"), "BIGNUMERIC"),
        (column(kind="NUMERIC"), column(kind="FLOAT"), "FLOAT64"),
        (column(kind="NUMERIC", precision="10", scale="2"), column(kind="NUMERIC"), "NUMERIC"),
        (column(kind="STRING", maxLength="5"), column(kind="STRING"), "STRING"),
        (
            column(kind="RECORD", mode="REPEATED", fields=[column("x"), column("y", "STRING")]),
            column(
                kind="RECORD",
                mode="REPEATED",
                fields=[column("x", "FLOAT"), column("y", "STRING"), column("z", "BOOLEAN")],
            ),
            "ARRAY<STRUCT<x FLOAT64, y STRING>>",  # z is added, which this cannot
        ),
    ],
)
def test_types_that_hold_more_are_widened(now: Resource, wanted: Resource, sql: str) -> None:
    assert compared(table(now), table(wanted))[0][0] == "widen"
    assert widenings([now], [wanted]) == {"n": sql}
    assert compared(table(*merged([now], [wanted])), table(wanted)) == []


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        (column(kind="FLOAT"), column()),
        (column(kind="NUMERIC"), column()),
        (column(kind="STRING"), column()),
        (column(), column(kind="STRING")),
        (column(kind="STRING"), column(kind="STRING", maxLength="5")),
        (column(mode="REPEATED"), column()),
        (column(), column(mode="REPEATED")),
        (column(kind="RECORD", fields=[column("x")]), column(kind="STRING")),
        (column(), column("m", mode="REQUIRED")),
        (column(kind="RECORD", fields=[column("x")]), column(kind="RECORD", fields=[column("y")])),
    ],
)
def test_types_that_hold_less_are_refused(now: Resource, wanted: Resource) -> None:
    steps = table_steps("t", table(now), table(wanted), {})
    assert any(step.do == "refuse" and step.instead for step in steps)
    assert widenings([now], [wanted]) == {}


def test_a_table_may_be_looser_than_its_contract() -> None:
    assert compared(table(column()), table(column(mode="REQUIRED"))) == []


def test_a_new_record_may_have_members_that_it_always_has() -> None:
    record = column("r", "RECORD", fields=[column("x", mode="REQUIRED")])
    assert compared(table(), table(record)) == [("add", "r", "")]
    assert merged([], [record]) == [record]


def test_a_name_that_went_where_another_came_may_have_been_renamed() -> None:
    steps = compared(table(column("was")), table(column("now")))
    assert steps[0][:2] == ("add", "now")
    assert steps[1][:2] == ("refuse", "was")
    assert steps[1][2].endswith("renamed to now?")


def test_what_others_say_of_a_column_stays() -> None:
    now = column(policyTags={"names": ["projects/p/taxonomies/1/policyTags/2"]})
    (after,) = merged([now], [column(description="What it is")])
    assert after == {**now, "description": "What it is"}


def test_what_is_no_table_is_refused() -> None:
    view = {"type": "VIEW", "description": "", "view": {"query": "SELECT 1"}}
    (refusal,) = table_steps("t", view, table(column()), {})
    assert (refusal.do, refusal.what) == ("refuse", "is a VIEW, not a table")


def test_clustering_follows_and_partitions_are_refused() -> None:
    now = table(clustering={"fields": ["a"]})
    (step,) = table_steps("t", now, table(clustering={"fields": ["b", "a"]}), {})
    assert (step.do, step.what.partition(";")[0]) == (
        "cluster",
        "clustered by a, and by b, a from then on",
    )
    (refusal,) = table_steps("t", table(timePartitioning={"type": "DAY"}), table(), {})
    assert refusal.do == "refuse"
    assert "rename it" in refusal.instead
