"""A shop's week in a lake, for archive commands to be tried on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import msgspec
from command_line import CommandLine


class ArchivedShop:
    """A working directory with a lake in `shop`, and archive commands on it."""

    def __init__(self, run: CommandLine):
        self.directory = run.directory
        self.lake = self.directory / "shop" / "lake"
        self._run = run

    def __call__(self, *arguments: str | Path) -> str:
        """What a command prints that works."""
        done = self._run("-d", "shop", "archive", *arguments)
        assert (done.code, done.err) == (0, ""), done
        return done.out

    def json(self, *arguments: str) -> Any:
        return msgspec.json.decode(self(*arguments, "--json"))

    def fails_check(self, *arguments: str) -> str:
        done = self._run("-d", "shop", "archive", *arguments)
        assert (done.code, done.err) == (1, ""), done
        return done.out

    def refused(self, *arguments: str | Path, code: int = 78) -> str:
        """The one line that a command says as it is refused."""
        done = self._run("-d", "shop", "archive", *arguments)
        assert (done.code, done.out) == (code, ""), done
        assert done.err.count("\n") == 1, done.err
        return done.err.removeprefix("tidegate: ").rstrip("\n")

    def file(self, pattern: str) -> Path:
        return sorted(self.directory.glob(pattern))[0]


def rows(lake: Path, table: str) -> list[tuple[Any, ...]]:
    """All of a table, by DuckDB."""
    files = f"{lake}/{table}/*/*.parquet"
    with duckdb.connect() as database:
        found = database.execute(
            "SELECT * FROM read_parquet(?, hive_partitioning = true, union_by_name = true) "
            "ORDER BY _topic, _partition, _offset",
            [files],
        )
        return found.fetchall()
