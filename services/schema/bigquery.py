"""The contracts beside BigQuery's tables, as the API writes them; no client, no I/O.

A table is a resource of the API: description, schema, timePartitioning, clustering. BigQuery adds a
column at the end, so the order of columns is no difference; it never makes one REQUIRED, so one
that is NULLABLE there and REQUIRED by the contract is none either: it holds all that comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from dataflows.connectors.bigquery import LINEAGE_PARTITION
from dataflows.connectors.lake import DATE_COLUMN
from dataflows.contracts import Contract
from services.schema.steps import Step
from services.warehouse.bronze import BronzeTable, bronze_tables

Resource = dict[str, Any]
Fields = list[Resource]

_BEYOND_CONTRACT: Fields = [
    {
        "name": "_topic",
        "type": "STRING",
        "mode": "REQUIRED",
        "description": "The topic whose record became this row",
    },
    {
        "name": LINEAGE_PARTITION,
        "type": "INTEGER",
        "mode": "REQUIRED",
        "description": "Its partition; `_partition` in the lake",
    },
    {
        "name": "_offset",
        "type": "INTEGER",
        "mode": "REQUIRED",
        "description": "Its offset there",
    },
    {
        "name": DATE_COLUMN,
        "type": "DATE",
        "mode": "REQUIRED",
        "description": "The day of event time, in UTC; the partition",
    },
]
_ONE_NAME = {
    "INT64": "INTEGER",
    "FLOAT64": "FLOAT",
    "BOOL": "BOOLEAN",
    "STRUCT": "RECORD",
    "DECIMAL": "NUMERIC",
    "BIGDECIMAL": "BIGNUMERIC",
}
_SQL_NAME = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
_OF_ARROW = {
    pa.string().id: "STRING",
    pa.binary().id: "BYTES",
    pa.bool_().id: "BOOLEAN",
    pa.int64().id: "INTEGER",
    pa.float64().id: "FLOAT",
    pa.decimal128(18, 2).id: "NUMERIC",
    pa.timestamp("us", "UTC").id: "TIMESTAMP",
    pa.struct([]).id: "RECORD",
}
_WIDER = {
    "INTEGER": ("NUMERIC", "BIGNUMERIC", "FLOAT"),
    "NUMERIC": ("BIGNUMERIC", "FLOAT"),
    "BIGNUMERIC": ("FLOAT",),
}
_BOUNDS = ("precision", "scale", "maxLength")
_BESIDE = "keep it, and add a new optional field beside it, or start a new source"


def wanted_table(contract: Contract) -> Resource:
    """The table of a source: partitioned by the day of event time, clustered as its contract says;
    a query must name its days."""
    return _table(
        contract.description, contract.bigquery_schema(), list(contract.warehouse.cluster_by)
    )


def wanted_tables(contracts: Mapping[str, Contract]) -> dict[str, Resource]:
    """Every table that the load flow writes: those of sources, then those of what flows make."""
    made = [table for table in bronze_tables(contracts).values() if not table.of_contract]
    return {
        **{contract.source: wanted_table(contract) for contract in contracts.values()},
        **{table.name: _made_by_flows(table) for table in made},
    }


def _made_by_flows(table: BronzeTable) -> Resource:
    everywhere = {column["name"] for column in _BEYOND_CONTRACT}
    columns = [_arrow_column(column) for column in table.schema if column.name not in everywhere]
    return _table(table.description, columns, [table.key] if table.key else [])


def _table(description: str, columns: Fields, cluster_by: list[str]) -> Resource:
    return {
        "description": description,
        "schema": {"fields": [*columns, *_BEYOND_CONTRACT]},
        "timePartitioning": {"type": "DAY", "field": DATE_COLUMN},
        "clustering": {"fields": cluster_by},
        "requirePartitionFilter": True,
    }


def _arrow_column(column: pa.Field) -> Resource:
    if pa.types.is_list(column.type):
        return {**_arrow_column(column.type.value_field.with_name(column.name)), "mode": "REPEATED"}
    kind = _OF_ARROW.get(column.type.id)
    if kind is None:
        raise ValueError(f"{column.name}: no type of BigQuery is known for {column.type}")
    found: Resource = {"name": column.name, "type": kind, "mode": "NULLABLE"}
    if kind == "RECORD":
        found["fields"] = [_arrow_column(inner) for inner in column.type]
    return found


def table_steps(
    table: str, now: Resource | None, wanted: Resource, personal: Mapping[str, str]
) -> list[Step]:
    """What separates a table from what is wanted; None is no table. `personal` are the paths of
    personal data, and how they are handled."""
    if now is None:
        return [_create(table, wanted)]
    if (kind := now.get("type", "TABLE")) != "TABLE":
        return [_refuse(table, "", f"is a {kind}, not a table", "rename it, and plan again")]
    steps = [*_columns(table, fields(now), fields(wanted), personal, "")]
    if now.get("timePartitioning", {}).get("field") != DATE_COLUMN:
        steps.append(
            _refuse(
                table,
                "",
                f"is not partitioned by the day of {DATE_COLUMN}, which BigQuery cannot change",
                "rename it, plan again, and copy its rows into the table that is made",
            )
        )
    clustered, cluster = _clustering(now), _clustering(wanted)
    if clustered != cluster:
        was, will = ", ".join(clustered) or "nothing", ", ".join(cluster) or "nothing"
        what = f"clustered by {was}, and by {will} from then on; rows before stay as they are"
        steps.append(Step(place="bigquery", do="cluster", table=table, what=what))
    if now.get("description", "") != wanted["description"]:
        text = wanted["description"]
        steps.append(Step(place="bigquery", do="describe", table=table, description=text))
    return steps


def merged(now: Fields, wanted: Fields) -> Fields:
    """The columns of a table once every step is done: those that are there, in their order and with
    all that others say of them (policy tags), then those that are new."""
    by_name = {each["name"]: each for each in wanted}
    kept = [_merge(each, by_name.pop(each["name"], None)) for each in now]
    return [*kept, *by_name.values()]


def widenings(now: Fields, wanted: Fields) -> dict[str, str]:
    """Columns that need another type, and that type in SQL; of a nested one the whole column."""
    there = {each["name"]: each for each in wanted}
    return {
        each["name"]: sql_type(widened)
        for each in now
        if (widened := _widened(each, there.get(each["name"]))) != each
    }


def sql_type(column: Resource) -> str:
    """A column's type as SQL writes it."""
    kind = _type(column)
    if kind == "RECORD":
        inner = ", ".join(f"{each['name']} {sql_type(each)}" for each in column["fields"])
        kind = f"STRUCT<{inner}>"
    kind = _SQL_NAME.get(kind, kind)
    return f"ARRAY<{kind}>" if _mode(column) == "REPEATED" else kind


