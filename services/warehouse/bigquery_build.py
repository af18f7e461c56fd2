"""Builds the warehouse on BigQuery, in the datasets beside the one that `load` writes.

    what does bronze hold -> which dates -> dbt build -> record -> put in place

dbt builds in datasets of its own, on a copy of the last good tables. Whatever goes wrong there
leaves silver and gold as they were, and is not recorded. What is good is put in place table by
table; where that is cut off, the next build begins by finishing it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from dataflows.contracts import load_contracts
from dataflows.durations import Duration
from dataflows.flows.pseudonyms import load_key
from dataflows.runtime.config import Config
from dataflows.runtime.recovery import Lease
from services.warehouse.bronze import BronzeTable, bronze_tables
from services.warehouse.build import NODES, Kind, Report, complaint
from services.warehouse.changes import Holdings, changed_cells, dates_to_build
from services.warehouse.datasets import LAYERS, Datasets, LastBuild
from services.warehouse.dbt import Dbt, ReadUpTo, Target, Tell
from services.warehouse.dbt_process import Node
from services.warehouse.errors import WarehouseError
from services.warehouse.ledger import fingerprint
from services.warehouse.lineage import Lineage, Made, Places, traced
from services.warehouse.metrics import measured
from services.warehouse.place import Place

BigQueryTarget = Literal["bigquery", "bigquery_dev"]

_NAMES_BEGIN = {"bigquery": "", "bigquery_dev": "dev_"}


def build_on_bigquery(
    config: Config,
    target: BigQueryTarget,
    *,
    full: bool = False,
    tell: Tell = lambda name: None,
) -> Report:
    """Brings silver and gold up to what `load` has written by now: the dates that changed, or all.

    All of them at first, where `full` says so, and where models or contracts have changed.

    Raises:
        LeaseHeld: another build of this data directory is under way.
        ChecksFailed: a test fails.
        WarehouseError: dbt's adapter, the dataset or its tables are missing, or a model fails.
        BigQueryError: no client, no credentials, not allowed, or no answer.
    """
    started, started_at = time.monotonic(), datetime.now(UTC)
    if not config.bigquery.dataset:
        raise WarehouseError(
            "no dataset to build from; name the one of `load`: dataset in [bigquery] of "
            "tidegate.toml"
        )
    if find_spec("dbt.adapters.bigquery") is None:
        raise WarehouseError(
            "building on BigQuery needs dbt's adapter, which is not installed: `pip install "
            "dbt-bigquery` into Tidegate's environment"
        )
    tables = bronze_tables(load_contracts(Path(config.schemas)))
    project = Path(config.warehouse_sql)
    made_with = fingerprint(project, tables)
    place = Place(config.data_path / "warehouse" / target)
    lease = Lease(place.root, "the warehouse", Duration.parse("0s"))
    datasets = None
    nodes: list[Node] = []
    try:
        with measured(place, nodes, target):
            prefix = _NAMES_BEGIN[target] + config.bigquery.warehouse_prefix
            datasets = Datasets(config.bigquery.dataset, prefix)
            datasets.need_tables(tables)
            datasets.publish_if_intended()
            held, last = datasets.holdings(tables), datasets.last_build()
            kind, dates = _what_to_make(datasets, tables, held, last, full, made_with)
            if kind != "unchanged":
                datasets.keep_keys(load_key(config.data_path))
                datasets.start_building(from_last_good=kind == "changed dates")
                lineage = Lineage(config.warehouse.lineage, _places(datasets), place.dbt)
                with traced(lineage):
                    lineage.begin()
                    nodes += Dbt(project, place.dbt, _target(target, datasets)).run(
                        NODES if kind == "changed dates" else (*NODES, "--full-refresh"),
                        dates=dates if kind == "changed dates" else (),
                        read_up_to=read_up_to(tables, held),
                        tell=tell,
                    )
                    if error := complaint(nodes, datasets.name("gold"), _left(datasets)):
                        raise error
                    datasets.intend_to_publish()
                    datasets.record(
                        LastBuild(last.number + 1 if last else 1, made_with, held),
                        kind=kind,
                        started_at=started_at,
                        seconds=time.monotonic() - started,
                        dates=sorted(dates),
                        nodes=nodes,
                    )
                    datasets.publish_if_intended()
                gold = f"{datasets.prefix}gold"
                made = {(gold, name): count for name, count in datasets.gold_rows().items()}
                lineage.complete(Made(made, {}))
            return Report(
                kind=kind,
                lake=config.bigquery.dataset,
                file=datasets.name("gold"),
                dates=sorted(dates),
                seconds=round(time.monotonic() - started, 2),
                models=sum(node.kind == "model" for node in nodes),
                tests=sum(node.kind == "test" for node in nodes),
                warnings=[node for node in nodes if node.status == "warn"],
                rows=datasets.gold_rows(),
            )
    finally:
        if datasets is not None:
            datasets.close()
        lease.release()


def _what_to_make(
    datasets: Datasets,
    tables: dict[str, BronzeTable],
    held: Holdings,
    last: LastBuild | None,
    full: bool,
    made_with: str,
) -> tuple[Kind, set[date]]:
    everything = {day for _, day in held}
    if full or last is None or last.fingerprint != made_with:
        return "full", everything
    changed = changed_cells(last.holdings, held)
    if not changed:
        return "unchanged", set()
    return "changed dates", dates_to_build(datasets.as_bronze, tables, changed, everything)


def read_up_to(tables: Iterable[str], held: Holdings) -> ReadUpTo:
    """Each slot of each table, and how far it is; a table without slots is read as an empty one."""
    ends: dict[str, dict[str, int]] = {table: {} for table in tables}
    for (table, _), slots in held.items():
        for slot, next_offset in slots.items():
            ends[table][slot] = max(ends[table].get(slot, 0), next_offset)
    return {
        table: [(*_topic_and_partition(slot), end) for slot, end in sorted(slots.items())]
        for table, slots in ends.items()
    }


def _topic_and_partition(slot: str) -> tuple[str, int]:
    topic, _, partition = slot.rpartition(".")
    return topic, int(partition)


def _left(datasets: Datasets) -> str:
    return f"the warehouse is as it was; {datasets.building('gold')} has what was built"


def _places(datasets: Datasets) -> Places:
    building, good = datasets.building_prefix, datasets.prefix
    return Places(
        "bigquery",
        "bigquery",
        f"{datasets.project}.{datasets.bronze}.",
        {f"{building}{layer}": f"{good}{layer}" for layer in LAYERS},
    )


def _target(name: BigQueryTarget, datasets: Datasets) -> Target:
    environment = {
        "WAREHOUSE_GCP_PROJECT": datasets.project,
        "WAREHOUSE_GCP_LOCATION": datasets.location,
        "WAREHOUSE_BRONZE": datasets.bronze,
        "WAREHOUSE_PREFIX": datasets.building_prefix,
        "WAREHOUSE_VAULT": f"{datasets.prefix}vault",
    }
    return Target(name, environment)
