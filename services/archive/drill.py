"""A rehearsal: restores the archive beside the lake, and proves that both hold the same."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
import msgspec

from dataflows.flows.load import LINEAGE
from dataflows.flows.pseudonyms import load_key
from dataflows.runtime.config import Config
from services.archive.errors import ArchiveError
from services.archive.manifest import Day
from services.archive.restore import restore
from services.archive.store import Archive, Choice
from services.archive.workplace import explained, hold_tables, workplace
from services.warehouse.build import build
from services.warehouse.place import Place

Tell = Callable[[str], None]

_RECORD = ", ".join(name for name, _ in LINEAGE)


class Difference(msgspec.Struct, frozen=True):
    """A day, or a gold table, that is not the same on both sides, and how."""

    what: str
    how: str


class DrillReport(msgspec.Struct, frozen=True, kw_only=True):
    """`rows` and `records` of the days that were compared: of the lake, and of the log behind it.
    `only_archived` days were restored, and have nothing in the lake to be compared with.
    `gold` has the rows of the tables that two warehouses were asked for, if they were built."""

    archive: str
    lake: str
    days: int
    rows: int
    records: int
    gold: dict[str, int]
    only_archived: int
    differences: list[Difference]
    restore_seconds: float
    seconds: float


def drill(
    config: Config, archive: Archive, choice: Choice, *, warehouse: bool, tell: Tell
) -> DrillReport:
    """Restores the newest version of each chosen day into a scratch lake, and compares.

    With `warehouse` builds one from each side, too, and compares the gold tables.

    Raises:
        LeaseHeld: another archive command is at work on this data directory.
        ArchiveDamaged: a file is not what was exported.
        ArchiveError: no archive, no lake, or a lake with holes.
        TidegateError: the archive cannot be used, or the warehouse cannot be built.
    """
    began = time.monotonic()
    with workplace(config) as scratch, explained(scratch):
        here, there = scratch / "held", scratch / "restored"
        tables = hold_tables(config.lake_path, choice, here / "lake")
        held = {day: files for table in tables for day, files in table.days.items()}
        report = restore(archive, choice, None, there / "lake", tell)
        restored = {Day(each.table, each.event_date) for each in report.restored}
        both, alone = sorted(restored & held.keys()), sorted(restored - held.keys())
        compared = list(_compare_days(there / "lake", held, both, tell))
        differences = [
            Difference(f"{day.table} {day.date}", "not in the archive")
            for day in sorted(held.keys() - restored)
        ]
        differences += [each for _, _, found in compared for each in found]
        gold: dict[str, int] = {}
        if warehouse:
            for day in alone:
                shutil.rmtree(there / "lake" / day.path)
            gold, found = _compare_gold(config, here, there, tell)
            differences += found
    return DrillReport(
        archive=archive.url,
        lake=str(config.lake_path),
        days=len(both),
        rows=sum(rows for rows, _, _ in compared),
        records=sum(records for _, records, _ in compared),
        gold=gold,
        only_archived=len(alone),
        differences=differences,
        restore_seconds=report.seconds,
        seconds=round(time.monotonic() - began, 3),
    )


def _compare_days(
    lake: Path, held: Mapping[Day, Sequence[Path]], days: Sequence[Day], tell: Tell
) -> Iterator[tuple[int, int, list[Difference]]]:
    """Rows and log records of each day in the lake, and how the restored one differs."""
    with duckdb.connect() as database:
        for day in days:
            tell(f"{day.table} {day.date}")
            try:
                _read(database, "here", held[day])
                _read(database, "there", sorted((lake / day.path).glob("*")))
                found = _differences(database, "here", "there")
                ((rows, records),) = database.sql(
                    f"SELECT count(*), count(DISTINCT ({_RECORD})) FROM here"
                ).fetchall()
            except duckdb.Error as error:
                raise ArchiveError(
                    f"{day.path}: cannot be compared ({' '.join(str(error).split())}); "
                    "`tidegate archive verify` says whether the archive is whole"
                ) from error
            yield rows, records, [Difference(f"{day.table} {day.date}", how) for how in found]


def _read(database: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path]) -> None:
    paths = [str(file) for file in files]
    rows = database.read_parquet(paths, union_by_name=True, hive_partitioning=False)
    columns = ", ".join(f'"{column}"' for column in sorted(rows.columns))
    database.execute(f"DROP TABLE IF EXISTS {name}")
    rows.project(columns).create(name)


def _compare_gold(
    config: Config, here: Path, there: Path, tell: Tell
) -> tuple[dict[str, int], list[Difference]]:
    """Rows of each gold table of the lake, and how those of the restored one differ."""
    load_key(config.data_path)  # made, if there is none: both have the same
    for side in (here, there):
        shutil.copy2(config.data_path / "pii.key", side)
        built = build(msgspec.structs.replace(config, data_dir=str(side)), tell=tell)
    with duckdb.connect() as database:
        for name, side in (("here", here), ("there", there)):
            file = str(Place(side / "warehouse").file).replace("'", "''")
            database.execute(f"ATTACH '{file}' AS {name} (READ_ONLY)")
        found = [
            Difference(f"gold.{table}", how)
            for table in built.rows
            for how in _differences(database, f"here.gold.{table}", f"there.gold.{table}")
        ]
    return built.rows, found


def _differences(database: duckdb.DuckDBPyConnection, here: str, there: str) -> list[str]:
    shapes = [database.sql(f"DESCRIBE FROM {side}").fetchall() for side in (here, there)]
    if shapes[0] != shapes[1]:
        return ["columns or their types differ"]
    ((ours, theirs, missing),) = database.sql(
        f"SELECT (SELECT count(*) FROM {here}), (SELECT count(*) FROM {there}), "
        f"(SELECT count(*) FROM (FROM {here} EXCEPT ALL FROM {there}))"
    ).fetchall()
    extra = theirs - (ours - missing)
    sides = ((missing, "lake", "restored archive"), (extra, "restored archive", "lake"))
    return [f"{count:,} rows of the {a} are not in the {b}" for count, a, b in sides if count]