def fields(table: Resource) -> Fields:
    found: Fields = table.get("schema", {}).get("fields", [])
    return found


def _create(table: str, wanted: Resource) -> Step:
    clustered = ", ".join(_clustering(wanted))
    by = f", clustered by {clustered}" if clustered else ""
    what = (
        f"{len(fields(wanted))} columns, partitioned by {DATE_COLUMN}{by}; a query must name its "
        "days"
    )
    return Step(place="bigquery", do="create", table=table, what=what)


def _columns(
    table: str, now: Fields, wanted: Fields, personal: Mapping[str, str], prefix: str
) -> Iterator[Step]:
    there = {each["name"]: each for each in now}
    asked = {each["name"]: each for each in wanted}
    for name, column in asked.items():
        if name not in there:
            yield _add(table, column, prefix + name, personal)
        else:
            yield from _column(table, there[name], column, personal, prefix + name)
    for name in there.keys() - asked.keys():
        what = "is in the table, and the contract does not know it"
        alike = [
            prefix + new
            for new in asked.keys() - there.keys()
            if _type(asked[new]) == _type(there[name])
        ]
        if len(alike) == 1:
            what += f"; renamed to {alike[0]}?"
        instead = "keep it in the contract, optional; or, if nothing reads it, drop it by hand"
        yield _refuse(table, prefix + name, what, instead)


