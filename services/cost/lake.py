"""What the lake holds: rows of each table by topic and date, from the feet of its files alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from dataflows.connectors.lake import DATE_COLUMN, LakeFile, lake_files
from services.cost.errors import CostError
from services.cost.volumes import Table
from services.cost.widths import DATE_BYTES, ROWS_READ, widths
from services.warehouse.bronze import SCHEMA, BronzeTable


@dataclass(frozen=True)
class LakeRows:
    """`by_topic` are rows by the topic of the log that they come from, and by event date."""

    by_topic: Mapping[str, Mapping[date, int]]
    tables: Mapping[str, Table]

    def dates_of(self, tables: Collection[str]) -> list[date]:
        """Every date on which one of the tables has rows, sorted."""
        chosen = (table for name, table in self.tables.items() if name in tables)
        return sorted({at for table in chosen for at, rows in table.rows.items() if at and rows})


def read_lake(lake: Path, tables: Mapping[str, BronzeTable]) -> LakeRows:
    """Counts every row, and measures those of the newest files.

    Args:
        lake: one that stands still.

    Raises:
        CostError: a file is no Parquet file.
        LakeError: the lake cannot be read.
    """
    by_topic: dict[str, Counter[date]] = {}
    found: dict[str, Table] = {}
    for name, table in tables.items():
        rows: Counter[date | None] = Counter()
        newest: list[tuple[LakeFile, int]] = []
        for path in lake_files(lake, name) if (lake / name).is_dir() else ():
            file = LakeFile.parse(path.parent.name, path.name)
            if file is not None:
                at, count = date.fromisoformat(file.date), _rows(path)
                rows[at] += count
                topic, _, _ = file.slot.rpartition(".")
                by_topic.setdefault(topic, Counter())[at] += count
                newest.append((file, count))
        if rows:
            read, sizes = _measured(lake / name, sorted(newest, reverse=True))
            source = f"rows in the lake, mean size of {read:,}"
            found[name] = Table((SCHEMA, name), rows, sizes, source, table.key)
    return LakeRows(by_topic, found)


def _rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken(path, error) from error


def _measured(folder: Path, newest: list[tuple[LakeFile, int]]) -> tuple[int, dict[str, Decimal]]:
    read, rows = [], 0
    for file, count in newest:
        if rows >= ROWS_READ:
            break
        read.append(_table(folder / file.path))
        rows += count
    try:
        table = pa.concat_tables(read, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise _broken(folder, error) from error
    with duckdb.connect() as database:
        measured, sizes = widths(database.from_arrow(table))
    return measured, {**sizes, DATE_COLUMN: Decimal(DATE_BYTES)}


def _table(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken(path, error) from error


def _broken(place: Path, error: Exception) -> CostError:
    reason = " ".join(str(error).split())
    return CostError(
        f"{place}: cannot be read ({reason}); move what is broken out of the lake, and load its "
        "records again"
    )
