"""Which dates hang on which, against brute force over the rows."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from dataflows.connectors.lake import LakeWriter
from dataflows.contracts import load_contracts
from services.warehouse.bronze import bronze_tables
from services.warehouse.changes import (
    Cell,
    bronze_views,
    cells_with_late_events,
    changed_cells,
    dates_to_build,
    holdings,
)

TABLES = bronze_tables(load_contracts(Path(__file__).parents[3] / "schemas"))
FIRST = date(2026, 3, 2)
DAYS = [FIRST + timedelta(n) for n in range(6)]
NAMES = (
    "clickstream",
    "transactions",
    "labels",
    "customer_profiles",
    "sessions",
    "product_catalog",
)

rows = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 5), st.sampled_from(DAYS)), max_size=25
)
cells = st.frozensets(st.tuples(st.sampled_from(NAMES), st.sampled_from(DAYS)), max_size=3)


def lake_of(rows: list[tuple[str, int, date]]) -> duckdb.DuckDBPyConnection:
    """The keys and dates of some rows; a label speaks of the payment with its own number."""
    database = duckdb.connect()
    database.execute("CREATE SCHEMA bronze")
    for name, table in TABLES.items():
        more = ", transaction_id VARCHAR" if name == "labels" else ""
        key = table.key or "nothing"
        database.execute(f"CREATE TABLE bronze.{name} ({key} VARCHAR{more}, event_date DATE)")
    for name, number, day in rows:
        values: list[Any] = [str(number), *([str(number)] if name == "labels" else []), day]
        places = ", ".join("?" * len(values))
        database.execute(f"INSERT INTO bronze.{name} VALUES ({places})", values)
    return database


def brute_force(rows: list[tuple[str, int, date]], changed: frozenset[Cell]) -> set[date]:
    dates: set[date] = set()
    for table in NAMES:
        days = {day for of, day in changed if of == table}
        touched = {number for name, number, on in rows if name == table and on in days}
        days |= {on for name, number, on in rows if name == table and number in touched}
        dates |= days
        if table == "labels":
            spoken_of = {n for name, n, on in rows if name == table and on in days}
            dates |= {on for name, n, on in rows if name == "transactions" and n in spoken_of}
        if table == "customer_profiles" and days:
            dates |= {on for _, _, on in rows if on >= min(days)}
    return dates


@given(rows, cells)
def test_what_hangs_on_changed_dates_is_made_anew_and_nothing_else(
    rows: list[tuple[str, int, date]], changed: frozenset[Cell]
) -> None:
    with lake_of(rows) as database:
        known = {day for _, _, day in rows}
        found = dates_to_build(bronze_views(database), TABLES, changed, known)
        assert found == brute_force(rows, changed)


def test_compaction_changes_nothing_and_a_record_changes_its_date(tmp_path: Path) -> None:
    import numpy as np
    import pyarrow as pa

    def write(slot: str, day: date) -> LakeWriter:
        writer = LakeWriter(tmp_path, "clickstream", slot)
        start = writer.next_offset or 0
        days = np.array([day], "datetime64[D]")
        writer.write(pa.table({"event_id": [str(start)]}), days, start, start + 1)
        return writer

    for _ in range(4):
        writer = write("events.clickstream.0", DAYS[0])
    before = holdings(tmp_path, TABLES)
    assert before == {("clickstream", DAYS[0]): {"events.clickstream.0": 4}}
    assert writer.compact(min_files=2) > 0
    assert not changed_cells(before, holdings(tmp_path, TABLES))
    write("events.clickstream.1", DAYS[1])
    write("buffered.clickstream.0", DAYS[0])
    now = holdings(tmp_path, TABLES)
    assert changed_cells(before, now) == {("clickstream", day) for day in DAYS[:2]}
    assert cells_with_late_events(before, now) == {("clickstream", DAYS[0])}
    assert changed_cells(now, before) == changed_cells(before, now)
