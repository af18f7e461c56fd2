"""Asks the last good warehouse. It can be asked while another one is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from services.warehouse.database import open_database
from services.warehouse.errors import WarehouseError


class Answer(NamedTuple):
    """Names of columns, and rows of DuckDB's Python values."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


def query(file: Path, sql: str) -> Answer:
    """The answer to a query that changes nothing.

    Raises:
        WarehouseError: there is no such warehouse, or it does not understand the query.
    """
    if not file.is_file():
        raise WarehouseError(f"{file}: no warehouse there; `tidegate warehouse build` makes it")
    with open_database(file, read_only=True) as database:
        try:
            answer = database.execute(sql)
            columns = [column[0] for column in answer.description or ()]
            return Answer(columns, answer.fetchall())
        except duckdb.Error as error:
            first, _, _ = str(error).partition("\n")
            raise WarehouseError(
                f"{first}; tables are named gold.fct_events, silver.stg_sessions, "
                "bronze.clickstream: `SHOW ALL TABLES` lists them"
            ) from error
