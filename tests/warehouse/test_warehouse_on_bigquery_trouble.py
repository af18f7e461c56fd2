"""What is missing for a build on BigQuery is one line: what, where, what to do; and what is put in
place in part only is put in place by the next build."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from google.api_core.exceptions import Forbidden
from google.cloud import bigquery
from warehouse_places import Warehouse, emulated

from dataflows.connectors.bigquery_client import BigQueryError
from services.warehouse.datasets import LAYERS, Datasets
from services.warehouse.errors import WarehouseError


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with emulated(tmp_path_factory.mktemp("bigquery")) as found:
        yield found


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capfd)


def refused(run: CommandLine, dataset: str) -> str:
    """The one line that a build says as it is refused."""
    (run.directory / "tidegate.toml").write_text(f'[bigquery]\ndataset = "{dataset}"\n')
    done = run("warehouse", "build", "--target", "bigquery")
    assert (done.code, done.out) == (78, ""), done
    assert done.err.count("\n") == 1, done.err
    return done.err.removeprefix("tidegate: ").rstrip("\n")


def test_no_dataset_is_named(run: CommandLine) -> None:
    assert refused(run, "") == (
        "no dataset to build from; name the one of `load`: dataset in [bigquery] of tidegate.toml"
    )


def test_a_name_that_is_no_dataset(run: CommandLine) -> None:
    assert refused(run, "bronze") == (
        "'bronze' is no dataset; write project.dataset, as in shop.bronze"
    )


def test_dbts_adapter_is_not_installed(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dbt.adapters.bigquery", None)
    assert refused(run, "shop.bronze") == (
        "building on BigQuery needs dbt's adapter, which is not installed: `pip install "
        "dbt-bigquery` into Tidegate's environment"
    )


def test_no_credentials(run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    line = refused(run, "shop.bronze")
    assert line.startswith("BigQuery: no credentials (File ")
    assert line.endswith(
        "; `gcloud auth application-default login` makes some, or GOOGLE_APPLICATION_CREDENTIALS "
        "names them"
    )


def test_no_such_dataset(run: CommandLine, emulator: Warehouse) -> None:
    assert refused(run, "test-project.nowhere") == (
        "test-project.nowhere: there is no such dataset in BigQuery; make it where its data shall "
        "live (`bq mk --dataset --location=EU test-project:nowhere`)"
    )


def test_a_dataset_without_tables(run: CommandLine, emulator: Warehouse) -> None:
    emulator.client.create_dataset("test-project.empty", exists_ok=True)
    assert refused(run, "test-project.empty") == (
        "test-project.empty: no tables there yet; `tidegate schema apply --bigquery "
        "test-project.empty` makes them, and `load` fills them"
    )


def test_a_dataset_without_one_table(run: CommandLine, emulator: Warehouse) -> None:
    emulator.create_tables()
    emulator.client.delete_table(f"{emulator.dataset}.labels")
    assert refused(run, emulator.dataset) == (
        "test-project.bronze: no table labels; `tidegate schema apply --bigquery "
        "test-project.bronze` makes them, and `load` fills them"
    )


def test_pseudonyms_of_another_key_are_not_mixed_in(emulator: Warehouse) -> None:
    datasets = Datasets(emulator.dataset, "other_")
    datasets.keep_keys(bytes(32))
    datasets.keep_keys(bytes(32))
    with pytest.raises(WarehouseError) as refusal:
        datasets.keep_keys(bytes(31) + b"\1")
    assert str(refusal.value) == (
        "test-project.other_vault.pseudonym_keys was made of another key than pii.key in the data "
        "directory; build with the data directory of `load`"
    )
    sql = "SELECT COUNT(*) FROM `test-project`.other_vault.pseudonym_keys"
    assert [row.values() for row in emulator.client.query(sql).result()] == [(1,)]
    datasets.close()


def test_who_may_read_the_project_may_not_read_the_keys(emulator: Warehouse) -> None:
    datasets = Datasets(emulator.dataset, "hidden_")
    datasets.keep_keys(bytes(32))
    vault: bigquery.Dataset = emulator.client.get_dataset("test-project.hidden_vault")
    everybody = {"projectReaders", "projectWriters"}
    assert not everybody & {entry.entity_id for entry in vault.access_entries}
    datasets.close()


class Layers:
    """A silver and a gold of one table and two, whose only row says which build has made them."""

    tables = (("silver", "stg_clicks"), ("gold", "dim_users"), ("gold", "fct_clicks"))

    def __init__(self, warehouse: Warehouse, prefix: str):
        self.client = warehouse.client
        self._bronze, self._prefix = warehouse.dataset, prefix
        self.datasets = Datasets(warehouse.dataset, prefix)

    def next_build(self) -> None:
        """Another process builds."""
        self.datasets.close()
        self.datasets = Datasets(self._bronze, self._prefix)

    def buildings(self) -> list[str]:
        """The datasets of builds that are there."""
        names = [dataset.dataset_id for dataset in self.client.list_datasets()]
        return [name for name in names if name.startswith(f"{self._prefix}building_")]

    def build(self, number: int) -> None:
        for layer, table in self.tables:
            self.client.create_dataset(self.datasets.building(layer), exists_ok=True)
            sql = f"CREATE OR REPLACE TABLE `{self.datasets.building(layer)}.{table}` AS SELECT"
            self.client.query(f"{sql} {number} AS build").result()

    def found(self, place: Callable[[str], str]) -> list[int]:
        tables = [f"`{place(layer)}.{table}`" for layer, table in self.tables]
        read = [self.client.query(f"SELECT build FROM {table}").result() for table in tables]
        return [row["build"] for rows in read for row in rows]


@pytest.fixture
def layers(emulator: Warehouse, request: pytest.FixtureRequest) -> Iterator[Layers]:
    made = Layers(emulator, f"{request.node.name.removeprefix('test_')[:40]}_")
    yield made
    made.datasets.close()


def test_only_what_was_found_good_is_put_in_place(layers: Layers) -> None:
    layers.build(1)
    layers.datasets.intend_to_publish()
    layers.datasets.publish_if_intended()
    layers.build(2)
    layers.datasets.publish_if_intended()
    assert layers.found(layers.datasets.name) == [1, 1, 1]
    assert layers.datasets.gold_rows() == {"dim_users": 1, "fct_clicks": 1}


def test_putting_in_place_that_was_cut_off_is_finished(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers.build(1)
    layers.datasets.intend_to_publish()
    layers.datasets.publish_if_intended()
    layers.build(2)
    layers.datasets.intend_to_publish()
    copy, copied = bigquery.Client.copy_table, list[str]()

    def cut_off(self: bigquery.Client, origin: str, target: str, **options: Any) -> Any:
        if len(copied) == 2:
            raise Forbidden("no more today")
        copied.append(target)
        return copy(self, origin, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bigquery.Client, "copy_table", cut_off)
        with pytest.raises(BigQueryError, match="fct_clicks"):
            layers.datasets.publish_if_intended()
    assert layers.found(layers.datasets.name) == [2, 2, 1]
    layers.next_build()
    layers.datasets.publish_if_intended()
    assert layers.found(layers.datasets.name) == [2, 2, 2]
    layers.build(3)
    layers.datasets.publish_if_intended()
    assert layers.found(layers.datasets.name) == [2, 2, 2]


def test_a_build_begins_with_the_last_good_one(layers: Layers) -> None:
    layers.build(1)
    layers.datasets.intend_to_publish()
    layers.datasets.publish_if_intended()
    layers.build(2)  # and fails
    layers.next_build()
    layers.datasets.start_building(from_last_good=True)
    assert layers.found(layers.datasets.building) == [1, 1, 1]
    assert len(layers.buildings()) == len(LAYERS)
    layers.next_build()
    layers.datasets.start_building(from_last_good=False)
    assert layers.buildings() == []
    assert layers.found(layers.datasets.name) == [1, 1, 1]


def test_what_a_killed_build_still_makes_is_no_part_of_the_next(layers: Layers) -> None:
    """BigQuery ends a query that nobody waits for any more."""
    killed = layers.datasets.building("gold")
    layers.build(1)
    layers.next_build()
    layers.datasets.start_building(from_last_good=False)
    layers.build(2)
    layers.client.create_dataset(killed, exists_ok=True)
    layers.client.query(f"CREATE TABLE `{killed}.fct_clicks` AS SELECT 1 AS build").result()
    layers.datasets.intend_to_publish()
    layers.datasets.publish_if_intended()
    assert layers.found(layers.datasets.name) == [2, 2, 2]
    assert layers.buildings() == []
