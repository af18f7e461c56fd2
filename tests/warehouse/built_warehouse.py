"""A warehouse that was built for tests to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warehouse_shop import Shop

from dataflows.runtime.config import Config, load_config
from services.warehouse.database import open_database


def config_of(directory: Path) -> Config:
    return load_config(None, {}, {"data_dir": str(directory)})


@dataclass(frozen=True)
class Built:
    """A shop's week, and the data directory with its lake and warehouse. Not to be changed."""

    shop: Shop
    directory: Path

    @property
    def config(self) -> Config:
        return config_of(self.directory)

    @property
    def file(self) -> Path:
        return self.directory / "warehouse" / "warehouse.duckdb"

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with open_database(self.file, read_only=True) as database:
            return database.execute(sql).fetchall()
