"""What the warehouse holds, and what a build of it asks: from its own files, nothing is built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import PurePath

import duckdb
import msgspec

from dataflows.connectors.lake import DATE_COLUMN
from services.cost.errors import CostError
from services.cost.volumes import Builds, Query, Table, TableName
from services.cost.widths import ROWS_READ, quoted, widths
from services.warehouse.database import open_database
from services.warehouse.place import Place

_WORD = re.compile(r"\w+")
_ASKS = ("model", "test")
_BY_DATE = "incremental"
_ANEW = "`tidegate warehouse build --full` makes it anew"


class _Config(msgspec.Struct):
    materialized: str = ""


class _Reads(msgspec.Struct):
    nodes: list[str] = []


class _Source(msgspec.Struct):
    schema: str
    name: str


class _Node(_Source):
    resource_type: str
    path: str = ""
    config: _Config = msgspec.field(default_factory=_Config)
    depends_on: _Reads = msgspec.field(default_factory=_Reads)


class Manifest(msgspec.Struct):
    """What dbt says of its project, as far as it counts here."""

    nodes: dict[str, _Node]
    sources: dict[str, _Source]

    @property
    def by_date(self) -> set[TableName]:
        """The tables of which a build makes some dates anew, and keeps the others."""
        nodes = self.nodes.values()
        return {(n.schema, n.name) for n in nodes if n.config.materialized == _BY_DATE}

    def queries(self, place: Place) -> Iterator[Query]:
        """Every model and test, and the tables that it reads.

        Raises:
            CostError: the SQL that a build has run is not there.
        """
        # Not out of the manifest: a command that runs no SQL leaves one without it.
        compiled = {file.name: file for file in (place.dbt / "compiled").rglob("*.sql")}
        places: dict[str, _Source] = {**self.sources, **self.nodes}
        for node in self.nodes.values():
            if node.resource_type in _ASKS:
                file = compiled.get(PurePath(node.path).name)
                if file is None:
                    raise CostError(
                        f"{place.dbt / 'compiled'}: has no {node.path}, so what a build asks is "
                        f"not known; {_ANEW}"
                    )
                read = (places[name] for name in node.depends_on.nodes if name in places)
                yield Query(
                    name=node.name,
                    reads=sorted({(table.schema, table.name) for table in read}),
                    words=frozenset(_WORD.findall(file.read_text("utf-8"))),
                    by_date=node.config.materialized == _BY_DATE,
                )


def read_manifest(place: Place) -> Manifest:
    """
    Raises:
        CostError: dbt has left none that can be read.
    """
    file = place.dbt / "manifest.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise CostError(f"{file}: does not say what a build asks ({error}); {_ANEW}") from error


def read_warehouse(place: Place, manifest: Manifest) -> tuple[list[Table], Builds]:
    """The tables of silver and gold, and the build.

    Raises:
        WarehouseError: somebody else holds the file.
        CostError: it is not a warehouse that was built here.
    """
    with open_database(place.file, read_only=True) as database:
        try:
            tables = [_table(database, name, manifest) for name in _names(database)]
            dates, source = _dates(database)
        except duckdb.Error as error:
            raise CostError(f"{place.file}: {' '.join(str(error).split())}; {_ANEW}") from error
    return tables, Builds(list(manifest.queries(place)), dates, source)


def _names(database: duckdb.DuckDBPyConnection) -> list[TableName]:
    return database.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() "
        "WHERE schema_name IN ('silver', 'gold') ORDER BY ALL"
    ).fetchall()


def _table(database: duckdb.DuckDBPyConnection, name: TableName, manifest: Manifest) -> Table:
    place = ".".join(map(quoted, name))
    read, sizes = widths(database.sql(f"FROM {place} LIMIT {ROWS_READ}"))
    by_date = name in manifest.by_date and DATE_COLUMN in sizes
    return Table(
        name,
        _rows(database, place, DATE_COLUMN if by_date else "CAST(NULL AS DATE)"),
        sizes,
        f"rows in the warehouse, mean size of {read:,}",
    )


def _rows(
    database: duckdb.DuckDBPyConnection, place: str, column: str
) -> Mapping[date | None, int]:
    return dict(database.execute(f"SELECT {column}, count(*) FROM {place} GROUP BY 1").fetchall())


def _dates(database: duckdb.DuckDBPyConnection) -> tuple[Decimal, str]:
    """How many dates a build makes anew, where it does not make all."""
    ((builds, dates),) = database.execute(
        "SELECT count(*), coalesce(sum(len(dates)), 0) FROM meta.builds WHERE kind <> 'full'"
    ).fetchall()
    if not builds:
        return Decimal(1), "columns that models and tests name; one date anew (none measured yet)"
    mean = Decimal(int(dates)) / builds
    return mean, f"columns that models and tests name; {mean:.1f} dates anew, mean of {builds:,}"
