"""Compares the contracts with every place that keeps events; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dataflows.contracts import Contract, load_contracts
from dataflows.contracts.shapes import walk
from dataflows.runtime.config import Config
from services.schema import bigquery
from services.schema.dataset import Dataset
from services.schema.dbt import model_steps, sources_steps
from services.schema.lake import lake_steps
from services.schema.promises import history_steps
from services.schema.steps import Plan, Step
from services.warehouse.bronze import bronze_tables


def plan(config: Config, dataset: Dataset | None) -> Plan:
    """What separates history, lake, dbt and, if a dataset is given, BigQuery from the contracts.

    Raises:
        ContractError: a contract or its history cannot be read.
        LakeError: the lake cannot be read.
        SchemaError: another place cannot be.
    """
    schemas, project = Path(config.schemas), Path(config.warehouse_sql)
    contracts = load_contracts(schemas)
    tables = bronze_tables(contracts)
    promised = history_steps(schemas, contracts)
    sources = sources_steps(project, tables)
    new = _new_fields(contracts, [*promised, *sources])
    steps = [
        *promised,
        *lake_steps(config.lake_path, tables),
        *_personal_from_now_on(promised),
        *sources,
        *model_steps(project, contracts, new),
    ]
    if dataset is not None:
        for name, wanted in bigquery.wanted_tables(contracts).items():
            personal = contracts[name].pii if name in contracts else {}
            steps += bigquery.table_steps(name, dataset.table(name), wanted, personal)
    return Plan(
        schemas=str(schemas),
        lake=str(config.lake_path),
        warehouse_sql=str(project),
        bigquery=dataset.name if dataset else None,
        steps=steps,
    )


def _new_fields(contracts: Mapping[str, Contract], steps: Sequence[Step]) -> dict[str, list[str]]:
    """The fields that models do not know yet, by source, in the contract's order."""
    new = {source: set[str]() for source in contracts}
    for step in steps:
        if step.table in new and step.do in ("create", "add"):
            new[step.table] |= {step.column}
    found = {}
    for source, columns in new.items():
        paths = [path for path, _ in walk(contracts[source].shape)]
        whole = "" in columns
        found[source] = [
            path for path in paths if whole or path in columns or path.partition(".")[0] in columns
        ]
    return found


def _personal_from_now_on(promised: Sequence[Step]) -> list[Step]:
    return [
        Step(
            place="lake",
            do="by hand",
            table=step.table,
            column=step.column,
            what=f"{step.what}: in rows from then on; files before keep it as it was sent, and to "
            "erase it there is yours",
        )
        for step in promised
        if step.what.startswith("personal data now")
    ]
