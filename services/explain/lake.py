"""Rows of the lake while it is written."""

from __future__ import annotations

from typing import Any

import duckdb

from dataflows.connectors.lake import LakeError, lake_files
from dataflows.runtime.config import Config

_ATTEMPTS = 3


def lake_rows(config: Config, table: str, condition: str, *values: Any) -> list[dict[str, Any]]:
    """Rows of a table of the lake. Raises LakeError."""
    for attempt in range(_ATTEMPTS):
        files = [str(file) for file in lake_files(config.lake_path, table)]
        if not files:
            return []
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            try:
                connection.read_parquet(files, union_by_name=True).create_view(table)
                query = f"SELECT * FROM {table} WHERE {condition} ORDER BY _offset"
                found = connection.execute(query, list(values)).to_arrow_table()
                return found.to_pylist()
            except duckdb.IOException as error:  # compacted meanwhile
                if attempt == _ATTEMPTS - 1:
                    raise LakeError(
                        f"{config.lake_path}/{table}: cannot be read: {error}"
                    ) from error
    raise AssertionError("unreachable")
