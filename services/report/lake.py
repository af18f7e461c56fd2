"""The Parquet lake as DuckDB views; a table that nothing was written to is empty."""

from __future__ import annotations

from pathlib import Path

import duckdb

from dataflows.connectors.lake import lake_files

# What the flows derive; every other table holds the events of a source.
DERIVED = {
    "sessions": "session_id VARCHAR, user_id VARCHAR, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ,"
    " event_count BIGINT, funnel_stage VARCHAR, capped BOOLEAN, revision BIGINT,"
    " superseded_by VARCHAR",
    "scores": "transaction_id VARCHAR, score DOUBLE, decision VARCHAR",
    "alerts": "alert_id VARCHAR, transaction_id VARCHAR, user_id VARCHAR, device_id VARCHAR,"
    " event_timestamp TIMESTAMPTZ, total_amount DOUBLE, currency VARCHAR, score DOUBLE,"
    " severity VARCHAR, decision VARCHAR,"
    " reasons STRUCT(rule VARCHAR, weight DOUBLE, text VARCHAR)[]",
    "dead_letters": "reason VARCHAR, message VARCHAR, contract VARCHAR",
    "reprocess_requests": "source VARCHAR, event_date VARCHAR, late_events BIGINT",
}
SOURCES = (
    "clickstream",
    "transactions",
    "customer_support",
    "product_catalog",
    "customer_profiles",
    "labels",
)
_NO_PAYMENTS = "status VARCHAR, total_amount DECIMAL(18, 2), lateness VARCHAR"
_FINAL_SESSIONS = """
    CREATE VIEW last_revisions AS
    SELECT *, date_diff('us', started_at, ended_at) / 1e6 AS seconds
    FROM sessions
    QUALIFY row_number() OVER (PARTITION BY session_id ORDER BY revision DESC) = 1;
    CREATE VIEW final_sessions AS SELECT * FROM last_revisions WHERE superseded_by IS NULL"""


def open_lake(lake: Path) -> duckdb.DuckDBPyConnection:
    """Views on the lake: one a table, and

    events (source, at TIMESTAMP in UTC, lateness): the events of all sources;
    final_sessions (sessions, seconds): the last revision of each session that was not merged away.

    Raises:
        LakeError: a table cannot be read.
    """
    views = duckdb.connect()
    views.execute("SET TimeZone = 'UTC'")
    folders = [path.name for path in sorted(lake.glob("[!._]*")) if path.is_dir()]
    present = [name for name in folders if _create_view(views, lake, name)]
    for table, columns in {**DERIVED, "transactions": _NO_PAYMENTS}.items():
        if table not in present:
            views.execute(f"CREATE TABLE {table} ({columns})")
    views.execute("CREATE TABLE no_events (source VARCHAR, at TIMESTAMP, lateness VARCHAR)")
    sources = [_events_of(views, name) for name in present if name not in DERIVED]
    views.execute("CREATE VIEW events AS " + " UNION ALL ".join(["FROM no_events", *sources]))
    views.execute(_FINAL_SESSIONS)
    return views


def _create_view(views: duckdb.DuckDBPyConnection, lake: Path, table: str) -> bool:
    files = [_literal(path) for path in lake_files(lake, table)]
    if files:
        views.read_parquet(files, hive_partitioning=True, union_by_name=True).create_view(table)
    return bool(files)


def _literal(path: Path) -> str:
    """The path as a pattern that matches nothing else."""
    return "".join(f"[{char}]" if char in "[*?" else char for char in str(path))


def _events_of(views: duckdb.DuckDBPyConnection, source: str) -> str:
    """A source whose contract calls its event time otherwise is placed by its partition's date."""
    has_time = "event_timestamp" in views.view(source).columns
    at = "make_timestamp(epoch_us(event_timestamp))" if has_time else "event_date::TIMESTAMP"
    return f"SELECT '{source}' AS source, {at} AS at, lateness FROM \"{source}\""
