"""Where tests of BigQuery find one: an emulator that fails as told, or a project of yours.

$TIDEGATE_TEST_PROJECT names the project (`make test-gcp PROJECT=...`). Tests make a dataset of
their own there, and remove it afterwards.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bigquery_emulator import PROJECT, emulator
from bigquery_faults import FaultyWriteApi
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import bigquery

from dataflows.contracts import load_contracts
from dataflows.runtime.config import HOUSE
from services.schema.bigquery import wanted_tables
from services.schema.dataset import Dataset

PROJECT_VARIABLE = "TIDEGATE_TEST_PROJECT"


class Warehouse(NamedTuple):
    """A dataset, and what stands between it and Tidegate; nothing on the service itself."""

    client: bigquery.Client
    dataset: str
    faults: FaultyWriteApi | None

    def create(self, table: str, columns: list[dict[str, Any]]) -> None:
        project, name = self.dataset.split(".")
        made = bigquery.Table.from_api_repr(
            {
                "tableReference": {"projectId": project, "datasetId": name, "tableId": table},
                "schema": {"fields": columns},
                "timePartitioning": {"type": "DAY", "field": "event_date"},
                "requirePartitionFilter": True,
            }
        )
        self.client.create_table(made)

    def create_tables(self) -> None:
        """Those of the load flow, empty."""
        dataset = Dataset(self.dataset)
        for name, wanted in wanted_tables(load_contracts(HOUSE / "schemas")).items():
            self.client.delete_table(f"{self.dataset}.{name}", not_found_ok=True)
            dataset.create(name, wanted)

    def rows(self, table: str, columns: str, where: str = "TRUE", order: str = "1") -> list[Any]:
        sql = (
            f"SELECT {columns} FROM `{self.dataset}.{table}` "
            f"WHERE event_date >= '0001-01-01' AND {where} ORDER BY {order}"
        )
        found = self.client.query(sql, job_retry=None, timeout=60).result(timeout=60)
        return [row.values() for row in found]

    def offsets(self, table: str, topic: str) -> list[int]:
        return [offset for (offset,) in self.rows(table, "_offset", f"_topic = '{topic}'")]


@contextmanager
def emulated(directory: Path) -> Iterator[Warehouse]:
    """A dataset of an emulator, for this process and those it starts."""
    with emulator(directory) as started, pytest.MonkeyPatch.context() as environment:
        faults = FaultyWriteApi(started.storage)
        environment.setenv("BIGQUERY_EMULATOR_HOST", started.url)
        environment.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", faults.address)
        client = bigquery.Client(PROJECT, credentials=AnonymousCredentials())
        client.create_dataset(f"{PROJECT}.bronze")
        try:
            yield Warehouse(client, f"{PROJECT}.bronze", faults)
        finally:
            faults.close()


@contextmanager
def real(project: str) -> Iterator[Warehouse]:
    """A new dataset of a project, until the end."""
    try:
        client = bigquery.Client(project)
    except DefaultCredentialsError as error:
        pytest.skip(f"needs credentials for project {project}: {str(error).splitlines()[0]}")
    dataset = f"{project}.tidegate_test_{secrets.token_hex(6)}"
    client.create_dataset(dataset)
    try:
        yield Warehouse(client, dataset, None)
    finally:
        client.delete_dataset(dataset, delete_contents=True)


@contextmanager
def given(directory: Path) -> Iterator[Warehouse]:
    """The project of the environment, or else an emulator."""
    project = os.environ.get(PROJECT_VARIABLE)
    with real(project) if project else emulated(directory) as found:
        yield found