def _add(table: str, column: Resource, path: str, personal: Mapping[str, str]) -> Step:
    if _mode(column) == "REQUIRED":
        instead = "make the field optional; BigQuery adds no REQUIRED column to a table"
        return _refuse(table, path, f"a new column that is REQUIRED, {_shown(column)}", instead)
    return Step(
        place="bigquery",
        do="add",
        table=table,
        column=path,
        type=_shown(column),
        mode=_mode(column),
        description=column.get("description", ""),
        personal=personal.get(path, ""),
    )


def _column(
    table: str, now: Resource, wanted: Resource, personal: Mapping[str, str], path: str
) -> Iterator[Step]:
    if "REPEATED" in (_mode(now), _mode(wanted)) and _mode(now) != _mode(wanted):
        yield _refuse(table, path, f"is {_mode(now)}, and {_mode(wanted)} by the contract", _BESIDE)
        return
    if _is_wider(now, wanted):
        what = f"{_shown(now)} -> {_shown(wanted)}"
        yield Step(place="bigquery", do="widen", table=table, column=path, what=what)
    elif _shown(now) != _shown(wanted):
        what = f"is {_shown(now)}, and {_shown(wanted)} by the contract"
        yield _refuse(table, path, what, _BESIDE)
        return
    if _mode(now) == "REQUIRED" and _mode(wanted) == "NULLABLE":
        what = "REQUIRED -> NULLABLE"
        yield Step(place="bigquery", do="relax", table=table, column=path, what=what)
    text = wanted.get("description", "")
    if text and now.get("description", "") != text:
        yield Step(
            place="bigquery",
            do="describe",
            table=table,
            column=path,
            description=text,
            personal=personal.get(path, ""),
        )
    yield from _columns(
        table, now.get("fields", []), wanted.get("fields", []), personal, path + "."
    )


def _merge(now: Resource, wanted: Resource | None) -> Resource:
    if wanted is None:
        return now
    whole = _with_type_of(wanted, now) if _is_wider(now, wanted) else dict(now)
    if _mode(now) == "REQUIRED":
        whole["mode"] = _mode(wanted)
    if wanted.get("description"):
        whole["description"] = wanted["description"]
    if "fields" in now:
        whole["fields"] = merged(now["fields"], wanted.get("fields", []))
    return whole


def _is_wider(now: Resource, wanted: Resource) -> bool:
    if _type(wanted) == _type(now):
        return any(now.get(name) for name in _BOUNDS) and not any(map(wanted.get, _BOUNDS))
    return _type(wanted) in _WIDER.get(_type(now), ())


def _widened(now: Resource, wanted: Resource | None) -> Resource:
    """A column with wider types, and otherwise as it is."""
    if wanted is None:
        return now
    whole = _with_type_of(wanted, now) if _is_wider(now, wanted) else dict(now)
    if "fields" in now:
        there = {each["name"]: each for each in wanted.get("fields", [])}
        whole["fields"] = [_widened(each, there.get(each["name"])) for each in now["fields"]]
    return whole


def _with_type_of(wanted: Resource, now: Resource) -> Resource:
    """A column as it is, but for its type and the bounds that went with it."""
    return {k: v for k, v in now.items() if k not in _BOUNDS} | {"type": wanted["type"]}


def _shown(column: Resource) -> str:
    """The type with its bounds, as SQL writes it: NUMERIC(10, 2)."""
    kind = _SQL_NAME.get(_type(column), _type(column))
    bounds = [str(column[name]) for name in _BOUNDS if column.get(name)]
    return f"{kind}({', '.join(bounds)})" if bounds else kind


def _type(column: Resource) -> str:
    return _ONE_NAME.get(column["type"].upper(), column["type"].upper())


def _mode(column: Resource) -> str:
    return str(column.get("mode") or "NULLABLE").upper()


def _clustering(table: Resource) -> list[str]:
    return list(table.get("clustering", {}).get("fields", []))


def _refuse(table: str, column: str, what: str, instead: str) -> Step:
    return Step(
        place="bigquery", do="refuse", table=table, column=column, what=what, instead=instead
    )
