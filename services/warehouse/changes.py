"""Which dates a build has to make anew: those that changed, and those that hang on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from dataflows.connectors.lake import LakeFile, lake_files
from services.warehouse.bronze import SCHEMA, BronzeTable

Cell = tuple[str, date]
"""A table and an event date."""

FIRST_DAY = "DATE '1970-01-01'"  # of what models read; BigQuery wants days to be named

_LATE = "buffered."  # of a slot's name: its topic is what the late flow has buffered

Holdings = dict[Cell, dict[str, int]]
"""Of each table and date, how far each slot has come: the offset after its last record there."""


def holdings(lake: Path, tables: Iterable[str]) -> Holdings:
    """What a lake holds. Compaction does not change it; each record that comes in does.

    Raises:
        LakeError: the lake cannot be read.
    """
    held: Holdings = {}
    for table in tables:
        for path in lake_files(lake, table) if (lake / table).is_dir() else ():
            file = LakeFile.parse(path.parent.name, path.name)
            if file is not None:
                slots = held.setdefault((table, date.fromisoformat(file.date)), {})
                slots[file.slot] = max(slots.get(file.slot, 0), file.next)
    return held


def changed_cells(before: Holdings, now: Holdings) -> set[Cell]:
    """Tables and dates that hold more, less or something else than before."""
    return {cell for cell in {*before, *now} if before.get(cell) != now.get(cell)}


def cells_with_late_events(before: Holdings, now: Holdings) -> set[Cell]:
    """Those into which events too late for the stream have come since."""
    return {
        cell
        for cell, slots in now.items()
        if any(
            slot.startswith(_LATE) and before.get(cell, {}).get(slot) != next_offset
            for slot, next_offset in slots.items()
        )
    }


class Bronze(NamedTuple):
    """Bronze as SQL that both engines know can be asked for it: rows of a query, and its schema."""

    ask: Callable[[str], Iterable[tuple[Any, ...]]]
    schema: str = SCHEMA


def bronze_views(database: duckdb.DuckDBPyConnection) -> Bronze:
    """The views over the whole lake."""
    return Bronze(lambda sql: database.execute(sql).fetchall())


def dates_to_build(
    bronze: Bronze,
    tables: Mapping[str, BronzeTable],
    changed: Set[Cell],
    known: Set[date],
) -> set[date]:
    """The dates of the changed cells, and all whose rows may come out otherwise because of them.

    A row of a date depends on that date, and on: other copies or revisions of the same event or
    session, under whatever date; labels of its payment; customers' profiles up to then.

    Args:
        known: every date that bronze has.
    """
    dates = {day for _, day in changed}
    for name, table in tables.items():
        touched = {day for of, day in changed if of == name}
        if touched and table.key:
            touched |= _sharing(bronze, name, table.key, name, touched)
        dates |= touched
        if touched and name == "labels":
            dates |= _sharing(bronze, name, "transaction_id", "transactions", touched)
        if touched and name == "customer_profiles":
            dates |= {day for day in known if day >= min(touched)}
    return dates


def _sharing(bronze: Bronze, table: str, key: str, other: str, dates: Set[date]) -> set[date]:
    """The dates of rows of `other` that have a key in common with `table` on these dates."""
    days = ", ".join(f"DATE '{day}'" for day in sorted(dates))
    rows = bronze.ask(
        f"SELECT DISTINCT event_date FROM {bronze.schema}.{other} "
        f"WHERE event_date >= {FIRST_DAY} AND {key} IN "
        f"(SELECT {key} FROM {bronze.schema}.{table} WHERE event_date IN ({days}))"
    )
    return {day for (day,) in rows}
