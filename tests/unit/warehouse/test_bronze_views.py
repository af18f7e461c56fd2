"""The lake as views: the columns that are declared, whatever files are there."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dataflows.connectors.lake import LakeWriter
from dataflows.connectors.records import Records
from dataflows.contracts import load_contracts
from dataflows.flows.tables import DeadLetterTable
from services.warehouse.bronze import DEAD_LETTERS, bronze_tables, create_bronze
from services.warehouse.pseudonym_keys import padded_keys

TABLES = bronze_tables(load_contracts(Path(__file__).parents[3] / "schemas"))


def test_dead_letters_have_the_columns_that_the_load_flow_writes() -> None:
    none = np.array([], np.int64)
    letters = DeadLetterTable().rows(Records("dlq.x", 0, none, none, [], []), none)
    assert letters.table.schema == DEAD_LETTERS


def test_a_table_without_files_is_empty_and_has_its_columns(tmp_path: Path) -> None:
    with duckdb.connect() as database:
        create_bronze(database, TABLES, tmp_path / "lake")
        for name, table in TABLES.items():
            view = database.sql(f"FROM bronze.{name}")
            assert view.columns == [*table.schema.names, "event_date"]
            assert view.fetchall() == []


def test_files_from_before_a_field_was_added_have_null_there(tmp_path: Path) -> None:
    """Also inside an object; and a file's folder may have any name."""
    lake = tmp_path / "l*a[k]e's"
    old = pa.table(
        {
            "label_id": ["l1"],
            "_topic": ["events.labels"],
            "_partition": pa.array([0], pa.int64()),
            "_offset": pa.array([0], pa.int64()),
        }
    )
    days = np.array(["2026-03-02"], "datetime64[D]")
    LakeWriter(lake, "labels", "events.labels.0").write(old, days, 0, 1)
    click = pa.table({"event_id": ["c1"], "geo": [{"country": "AT"}]})
    LakeWriter(lake, "clickstream", "events.clickstream.0").write(click, days, 0, 1)
    with duckdb.connect() as database:
        create_bronze(database, TABLES, lake)
        found = database.execute("SELECT label_id, verdict, event_date::TEXT FROM bronze.labels")
        assert found.fetchall() == [("l1", None, "2026-03-02")]
        place = database.execute("SELECT geo.country, geo.city, cart.value FROM bronze.clickstream")
        assert place.fetchall() == [("AT", None, None)]


@given(st.binary(min_size=1, max_size=100), st.text())
def test_the_two_keys_make_an_hmac(key: bytes, text: str) -> None:
    inner, outer = (bytes.fromhex(half) for half in padded_keys(key))
    inside = hashlib.sha256(inner + text.encode()).digest()
    made = hashlib.sha256(outer + inside).hexdigest()
    assert made == hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
