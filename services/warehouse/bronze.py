"""Bronze: the lake's tables as views, with the columns that contracts and flows declare.

dbt sees the same tables on every target: here views over Parquet files, on BigQuery the tables that
the load flow writes. So the views call columns what BigQuery lets them be called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from dataflows.connectors.bigquery import LINEAGE_PARTITION
from dataflows.connectors.lake import DATE_COLUMN, lake_files
from dataflows.contracts import Contract
from dataflows.contracts.enrichment import ENRICHMENT
from dataflows.contracts.storage import explain
from dataflows.flows.load import LINEAGE
from dataflows.flows.tables import DOCUMENTS, TIME
from services.warehouse.errors import WarehouseError

SCHEMA = "bronze"

DEAD_LETTERS = pa.schema(
    [
        ("reason", pa.string()),
        ("message", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int64()),
        ("offset", pa.int64()),
        ("arrived_at", TIME),
        ("contract", pa.string()),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
)
MERGES = pa.schema(
    [
        ("source", pa.string()),
        ("action", pa.string()),
        ("events", pa.int64()),
        ("decided_at", TIME),
    ]
)
_MADE_BY_FLOWS = {
    "sessions": ("session_id", "Sessions, every revision and retraction, by the day they began"),
    "scores": ("transaction_id", "The fraud score of each payment that the stream has seen"),
    "alerts": ("alert_id", "Payments that looked like fraud, with reasons"),
    "floods": ("flood_id", "Hours in which a rule raised more alerts than it may"),
    "incidents": ("incident_id", "What users and devices did that shoppers do not, in words"),
    "metrics": ("", "The shop's own series, window by window, each with its expected band"),
    "anomalies": ("anomaly_id", "Windows of metrics that are unlike those before, in words"),
    "reprocess_requests": ("", "Dates whose late events wait to be merged"),
}
_LINEAGE_MEANS = {
    "_topic": "The topic whose record became this row",
    LINEAGE_PARTITION: "Its partition",
    "_offset": "Its offset there",
}
_NAME_IN_LAKE = {LINEAGE_PARTITION: "_partition"}


@dataclass(frozen=True)
class BronzeTable:
    """A table of bronze: its columns without `event_date`, and what makes two rows one thing.

    `key` is empty where rows have nothing of the kind; `of_contract` tells sources from what flows
    make.
    """

    name: str
    schema: pa.Schema
    key: str
    description: str
    descriptions: Mapping[str, str]
    of_contract: bool
    reference: bool = False

    @property
    def in_lake(self) -> pa.Schema:
        """The same columns by the names that the lake's files have for them."""
        return pa.schema(
            [
                column.with_name(_NAME_IN_LAKE.get(column.name, column.name))
                for column in self.schema
            ]
        )


def bronze_tables(contracts: Mapping[str, Contract]) -> dict[str, BronzeTable]:
    """Every table by name: a source's for each contract, those that flows make, and decisions."""
    tables = [_source(contract) for contract in contracts.values()]
    for topic, (schema, _) in DOCUMENTS.items():
        name = topic.replace(".", "_")
        key, description = _MADE_BY_FLOWS[name]
        tables.append(_table(name, schema, key, description))
    letters = "Records that are no event, and why, by the day of arrival"
    tables.append(_table("dead_letters", DEAD_LETTERS, "", letters))
    merges = "Decisions to merge events later than the horizon, or to take them out, by their date"
    tables.append(_table("merges", MERGES, "", merges))
    return {table.name: table for table in tables}


def _source(contract: Contract) -> BronzeTable:
    meanings = {
        field.name: explain(field, field.name, contract.pii)
        for field in contract.shape.fields.values()
    }
    added = {name: field.description for name, field in ENRICHMENT.items()}
    return BronzeTable(
        name=contract.source,
        schema=_with_lineage(contract.arrow_schema()),
        key=contract.dedup_key,
        description=contract.description,
        descriptions={**meanings, **added, **_LINEAGE_MEANS},
        of_contract=True,
        reference=contract.reference,
    )


def _table(name: str, schema: pa.Schema, key: str, description: str) -> BronzeTable:
    whole = _with_lineage(schema)
    return BronzeTable(name, whole, key, description, _LINEAGE_MEANS, of_contract=False)


def _with_lineage(schema: pa.Schema) -> pa.Schema:
    names = {stored: name for name, stored in _NAME_IN_LAKE.items()}
    return pa.schema([*schema, *(pa.field(names.get(name, name), kind) for name, kind in LINEAGE)])


def create_bronze(
    database: duckdb.DuckDBPyConnection,
    tables: Mapping[str, BronzeTable],
    lake: Path,
    called: Path | None = None,
) -> None:
    """Makes (again) a view for each table over what `lake` holds now; none of its files, no rows.

    Args:
        called: what a person calls that lake, where it is a copy.

    Raises:
        WarehouseError: a file that is no Parquet file, or has a column that no contract knows.
        LakeError: the lake cannot be read.
    """
    database.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    for table in tables.values():
        files = lake_files(lake, table.name) if (lake / table.name).is_dir() else []
        try:
            query = _over_files(database, table, lake / table.name, files)
        except WarehouseError as error:
            shown = str(called or lake)
            text = str(error).replace(str(lake.absolute()), shown).replace(str(lake), shown)
            raise WarehouseError(text) from error
        database.execute(f"CREATE OR REPLACE VIEW {SCHEMA}.{table.name} AS {query}")


def _over_files(
    database: duckdb.DuckDBPyConnection, table: BronzeTable, folder: Path, files: list[Path]
) -> str:
    empty = database.from_arrow(table.schema.empty_table())
    types = dict(zip(empty.columns, map(str, empty.types), strict=True))
    if not files:
        columns = [f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in types.items()]
        return f"SELECT {', '.join(columns)}, CAST(NULL AS DATE) AS {DATE_COLUMN} WHERE false"
    pattern = f"{_literal(folder)}/*/*.parquet"
    relation = f"read_parquet('{pattern}', hive_partitioning=true, union_by_name=true)"
    try:
        found = database.sql(f"FROM {relation}").columns
    except duckdb.Error as error:
        raise WarehouseError(
            f"{folder}: {' '.join(str(error).split())}; move that file out of the lake, and load "
            "its records again"
        ) from error
    stored = dict(zip(types, table.in_lake.names, strict=True))
    for name in found:
        if name not in stored.values() and name != DATE_COLUMN:
            raise WarehouseError(
                f"{folder} has a column {name!r} that its contract does not know; use the schemas/ "
                "with which the lake was written"
            )
    columns = [
        f"CAST({_quoted(stored[name]) if stored[name] in found else 'NULL'} AS {kind}) "
        f"AS {_quoted(name)}"
        for name, kind in types.items()
    ]
    return (
        f"SELECT {', '.join(columns)}, CAST({DATE_COLUMN} AS DATE) AS {DATE_COLUMN} FROM {relation}"
    )


def _quoted(name: str) -> str:
    return f'"{name}"'


def _literal(folder: Path) -> str:
    """The path as a pattern, in a string of SQL, that matches nothing else."""
    text = "".join(f"[{char}]" if char in "[*?" else char for char in str(folder.absolute()))
    return text.replace("'", "''")
