"""Does what a plan says, in an order in which every moment is a sound one.

    BigQuery -> what was accepted -> dbt's sources

A table has a column before anybody is promised that it may be sent, and models may only speak of
what is there. Each step is whole or not done, and is done once however often it is asked for, so
that what was cut off anywhere is finished by applying again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

from dataflows.contracts import accept, load_contracts
from dataflows.runtime.config import Config
from services.schema.bigquery import Resource, wanted_tables
from services.schema.dataset import Dataset
from services.schema.dbt import SOURCES, write_sources
from services.schema.errors import SchemaError
from services.schema.plan import plan as compare
from services.schema.steps import Plan, changes
from services.warehouse.bronze import bronze_tables

Tell = Callable[[str], None]


def apply(config: Config, plan: Plan, dataset: Dataset | None, today: date, tell: Tell) -> None:
    """Does the changes of a plan in which nothing is refused; `tell` hears of each that is done.

    Raises:
        ValueError: something is refused.
        SchemaError: something has changed since the plan was made; or a place does not take it,
            and those before it have theirs.
    """
    if plan.refused:
        raise ValueError("a plan in which something is refused cannot be applied")
    if compare(config, dataset).steps != plan.steps:
        raise SchemaError(
            f"{plan.schemas}, or a place, has changed since the plan was made; look at it again, "
            "nothing was done"
        )
    schemas = Path(config.schemas)
    contracts = load_contracts(schemas)
    if dataset is not None:
        _change_bigquery(plan, dataset, wanted_tables(contracts), tell)
    for file in accept(schemas, today):
        tell(f"wrote {file}")
    if changes(plan.at("dbt")):
        write_sources(Path(config.warehouse_sql), bronze_tables(contracts))
        tell(f"wrote {Path(config.warehouse_sql) / SOURCES}")


def _change_bigquery(plan: Plan, dataset: Dataset, wanted: dict[str, Resource], tell: Tell) -> None:
    steps = changes(plan.at("bigquery"))
    for table in dict.fromkeys(step.table for step in steps):
        of_table = [step for step in steps if step.table == table]
        if of_table[0].do == "create":
            dataset.create(table, wanted[table])
            tell(f"made {dataset.name}.{table}")
        else:
            dataset.change(table, wanted[table])
            columns = dict.fromkeys(step.column for step in of_table if step.column)
            tell(f"changed {dataset.name}.{table}" + (f": {', '.join(columns)}" if columns else ""))
