"""Each dbt test fails on data that is broken for it, and held before."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pytest
from built_warehouse import Built

from services.warehouse.database import open_database
from services.warehouse.dbt import Dbt, duckdb_target

# What breaks the tests that no general recipe breaks.
BREAKS = {
    "stg_customer_profiles_forget_who_closed_the_account": "UPDATE silver.stg_customer_profiles "
    "SET is_deleted = true, phone = '+43'",
    "stg_sessions_end_after_they_start": "UPDATE silver.stg_sessions SET ended_at = '2001-01-01'",
    "stg_incidents_end_after_they_start": "UPDATE silver.stg_incidents SET ended_at = '2001-01-01'",
    "stg_scores_are_shares": "UPDATE silver.stg_scores SET score = 1.01",
    "dim_products_prices_are_not_negative": "UPDATE gold.dim_products SET price = -0.01",
    "dim_date_weeks_are_1_to_53": "UPDATE gold.dim_date SET iso_week = 54",
    "fct_sessions_last_no_longer_than_the_cap": "UPDATE gold.fct_sessions "
    "SET duration_seconds = 86401",
    "fct_sessions_have_events": "UPDATE gold.fct_sessions SET event_count = 0",
    "fct_incidents_are_of_a_user_or_of_a_device": "UPDATE gold.fct_incidents "
    "SET user_id = NULL, device_id = NULL",
    "fct_incidents_have_events": "UPDATE gold.fct_incidents SET event_count = 0",
    "fct_transactions_amounts_are_not_negative": "UPDATE gold.fct_transactions "
    "SET total_amount = NULL",
    "fct_transaction_items_have_pieces": "UPDATE gold.fct_transaction_items SET quantity = 0",
    "fct_daily_summary_conversion_is_a_share": "UPDATE gold.fct_daily_summary SET conversion = 1.1",
    "fct_daily_summary_counts_purchases_among_payments": "UPDATE gold.fct_daily_summary "
    "SET purchase_count = payment_count + 1",
    "fct_user_purchases_scores_are_fifths": "UPDATE gold.fct_user_purchases SET recency_score = 6",
    "fct_user_purchases_are_in_the_past": "UPDATE gold.fct_user_purchases SET recency_days = -1",
    "fct_user_journey_goes_forward": "UPDATE gold.fct_user_journey SET carted_at = '2001-01-01'",
    "items_add_up_to_their_payment": "UPDATE gold.fct_transaction_items SET amount = amount + 0.01",
    "every_item_of_a_payment_is_there": "DELETE FROM gold.fct_transaction_items "
    "WHERE item_number = 2",
    "versions_of_a_customer_do_not_overlap": "UPDATE gold.dim_customers_scd2 "
    "SET valid_to = valid_to + INTERVAL 1 SECOND",
    "every_event_is_in_gold": "DELETE FROM gold.fct_events WHERE event_type = 'search'",
    "silver_has_every_event_of_the_lake": "DELETE FROM silver.stg_labels WHERE verdict = 'fraud'",
    "bronze_has_what_was_merged": "CREATE OR REPLACE VIEW bronze.merges AS SELECT "
    "'labels' AS source, 'merge' AS action, 1 AS events, DATE '2026-03-02' AS event_date",
    "dead_letters_are_few": "INSERT INTO silver.stg_dead_letters "
    "SELECT l.* FROM silver.stg_dead_letters l, range(500)",
}


class DbtTest(NamedTuple):
    """A test of the project, as dbt has compiled it."""

    name: str
    kind: str
    table: str
    column: str
    sql: str
    fails_above: int

    def failures(self, database: duckdb.DuckDBPyConnection) -> int:
        measure = "coalesce(max(per_thousand), 0)" if self.fails_above else "count(*)"
        row = database.execute(f"SELECT {measure} FROM ({self.sql})").fetchone()
        assert row is not None
        return int(row[0])

    def fails(self, database: duckdb.DuckDBPyConnection) -> bool:
        return self.failures(database) > self.fails_above

    def break_data(self) -> str:
        """SQL that breaks as little as it can."""
        one = f"rowid = (SELECT max(rowid) FROM {self.table} WHERE {self.column} IS NOT NULL)"
        match self.kind:
            case "unique" | "unique_combination":
                return f"INSERT INTO {self.table} SELECT * FROM {self.table} LIMIT 1"
            case "not_null":
                return f"UPDATE {self.table} SET {self.column} = NULL WHERE {one}"
            case "accepted_values" | "relationships":
                wrong = "DATE '1999-12-31'" if self.column == "event_date" else "'99'"
                return f"UPDATE {self.table} SET {self.column} = {wrong} WHERE {one}"
            case _:
                return BREAKS[self.name]


def dbt_tests(manifest: Path) -> Iterator[DbtTest]:
    nodes: dict[str, Any] = msgspec.json.decode(manifest.read_bytes())["nodes"]
    for node in nodes.values():
        if node["resource_type"] == "test":
            table = nodes.get(node.get("attached_node") or "")
            error_if = node["config"]["error_if"]
            yield DbtTest(
                name=node["name"],
                kind=(node.get("test_metadata") or {}).get("name", "rule"),
                table=table["relation_name"] if table else "",
                column=node.get("column_name") or "",
                sql=node["compiled_code"],
                fails_above=int(error_if.removeprefix(">")) if error_if.startswith(">") else 0,
            )


@pytest.fixture(scope="module")
def tests(built: Built) -> list[DbtTest]:
    return list(dbt_tests(built.directory / "warehouse" / "dbt" / "manifest.json"))


@pytest.fixture
def database(built: Built, tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    copy = tmp_path / built.file.name  # the name is part of the compiled names
    shutil.copy(built.file, copy)
    with open_database(copy) as opened:
        yield opened


def test_each_of_them_fails_on_data_that_is_broken_for_it(
    tests: list[DbtTest], database: duckdb.DuckDBPyConnection
) -> None:
    assert len(tests) > 100
    assert {test.name for test in tests if test.kind in ("rule", "holds")} == set(BREAKS)
    for test in tests:
        assert not test.fails(database), test.name
        database.execute("BEGIN")
        database.execute(test.break_data())
        assert test.fails(database), f"{test.name} does not notice: {test.break_data()}"
        others = [
            other.name
            for other in tests
            if other.table == test.table and other.column not in ("", test.column)
            if test.column and test.kind not in ("unique", "rule")
            if other.fails(database)
        ]
        assert not others, f"{test.name}: so do {others}"
        database.execute("ROLLBACK")


def test_dbts_unit_tests_hold(built: Built, tmp_path: Path, in_this_process: None) -> None:
    copy = tmp_path / built.file.name
    shutil.copy(built.file, copy)
    project = Path(built.config.warehouse_sql)
    nodes = Dbt(project, tmp_path / "dbt", duckdb_target(copy, bytes(32))).run(
        ["test", "--select", "test_type:unit"]
    )
    assert {node.status for node in nodes} == {"pass"}, nodes
    assert len(nodes) >= 8
