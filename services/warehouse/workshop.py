"""Where a warehouse is built: a folder of its own, with the lake as it was when the build began."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from dataflows.connectors.lake import lake_gaps
from dataflows.contracts import load_contracts
from dataflows.durations import Duration
from dataflows.flows.pseudonyms import load_key
from dataflows.runtime.config import Config
from dataflows.runtime.recovery import Lease
from services.warehouse.bronze import BronzeTable, bronze_tables
from services.warehouse.changes import Holdings, holdings
from services.warehouse.database import open_database
from services.warehouse.dbt import Dbt, duckdb_target
from services.warehouse.dbt_process import Node
from services.warehouse.errors import WarehouseError
from services.warehouse.held_lake import hold_lake
from services.warehouse.ledger import fingerprint, made_with
from services.warehouse.lineage import Lineage, Places
from services.warehouse.place import Place


@dataclass(frozen=True)
class Workshop:
    """A build under way: nobody else builds, and the lake is held still."""

    config: Config
    place: Place
    tables: dict[str, BronzeTable]
    held: Holdings
    fingerprint: str
    last_made_with: str | None
    lineage: Lineage
    started: float = field(default_factory=time.monotonic)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    nodes: list[Node] = field(default_factory=list)  # what dbt has run so far

    @contextmanager
    def database(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The scratch file; dbt cannot have it at the same time."""
        with open_database(self.place.scratch) as opened:
            yield opened

    def copy_last_good(self) -> None:
        """Makes the scratch file what the last good warehouse is."""
        shutil.copyfile(self.place.file, self.place.scratch)

    @property
    def dbt(self) -> Dbt:
        """dbt on the scratch file."""
        return Dbt(
            Path(self.config.warehouse_sql),
            self.place.dbt,
            duckdb_target(self.place.scratch, load_key(self.config.data_path)),
        )

    def refuse_gaps(self) -> None:
        """Nothing is built over a hole.

        Raises:
            WarehouseError: the lake has lost files.
        """
        lake = self.config.lake_path
        for table in self.tables:
            for gap in lake_gaps(lake, table) if (lake / table).is_dir() else ():
                raise WarehouseError(
                    f"{lake / table}: slot {gap.slot} has written {gap.written:,} records of "
                    f"{gap.date}, its files hold {gap.found:,}; restore the files that are gone"
                )

    @property
    def all_dates(self) -> set[date]:
        return {day for _, day in self.held}


@contextmanager
def workshop(config: Config) -> Iterator[Workshop]:
    """Where to build; empty afterwards, whatever was left in it.

    Raises:
        LeaseHeld: another build is under way.
        WarehouseError: there is no lake, or somebody holds the last good warehouse.
    """
    tables = bronze_tables(load_contracts(Path(config.schemas)))
    if not any((config.lake_path / table).is_dir() for table in tables):
        raise WarehouseError(
            f"{config.lake_path}: no lake there; `tidegate up` writes one, `tidegate demo` makes "
            "one in its own directory"
        )
    place = Place(config.data_path / "warehouse")
    lease = Lease(place.root, "the warehouse", Duration.parse("0s"))
    try:
        shutil.rmtree(place.building, ignore_errors=True)
        place.building.mkdir(parents=True)
        hold_lake(config.lake_path, tables, place.lake)
        yield Workshop(
            config,
            place,
            tables,
            holdings(place.lake, tables),
            fingerprint(Path(config.warehouse_sql), tables),
            made_with(place.file),
            Lineage(
                config.warehouse.lineage,
                Places(
                    f"duckdb://{place.file.absolute()}", "file", f"{config.lake_path.absolute()}/"
                ),
                place.dbt,
            ),
        )
    finally:
        shutil.rmtree(place.building, ignore_errors=True)
        lease.release()
