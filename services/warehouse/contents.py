"""What a warehouse holds, in figures: rows, how new they are, and what is in none of them."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import msgspec

Table = tuple[str, str]
"""Layer and name."""

_TELLS_AGE = ("arrived_at", "event_timestamp", "event_date")


class Contents(msgspec.Struct, frozen=True):
    """Of silver and gold; times in seconds since the epoch.

    `built` is when the build began that made it, `newest` the last arrival in a table, or else its
    last event time or date; tables without any are left out. `columns` are names and types, in
    order. `quarantined` is by source and reason.
    """

    built: float | None = None
    rows: Mapping[Table, int] = {}
    newest: Mapping[Table, float] = {}
    columns: Mapping[Table, list[tuple[str, str]]] = {}
    quarantined: Mapping[tuple[str, str], int] = {}
    dead_letters: Mapping[str, int] = {}


def contents_of(database: duckdb.DuckDBPyConnection) -> Contents:
    """The figures of a warehouse that was built."""
    rows: dict[Table, int] = {}
    newest: dict[Table, float] = {}
    columns: dict[Table, list[tuple[str, str]]] = {}
    for layer, name, column, kind in database.execute(
        "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_schema IN ('silver', 'gold') ORDER BY 1, 2, ordinal_position"
    ).fetchall():
        columns.setdefault((layer, name), []).append((column, kind))
    for (layer, name), of_table in columns.items():
        tells = next((column for column in _TELLS_AGE if column in dict(of_table)), "NULL")
        (counted,) = database.execute(
            f'SELECT count(*), epoch(CAST(max({tells}) AS TIMESTAMPTZ)) FROM {layer}."{name}"'
        ).fetchall()
        rows[layer, name], age = counted
        if age is not None:
            newest[layer, name] = age
    quarantined = database.execute(
        "SELECT source, reason, count(*) FROM silver.stg_quarantined GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    letters = database.execute(
        "SELECT reason, count(*) FROM silver.stg_dead_letters GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    ((built,),) = database.execute("SELECT epoch(max(started_at)) FROM meta.builds").fetchall()
    return Contents(
        built,
        rows,
        newest,
        columns,
        {(source, reason): count for source, reason, count in quarantined},
        dict(letters),
    )
