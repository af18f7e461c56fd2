"""Builds the warehouse: beside the last good one, and in its place once every test holds.

    hold the lake -> say which dates -> dbt build -> record -> put in place

Whatever goes wrong before the last step leaves the last good warehouse as it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Literal, NamedTuple

import duckdb
import msgspec

from dataflows.runtime.config import Config
from services.warehouse.bronze import SCHEMA, create_bronze
from services.warehouse.changes import (
    Cell,
    Holdings,
    bronze_views,
    cells_with_late_events,
    changed_cells,
    dates_to_build,
)
from services.warehouse.contents import Contents, contents_of
from services.warehouse.dbt import Tell
from services.warehouse.dbt_process import Node
from services.warehouse.errors import ChecksFailed, WarehouseError
from services.warehouse.failures import keep_failures, kept_failures
from services.warehouse.ledger import Ledger
from services.warehouse.lineage import Made, traced
from services.warehouse.metrics import measured
from services.warehouse.workshop import Workshop, workshop

Kind = Literal["full", "changed dates", "reprocessed", "unchanged", "not asked"]

NODES = ("build", "--exclude-resource-type", "unit_test")


class Report(msgspec.Struct):
    """What a build has done. `dates` are those made anew; `rows` those of each gold table.

    On BigQuery `lake` is the dataset that `load` writes, and `file` the dataset of gold.
    """

    kind: Kind
    lake: str
    file: str
    dates: list[date]
    seconds: float
    models: int = 0
    tests: int = 0
    warnings: list[Node] = []
    rows: dict[str, int] = {}


class Asked(NamedTuple):
    """Dates to be made anew, of one source or of all; both ends included."""

    first: date
    last: date
    source: str | None = None


def build(config: Config, *, full: bool = False, tell: Tell = lambda name: None) -> Report:
    """Brings the warehouse up to what the lake holds now: the dates that changed, or all of them.

    All of them at first, where `full` says so, and where models or contracts have changed.

    Raises:
        LeaseHeld: another build is under way.
        ChecksFailed: a test fails.
        WarehouseError: there is no lake, a file of it is broken, or a model fails.
    """
    with workshop(config) as shop, measured(shop.place, shop.nodes), traced(shop.lineage):
        if full or shop.last_made_with != shop.fingerprint:
            return _build_all(shop, tell)
        shop.copy_last_good()
        with shop.database() as database:
            create_bronze(database, shop.tables, shop.place.lake, shop.config.lake_path)
            changed = changed_cells(Ledger(database).holdings, shop.held)
            if not changed:
                return _report(shop, "unchanged", [], [], _gold_rows(database))
            dates = dates_to_build(bronze_views(database), shop.tables, changed, shop.all_dates)
            requests = _request_count(database)
        nodes = _run(shop, NODES, sorted(dates), tell)
        return _finish(shop, "changed dates", dates, shop.held, nodes, requests)


def reprocess(
    config: Config, asked: Asked | None = None, *, tell: Tell = lambda name: None
) -> Report:
    """Makes the asked dates anew; with None those that the late flow has asked for since.

    Raises:
        LeaseHeld: another build is under way.
        ChecksFailed: a test fails.
        WarehouseError: as `build`; or there is no warehouse yet, or no such source.
    """
    with workshop(config) as shop:
        if shop.last_made_with != shop.fingerprint:
            raise WarehouseError(
                f"{shop.place.file}: no warehouse of these models yet; `tidegate warehouse build` "
                "makes it"
            )
        if asked is not None and asked.source is not None and asked.source not in shop.tables:
            raise WarehouseError(
                f"{asked.source!r} is no table of the lake; there are {', '.join(shop.tables)}"
            )
        with measured(shop.place, shop.nodes), traced(shop.lineage):
            return _reprocess(shop, asked, tell)


def _reprocess(shop: Workshop, asked: Asked | None, tell: Tell) -> Report:
    shop.copy_last_good()
    with shop.database() as database:
        create_bronze(database, shop.tables, shop.place.lake, shop.config.lake_path)
        ledger = Ledger(database)
        before, answered = ledger.holdings, ledger.answered
        if asked is not None:
            cells = _cells(shop, asked)
        else:
            # A request may be in the lake before the events that it speaks of, or after them.
            cells = _requested_cells(database, shop, answered)
            cells |= cells_with_late_events(before, shop.held)
            answered = _request_count(database)
        if not cells:
            return _report(shop, "not asked", [], [], _gold_rows(database))
        dates = _with_what_changed_there(database, shop, cells, before)
    done = {cell: slots for cell, slots in shop.held.items() if cell[1] in dates}
    rest = {cell: slots for cell, slots in before.items() if cell[1] not in dates}
    nodes = _run(shop, NODES, sorted(dates), tell)
    return _finish(shop, "reprocessed", dates, {**rest, **done}, nodes, answered)


def _with_what_changed_there(
    database: duckdb.DuckDBPyConnection, shop: Workshop, cells: set[Cell], before: Holdings
) -> set[date]:
    """The dates of these cells and of what hangs on them. A date is made whole: whatever else has
    changed there, has its own that hang on it."""
    changed = changed_cells(before, shop.held)
    while True:
        dates = dates_to_build(bronze_views(database), shop.tables, cells, shop.all_dates)
        more = {cell for cell in changed if cell[1] in dates} - cells
        if not more:
            return dates
        cells = cells | more


def _requested_cells(
    database: duckdb.DuckDBPyConnection, shop: Workshop, answered: int
) -> set[Cell]:
    """Sources and dates of the requests that no build has answered."""
    rows = database.execute(
        f"SELECT DISTINCT source, event_date FROM {SCHEMA}.reprocess_requests WHERE _offset >= ?",
        [answered],
    ).fetchall()
    return {(source, day) for source, day in rows if source in shop.tables}


def _request_count(database: duckdb.DuckDBPyConnection) -> int:
    """The offset after the last request; their topic has one partition."""
    row = database.execute(
        f"SELECT coalesce(max(_offset) + 1, 0) FROM {SCHEMA}.reprocess_requests"
    ).fetchone()
    return int(row[0]) if row else 0


def _cells(shop: Workshop, asked: Asked) -> set[Cell]:
    days = [asked.first + timedelta(n) for n in range((asked.last - asked.first).days + 1)]
    tables = shop.tables if asked.source is None else [asked.source]
    return {(table, day) for table in tables for day in days}


def _build_all(shop: Workshop, tell: Tell) -> Report:
    with shop.database() as database:
        ledger = Ledger(database)
        if shop.last_made_with is not None:
            ledger.take_history(shop.place.file)
        create_bronze(database, shop.tables, shop.place.lake, shop.config.lake_path)
        requests = _request_count(database)
    nodes = _run(shop, (*NODES, "--full-refresh"), (), tell)
    return _finish(shop, "full", shop.all_dates, shop.held, nodes, requests)


def _run(shop: Workshop, command: Sequence[str], dates: Sequence[date], tell: Tell) -> list[Node]:
    shop.refuse_gaps()
    shop.lineage.begin()
    nodes = shop.dbt.run(command, dates=dates, tell=tell)
    shop.nodes.extend(nodes)
    _complain(shop, nodes)
    return nodes


def _complain(shop: Workshop, nodes: Sequence[Node]) -> None:
    """Raises if a model failed, or a test; what was built is kept for a look."""
    kept = "the warehouse is as it was; `tidegate warehouse query --failed` asks what was built"
    if error := complaint(nodes, str(shop.place.file), kept):
        keep_failures(shop.place.failures, shop.started_at, nodes)
        os.replace(shop.place.scratch, shop.place.failed)
        raise error


def complaint(nodes: Sequence[Node], place: str, left: str) -> WarehouseError | None:
    """What to say if a model failed, or a test; `left` says in what state `place` was left."""
    errors = [node for node in nodes if node.status in ("error", "runtime error")]
    failed = [node for node in nodes if node.status == "fail"]
    if errors:
        worst = errors[0]
        return WarehouseError(f"{worst.file}: {worst.name} failed: {worst.message}; {left}")
    if not failed:
        return None
    names = ", ".join(f"{node.name} ({node.failures} rows)" for node in failed[:5])
    more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
    tests = "test fails" if len(failed) == 1 else "tests fail"
    return ChecksFailed(f"{place}: {len(failed)} {tests}: {names}{more}; {left}")


def _finish(
    shop: Workshop,
    kind: Kind,
    dates: set[date],
    held: Holdings,
    nodes: list[Node],
    answered: int,
) -> Report:
    with shop.database() as database:
        create_bronze(database, shop.tables, shop.config.lake_path)
        ledger = Ledger(database)
        ledger.record_failures(kept_failures(shop.place.failures))
        ledger.record(
            fingerprint=shop.fingerprint,
            holdings=held,
            answered=answered,
            kind=kind,
            started_at=shop.started_at,
            seconds=time.monotonic() - shop.started,
            dates=sorted(dates),
            nodes=nodes,
        )
        rows = _gold_rows(database)
        contents = contents_of(database) if shop.lineage.listens else Contents()
    os.replace(shop.place.scratch, shop.place.file)
    shop.place.failed.unlink(missing_ok=True)
    shop.place.failures.unlink(missing_ok=True)
    shop.lineage.complete(Made(contents.rows, contents.columns))
    return _report(shop, kind, sorted(dates), nodes, rows)


def _gold_rows(database: duckdb.DuckDBPyConnection) -> dict[str, int]:
    names = database.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'gold' ORDER BY 1"
    ).fetchall()
    counts = {}
    for (name,) in names:
        row = database.execute(f'SELECT count(*) FROM gold."{name}"').fetchone()
        counts[name] = row[0] if row else 0
    return counts


def _report(
    shop: Workshop, kind: Kind, dates: list[date], nodes: list[Node], rows: dict[str, int]
) -> Report:
    return Report(
        kind=kind,
        lake=str(shop.config.lake_path),
        file=str(shop.place.file),
        dates=dates,
        seconds=round(time.monotonic() - shop.started, 2),
        models=sum(node.kind == "model" for node in nodes),
        tests=sum(node.kind == "test" for node in nodes),
        warnings=[node for node in nodes if node.status == "warn"],
        rows=rows,
    )
