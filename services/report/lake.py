"""The Parquet lake as DuckDB views; a table that nothing was written to is empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
from numpy.typing import NDArray

from dataflows.connectors.lake import lake_files

# Derived tables, which may be missing.
_DERIVED = {
    "sessions": "session_id VARCHAR, user_id VARCHAR, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ,"
    " event_count BIGINT, funnel_stage VARCHAR, capped BOOLEAN, revision BIGINT,"
    " superseded_by VARCHAR",
    "scores": "transaction_id VARCHAR, event_timestamp TIMESTAMPTZ, total_amount DOUBLE,"
    " score DOUBLE, decision VARCHAR",
    "alerts": "alert_id VARCHAR, transaction_id VARCHAR, user_id VARCHAR, device_id VARCHAR,"
    " event_timestamp TIMESTAMPTZ, total_amount DOUBLE, currency VARCHAR, score DOUBLE,"
    " severity VARCHAR, decision VARCHAR,"
    " reasons STRUCT(rule VARCHAR, weight DOUBLE, text VARCHAR)[]",
    "floods": "rule VARCHAR, held_back BIGINT, is_over BOOLEAN",
    "incidents": "incident_id VARCHAR, behaviour VARCHAR, severity VARCHAR, user_id VARCHAR,"
    " device_id VARCHAR, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, events BIGINT,"
    " is_over BOOLEAN, revision BIGINT, text VARCHAR",
    "metrics": "metric VARCHAR, segment VARCHAR, window_start TIMESTAMPTZ, window_end TIMESTAMPTZ,"
    " value DOUBLE, expected DOUBLE, lower DOUBLE, upper DOUBLE, score DOUBLE, version VARCHAR",
    "anomalies": "anomaly_id VARCHAR, metric VARCHAR, segment VARCHAR, window_start TIMESTAMPTZ,"
    " score DOUBLE, explanation VARCHAR",
    "dead_letters": "reason VARCHAR, message VARCHAR, contract VARCHAR",
    "reprocess_requests": "source VARCHAR, event_date VARCHAR, late_events BIGINT",
}
# Sources whose columns are read here.
_SOURCES = {
    "transactions": "status VARCHAR, total_amount DECIMAL(18, 2), lateness VARCHAR",
    "labels": "transaction_id VARCHAR, verdict VARCHAR, event_timestamp TIMESTAMPTZ,"
    " lateness VARCHAR",
}
_VIEWS = """
    CREATE VIEW last_revisions AS
    SELECT *, date_diff('us', started_at, ended_at) / 1e6 AS seconds
    FROM sessions
    QUALIFY row_number() OVER (PARTITION BY session_id ORDER BY revision DESC) = 1;
    CREATE VIEW final_sessions AS SELECT * FROM last_revisions WHERE superseded_by IS NULL"""

_WINDOWS = """
    SELECT epoch_us(window_start), value, score, expected, lower, upper FROM metrics
    WHERE metric = ? AND segment IS NOT DISTINCT FROM ?
        AND version = (SELECT arg_max(version, window_end) FROM metrics WHERE metric = ?)
    ORDER BY window_start"""


class Lake:
    """Views on the lake in `root`: one a table, and

    events (source, instant TIMESTAMP in UTC, lateness): the events of all sources;
    last_revisions (sessions, seconds): of each session, merged away or not;
    final_sessions: those that were not.

    Raises:
        LakeError: a table cannot be read.
    """

    def __init__(self, root: Path):
        self._views = duckdb.connect()
        self._views.execute("SET TimeZone = 'UTC'")
        folders = [path.name for path in sorted(root.glob("[!._]*")) if path.is_dir()]
        present = [table for table in folders if self._add(root, table)]
        for table, columns in {**_DERIVED, **_SOURCES}.items():
            if table not in present:
                self._views.execute(f"CREATE TABLE {table} ({columns})")
        self._views.execute(
            "CREATE TABLE nothing (source VARCHAR, instant TIMESTAMP, lateness VARCHAR)"
        )
        columns_of = {table: self._views.view(table).columns for table in present}
        sources = [table for table in present if "lateness" in columns_of[table]]
        selects = ["FROM nothing", *(_events_of(name, columns_of[name]) for name in sources)]
        self._views.execute("CREATE VIEW events AS " + " UNION ALL ".join(selects))
        self._views.execute(_VIEWS)
        self.derived = [table for table in present if table not in sources]

    def _add(self, root: Path, table: str) -> bool:
        files = [_literal(path) for path in lake_files(root, table)]
        if files:
            rows = self._views.read_parquet(files, hive_partitioning=True, union_by_name=True)
            rows.create_view(table)
        return bool(files)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._views.execute(query, values).fetchall()

    def columns(self, query: str) -> list[NDArray[Any]]:
        """The answer's columns of numbers, NaN for null in floats."""
        table = self._views.execute(query).to_arrow_table()
        return [column.to_numpy() for column in table.columns]

    def windows(self, metric: str, segment: str | None) -> list[tuple[Any, ...]]:
        """(start in microseconds, value, score, expected, lower, upper) of each window of a
        metric's series, of its newest version."""
        return self.rows(_WINDOWS, metric, segment, metric)

    def row(self, query: str) -> tuple[Any, ...]:
        """The only row of the answer."""
        (row,) = self.rows(query)
        return row

    def counts(self, query: str, *values: object) -> dict[Any, int]:
        """The answer of a query for pairs of a name and a count."""
        return dict(self.rows(query, *values))


def _literal(path: Path) -> str:
    """The path as a pattern that matches nothing else."""
    return "".join(f"[{char}]" if char in "[*?" else char for char in str(path))


def _events_of(source: str, columns: list[str]) -> str:
    """A source whose contract calls its event time otherwise is placed by its partition's date."""
    has_time = "event_timestamp" in columns
    instant = "make_timestamp(epoch_us(event_timestamp))" if has_time else "event_date::TIMESTAMP"
    return f"SELECT '{source}' AS source, {instant} AS instant, lateness FROM \"{source}\""
