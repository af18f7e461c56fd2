"""What a warehouse says of itself: schema `meta`, in the same file as what it tells of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

import duckdb
import msgspec

from services.warehouse.bronze import BronzeTable
from services.warehouse.changes import Holdings
from services.warehouse.database import open_database
from services.warehouse.dbt_process import Node
from services.warehouse.failures import FailedNode

_TABLES = """
    CREATE SCHEMA IF NOT EXISTS meta;
    CREATE TABLE IF NOT EXISTS meta.made_with (fingerprint VARCHAR);
    CREATE TABLE IF NOT EXISTS meta.holdings (
        table_name VARCHAR, event_date DATE, slot VARCHAR, next_offset BIGINT
    );
    CREATE TABLE IF NOT EXISTS meta.answered_requests (next_offset BIGINT);
    CREATE TABLE IF NOT EXISTS meta.builds (
        build_id BIGINT, kind VARCHAR, started_at TIMESTAMPTZ, seconds DOUBLE, dates DATE[]
    );
    CREATE TABLE IF NOT EXISTS meta.node_results (
        build_id BIGINT, kind VARCHAR, name VARCHAR, status VARCHAR, seconds DOUBLE,
        failures BIGINT, message VARCHAR
    );
    CREATE TABLE IF NOT EXISTS meta.failed_nodes (
        started_at TIMESTAMPTZ, kind VARCHAR, name VARCHAR, status VARCHAR, seconds DOUBLE,
        failures BIGINT, message VARCHAR
    )"""
_HISTORY = ("builds", "node_results", "failed_nodes")


class Ledger:
    """The `meta` schema of an open database; made if it is not there."""

    def __init__(self, database: duckdb.DuckDBPyConnection):
        self._database = database
        database.execute(_TABLES)

    def take_history(self, file: Path) -> None:
        """The builds so far, out of another warehouse; for one that begins anew."""
        self._database.execute(f"ATTACH '{_text(file)}' AS earlier (READ_ONLY)")
        there = self._database.execute(
            "SELECT table_name FROM duckdb_tables() "
            "WHERE database_name = 'earlier' AND schema_name = 'meta'"
        ).fetchall()
        for table in _HISTORY:
            if (table,) in there:  # not all of them in one of an earlier version
                self._database.execute(f"INSERT INTO meta.{table} FROM earlier.meta.{table}")
        self._database.execute("DETACH earlier")

    @property
    def holdings(self) -> Holdings:
        """What the lake held when it was last built, by table and date."""
        held: Holdings = {}
        for table, day, slot, next_offset in self._database.execute(
            "SELECT table_name, event_date, slot, next_offset FROM meta.holdings"
        ).fetchall():
            held.setdefault((table, day), {})[slot] = next_offset
        return held

    @property
    def answered(self) -> int:
        """The offset after the last reprocess request that a build has answered."""
        row = self._database.execute("SELECT max(next_offset) FROM meta.answered_requests")
        (offset,) = row.fetchone() or (0,)
        return int(offset or 0)

    def record(
        self,
        *,
        fingerprint: str,
        holdings: Holdings,
        answered: int,
        kind: str,
        started_at: datetime,
        seconds: float,
        dates: Sequence[date],
        nodes: Sequence[Node],
    ) -> None:
        """What this build has done, in place of what the last one said of the lake."""
        run = self._database
        run.execute("DELETE FROM meta.made_with; DELETE FROM meta.holdings")
        run.execute("DELETE FROM meta.answered_requests")
        run.execute("INSERT INTO meta.made_with VALUES (?)", [fingerprint])
        run.execute("INSERT INTO meta.answered_requests VALUES (?)", [answered])
        rows = [
            (table, day, slot, next_offset)
            for (table, day), slots in holdings.items()
            for slot, next_offset in slots.items()
        ]
        self._insert("holdings", rows, 4)
        row = run.execute("SELECT coalesce(max(build_id), 0) + 1 FROM meta.builds").fetchone()
        build_id = row[0] if row else 1
        self._insert("builds", [(build_id, kind, started_at, seconds, list(dates))], 5)
        results = [
            (build_id, n.kind, n.name, n.status, n.seconds, n.failures, n.message) for n in nodes
        ]
        self._insert("node_results", results, 7)

    def record_failures(self, failed: Sequence[FailedNode]) -> None:
        """What failed in builds since the last good one; again is no more than once."""
        for started_at in {node.started_at for node in failed}:
            self._database.execute(
                "DELETE FROM meta.failed_nodes WHERE started_at = ?", [started_at]
            )
        self._insert("failed_nodes", [msgspec.structs.astuple(node) for node in failed], 7)

    def _insert(self, table: str, rows: Sequence[tuple[object, ...]], columns: int) -> None:
        """All at once: a statement a row takes a second for some thousands."""
        if not rows:
            return
        values = [[row[column] for row in rows] for column in range(columns)]
        lists = ", ".join(["unnest(?)"] * columns)
        self._database.execute(f"INSERT INTO meta.{table} SELECT {lists}", values)


def made_with(file: Path) -> str | None:
    """The fingerprint that a warehouse was made with; None if there is none, or it is no warehouse.

    Raises:
        WarehouseError: another program holds the file, or it is no database.
    """
    if not file.is_file():
        return None
    with open_database(file, read_only=True) as database:
        try:
            row = database.execute("SELECT fingerprint FROM meta.made_with").fetchone()
        except duckdb.CatalogException:
            return None
    return None if row is None else str(row[0])


def last_nodes(database: duckdb.DuckDBPyConnection) -> list[Node]:
    """What dbt ran in the last build of a warehouse."""
    rows = database.execute(
        "SELECT kind, name, status, seconds, '', message, failures FROM meta.node_results "
        "WHERE build_id = (SELECT max(build_id) FROM meta.builds)"
    ).fetchall()
    return [Node(*row) for row in rows]


def fingerprint(project: Path, tables: Mapping[str, BronzeTable]) -> str:
    """Another one means that what is there was made by other rules, and has to be made anew."""
    digest = hashlib.sha256()
    for file in sorted(project.rglob("*")):
        if file.is_file() and file.suffix in (".sql", ".csv", ".yml"):
            digest.update(file.relative_to(project).as_posix().encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
    for table in tables.values():
        digest.update(f"{table.name}\0{table.key}\0{table.schema}\0".encode())
    return digest.hexdigest()


def _text(file: Path) -> str:
    return str(file.absolute()).replace("'", "''")
