"""Opens a warehouse's file."""

from __future__ import annotations

from pathlib import Path

import duckdb

from services.warehouse.errors import WarehouseError


def open_database(file: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """The database in a file, its times in UTC, blind to what Python calls things.

    Raises:
        WarehouseError: another program holds the file, or it is no database.
    """
    try:
        database = duckdb.connect(
            str(file), read_only=read_only, config={"python_enable_replacements": False}
        )
        database.execute("SET TimeZone = 'UTC'")
    except duckdb.Error as error:
        raise _unusable(file, error) from error
    return database


def _unusable(file: Path, error: duckdb.Error) -> WarehouseError:
    text = " ".join(str(error).split())
    if "lock" not in text:
        return WarehouseError(f"{file}: {text}; remove the file, and build again")
    held = WarehouseError(f"{file}: another program holds it; end that one first: {text}")
    held.may_pass = True
    return held
