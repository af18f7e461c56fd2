"""Plan and apply on copies of the project's contracts and models: what each place is told, cut off
anywhere, and what cannot be read."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from dataflows.connectors.lake import LakeWriter
from dataflows.contracts import ContractError, TidegateError, load_contracts
from dataflows.flows.load import LINEAGE
from dataflows.runtime.config import HOUSE, Config
from services.schema.apply import apply
from services.schema.bigquery import Resource, fields, merged
from services.schema.chronicle import chronicle
from services.schema.dataset import Dataset
from services.schema.errors import SchemaError
from services.schema.plan import plan
from services.schema.steps import Plan, Step
from services.schema.terminal import history_lines, plan_lines
from services.warehouse.bronze import bronze_tables, create_bronze
from services.warehouse.sources_yaml import HEAD

TODAY = date(2027, 1, 2)
SOURCES = Path("warehouse_sql", "models", "bronze", "sources.yml")


class Shop(NamedTuple):
    """A place with contracts, models and a lake of its own."""

    directory: Path

    @property
    def config(self) -> Config:
        return Config(
            data_dir=str(self.directory / "data"),
            schemas=str(self.directory / "schemas"),
            warehouse_sql=str(self.directory / "warehouse_sql"),
        )

    def edit(self, source: str, edit: Callable[[dict[str, Any]], object]) -> None:
        file = self.directory / "schemas" / source / "v1.schema.json"
        schema = json.loads(file.read_text())
        edit(schema)
        file.write_text(json.dumps(schema))

    def add_fields(self) -> None:
        """One of each kind that a staging model writes in a way of its own."""
        self.edit("transactions", add_to_transactions)
        declaration = self.directory / "schemas" / "transactions" / "contract.yaml"
        text = declaration.read_text()
        declaration.write_text(text.replace("pii:\n", "pii:\n  coupon: mask\n  note: drop\n"))

    def load(self, source: str, day: str, start: int = 0) -> None:
        """Two rows of a day, with the columns that the contract has now."""
        contract = load_contracts(Path(self.config.schemas))[source]
        whole = pa.schema([*contract.arrow_schema(), *(pa.field(n, t) for n, t in LINEAGE)])
        row = {name: example(whole.field(name).type) for name in whole.names}
        writer = LakeWriter(self.config.lake_path, source, f"events.{source}.0")
        rows = pa.Table.from_pylist([row, row], schema=whole)
        writer.write(rows, np.array([day, day], "datetime64[D]"), start, start + 2)

    def plan(self, dataset: Dataset | None = None) -> Plan:
        return plan(self.config, dataset)

    def apply(self, dataset: Dataset | None = None) -> list[str]:
        said: list[str] = []
        apply(self.config, self.plan(dataset), dataset, TODAY, said.append)
        return said


def example(kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        return {field.name: example(field.type) for field in kind}
    if pa.types.is_list(kind):
        return [example(kind.value_type)]
    if pa.types.is_map(kind):
        return [("k", example(kind.item_type))]
    if pa.types.is_decimal(kind):
        return Decimal(1)
    return pa.scalar(1, pa.int64()).cast(kind).as_py() if kind != pa.string() else "x"


def add_to_transactions(schema: dict[str, Any]) -> None:
    properties = schema["properties"]
    properties["coupon"] = {"type": "string", "description": "The code that was typed"}
    properties["note"] = {"type": "string"}
    properties["tip"] = properties["total_amount"]
    properties["tags"] = {"type": "array", "items": {"type": "string"}}
    properties["labels"] = {"type": "object", "additionalProperties": {"type": "string"}}
    properties["device"]["properties"]["os"] = {"type": "string"}
    properties["items"]["items"]["properties"]["gift"] = {"type": "boolean"}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    for part in ("schemas", "warehouse_sql"):
        shutil.copytree(HOUSE / part, tmp_path / part)
    return Shop(tmp_path)


class Tables(Dataset):
    """A dataset in memory that keeps the promises of `Dataset`; the emulator's tests hold it to
    those."""

    def __init__(self) -> None:
        self.name = "shop.bronze"
        self.held: dict[str, Resource] = {}

    def table(self, name: str) -> Resource | None:
        return self.held.get(name)

    def create(self, name: str, wanted: Resource) -> None:
        self.held.setdefault(name, wanted)

    def change(self, name: str, wanted: Resource) -> None:
        columns = merged(fields(self.held[name]), fields(wanted))
        self.held[name] = {**wanted, "schema": {"fields": columns}}


def told(found: Plan, place: str, do: str) -> list[Step]:
    return [step for step in found.steps if (step.place, step.do) == (place, do)]


# --- what is told --------------------------------------------------------------------------------


def test_the_committed_files_leave_nothing_to_do(shop: Shop) -> None:
    found = shop.plan()
    assert (found.changes, found.refused) == ([], [])
    assert plan_lines(found)[-1] == "Nothing to do: history and dbt have what the contracts say."


def test_a_new_field_is_told_with_all_that_a_reader_needs(shop: Shop) -> None:
    shop.add_fields()
    found = shop.plan(Tables())
    coupon = next(step for step in told(found, "history", "add") if step.column == "coupon")
    assert (coupon.type, coupon.mode, coupon.description, coupon.personal) == (
        "text",
        "optional",
        "The code that was typed",
        "mask",
    )
    columns = {step.column for step in told(found, "dbt", "add")}
    assert columns == {"coupon", "note", "tip", "tags", "labels"}
    assert len(told(found, "bigquery", "create")) == 16
    assert found.refused == []
    shop.apply(tables := Tables())
    shop.edit("labels", lambda schema: schema["properties"].update(why={"type": "string"}))
    (added,) = told(shop.plan(tables), "bigquery", "add")
    assert (added.table, added.column, added.type, added.mode) == (
        "labels",
        "why",
        "STRING",
        "NULLABLE",
    )


def test_each_line_that_a_model_needs_is_told_and_is_right(shop: Shop) -> None:
    shop.add_fields()
    project = shop.directory / "warehouse_sql"
    lines = {}
    for step in told(shop.plan(), "dbt", "by hand"):
        file, _, rest = step.what.partition(", before line ")
        number, _, rest = rest.partition(" (`")
        before, _, line = rest.partition("`), add the line `")
        assert (project / file).read_text().splitlines()[int(number) - 1].strip() == before
        lines[step.column] = (Path(file).stem, line.removesuffix("`"))
    assert lines == {
        "coupon": ("stg_transactions", "coupon,"),
        "tip": ("stg_transactions", "{{ as_money('tip') }} as tip,"),
        "tags": ("stg_transactions", "{{ list_as_json('tags') }} as tags,"),
        "labels": ("stg_transactions", "{{ map_as_json('labels') }} as labels,"),
        "device.os": ("stg_transactions", "events.device.os as device_os,"),
        "items.gift": ("stg_transaction_items", "item.gift as gift,"),
    }
    (never,) = [step for step in told(shop.plan(), "dbt", "itself") if step.column == "note"]
    assert "never stored" in never.what


def test_a_model_that_names_everything_or_the_column_needs_no_line(shop: Shop) -> None:
    shop.edit("labels", lambda schema: schema["properties"].update(why={"type": "string"}))
    file = shop.directory / "warehouse_sql" / "models" / "silver" / "stg_labels.sql"
    text = file.read_text()
    for with_it in (
        text.replace("    note,\n", "    note,\n    why,\n"),
        text[: text.rindex("select")] + "select\n    *\nfrom events\n",
    ):
        file.write_text(with_it)
        assert told(shop.plan(), "dbt", "by hand") == []
        assert any(step.column == "why" for step in told(shop.plan(), "dbt", "itself"))


def test_a_new_source_waits_for_a_model(shop: Shop) -> None:
    schemas = shop.directory / "schemas"
    shutil.copytree(schemas / "labels", schemas / "verdicts")
    file = schemas / "verdicts" / "contract.yaml"
    file.write_text(file.read_text().replace("raw.labels", "raw.verdicts"))
    found = shop.plan(tables := Tables())
    assert [step.table for step in told(found, "history", "create")] == ["verdicts"]
    assert [step.table for step in told(found, "dbt", "create")] == ["verdicts"]
    assert "new-source.md" in told(found, "dbt", "by hand")[0].what
    shop.apply(tables)
    assert shop.plan(tables).changes == []
    assert "verdicts" in (shop.directory / SOURCES).read_text()


def test_the_lake_tells_since_when_a_column_is_there(shop: Shop) -> None:
    shop.load("transactions", "2026-11-01")
    shop.add_fields()
    coupon = [step for step in shop.plan().at("lake") if step.column == "coupon"]
    assert "in none of 1 day (2026-11-01 to 2026-11-01)" in coupon[0].what
    shop.load("transactions", "2026-11-02", start=2)
    coupon = [step for step in shop.plan().at("lake") if step.column == "coupon"]
    assert "in 1 of 2 days, since 2026-11-02" in coupon[0].what


def test_old_files_are_read_with_the_new_columns_untouched(shop: Shop) -> None:
    shop.load("transactions", "2026-11-01")
    before = {file: file.read_bytes() for file in shop.config.lake_path.rglob("*.parquet")}
    shop.add_fields()
    shop.edit(
        "transactions",
        lambda s: s["properties"]["items"]["items"]["properties"]["quantity"].update(type="number"),
    )
    found = shop.plan()
    assert (found.refused, len(told(found, "history", "widen"))) == ([], 1)
    shop.apply()
    shop.load("transactions", "2026-11-02", start=2)
    tables = bronze_tables(load_contracts(Path(shop.config.schemas)))
    with duckdb.connect() as database:
        create_bronze(database, tables, shop.config.lake_path)
        rows = database.execute(
            "SELECT coupon, device.os, items[1].gift, items[1].quantity FROM bronze.transactions "
            "ORDER BY event_date"
        ).fetchall()
    assert [rows[0], rows[-1]] == [(None, None, None, 1.0), ("x", "x", True, 1.0)]
    assert {file: file.read_bytes() for file in before} == before


def test_personal_data_from_now_on_is_no_matter_of_old_files(shop: Shop) -> None:
    file = shop.directory / "schemas" / "transactions" / "contract.yaml"
    file.write_text(file.read_text().replace("pii:\n", "pii:\n  terminal_id: hash\n"))
    shop.load("transactions", "2026-11-01")
    (step,) = told(shop.plan(), "lake", "by hand")
    assert (step.table, step.column) == ("transactions", "terminal_id")
    assert "files before keep it" in step.what


REFUSALS: dict[str, tuple[Callable[[dict[str, Any]], object], str, str]] = {
    "renamed": (
        lambda s: s["properties"].update(shop_order=s["properties"].pop("order_id")),
        "removed; renamed to shop_order?",
        "keep order_id as it is",
    ),
    "removed": (lambda s: s["properties"].pop("order_id"), "removed", "deprecated"),
    "other type": (
        lambda s: s["properties"].update(order_id={"type": "integer"}),
        "type changed from text to integer",
        "order_id_v2",
    ),
    "required": (
        lambda s: s["required"].append("order_id"),
        "required is now true",
        "leave it optional",
    ),
    "narrower": (
        lambda s: s["properties"].update(order_id={"type": "string", "maxLength": 3}),
        "max_length changed",
        "a new source",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_how_to_have_it_instead(shop: Shop, name: str) -> None:
    edit, what, instead = REFUSALS[name]
    shop.edit("transactions", edit)
    found = shop.plan(Tables())
    refusals = told(found, "history", "refuse")
    assert any(what in step.what and instead in step.instead for step in refusals)
    before = {file: file.read_bytes() for file in shop.directory.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="refused"):
        shop.apply(Tables())
    assert {f: f.read_bytes() for f in shop.directory.rglob("*") if f.is_file()} == before


def test_a_source_that_is_gone_is_refused_everywhere(shop: Shop) -> None:
    shutil.rmtree(shop.directory / "schemas" / "labels")
    places = {step.place for step in shop.plan().refused}
    assert places == {"history", "dbt"}


def test_files_of_the_lake_that_no_contract_explains_are_refused(shop: Shop) -> None:
    shop.edit("labels", lambda schema: schema["properties"].update(why={"type": "string"}))
    shop.load("labels", "2026-11-01")
    shop.edit("labels", lambda schema: schema["properties"].pop("why"))
    (step,) = shop.plan().refused
    assert (step.place, step.table, step.column) == ("lake", "labels", "why")


# --- apply ---------------------------------------------------------------------------------------


def test_apply_does_what_plan_says_once(shop: Shop) -> None:
    shop.add_fields()
    tables = Tables()
    said = shop.apply(tables)
    assert [line.split()[0] for line in said] == ["made"] * 16 + ["wrote"] * 3
    found = shop.plan(tables)
    assert (found.changes, found.refused) == ([], [])
    assert shop.apply(tables) == []
    last = chronicle(Path(shop.config.schemas))[-1]
    assert (last.source, last.date) == ("transactions", "2027-01-02")
    assert any("+ coupon: text, optional" in line for line in history_lines([last], whole=False))


class PowerCut(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("dies_at", range(12))
def test_what_was_cut_off_anywhere_is_finished_by_applying_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    shop.apply(tables := Tables())
    shop.add_fields()
    shop.edit("labels", lambda schema: schema["properties"].update(why={"type": "string"}))
    done = 0

    def cut_before(doing: Callable[..., None]) -> Callable[..., None]:
        def do(*arguments: Any) -> None:
            nonlocal done
            if done == dies_at:
                raise PowerCut
            done += 1
            doing(*arguments)

        return do

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", cut_before(os.replace))
        patched.setattr(Tables, "change", cut_before(Tables.change))
        try:
            shop.apply(tables)
        except PowerCut:
            assert shop.plan(tables).refused == []
    assert (done < dies_at) == (dies_at > 7)  # two tables, four files of history, the sources
    shop.apply(tables)
    assert (shop.plan(tables).changes, shop.plan(tables).refused) == ([], [])
    recorded = [
        entry for entry in chronicle(Path(shop.config.schemas)) if entry.date == "2027-01-02"
    ]
    assert [entry.source for entry in recorded] == ["labels", "transactions"]


def test_what_changed_since_the_plan_was_seen_is_not_done(shop: Shop) -> None:
    shop.add_fields()
    seen = shop.plan()
    shop.edit("labels", lambda schema: schema["properties"].pop("note"))
    before = {file: file.read_bytes() for file in shop.directory.rglob("*") if file.is_file()}
    with pytest.raises(SchemaError, match="has changed since"):
        apply(shop.config, seen, None, TODAY, print)
    assert {f: f.read_bytes() for f in shop.directory.rglob("*") if f.is_file()} == before


def test_sources_that_were_written_by_hand_are_left_alone(shop: Shop) -> None:
    file = shop.directory / SOURCES
    file.write_text(file.read_text().removeprefix(HEAD))
    shop.edit("labels", lambda schema: schema["properties"].update(why={"type": "string"}))
    before = file.read_text()
    assert "was not generated" in told(shop.plan(), "dbt", "by hand")[0].what
    shop.apply()
    assert file.read_text() == before
    assert shop.plan().changes == []


def test_a_project_without_generated_sources_is_told_so(shop: Shop) -> None:
    (shop.directory / SOURCES).unlink()
    shop.edit("labels", lambda schema: schema["properties"].update(why={"type": "string"}))
    shop.apply()
    assert not (shop.directory / SOURCES).exists()
    assert "is not there" in told(shop.plan(), "dbt", "itself")[0].what


# --- what cannot be read -------------------------------------------------------------------------


def test_no_lake_yet_is_no_trouble(shop: Shop) -> None:
    (step,) = shop.plan().at("lake")
    assert "is not there yet" in step.what


def break_contract(shop: Shop) -> None:
    (shop.directory / "schemas" / "labels" / "contract.yaml").write_text("version: [")


def break_sources(shop: Shop) -> None:
    (shop.directory / SOURCES).write_text(HEAD + "sources: [")


def empty_sources(shop: Shop) -> None:
    (shop.directory / SOURCES).write_text(HEAD + "version: 2\n")


def break_lake(shop: Shop) -> None:
    shop.load("labels", "2026-11-01")
    (file,) = shop.config.lake_path.rglob("*.parquet")
    file.write_bytes(b"half a file")


def remove_schemas(shop: Shop) -> None:
    shutil.rmtree(shop.config.schemas)


TROUBLE: dict[str, tuple[Callable[[Shop], None], type[TidegateError], str]] = {
    "a contract that is no YAML": (break_contract, ContractError, "contract.yaml: not YAML"),
    "no contracts": (remove_schemas, ContractError, "no such folder of contracts"),
    "sources that are no YAML": (break_sources, SchemaError, "sources.yml: not YAML"),
    "sources that list nothing": (empty_sources, SchemaError, "restore it from git"),
    "a file of the lake that is none": (break_lake, SchemaError, "no Parquet file"),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_what_cannot_be_read_is_named_in_one_line(shop: Shop, name: str) -> None:
    make, kind, says = TROUBLE[name]
    make(shop)
    with pytest.raises(kind, match=says) as caught:
        shop.plan()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["bronze", "shop.", "shop.a-b", "shop.bronze.labels.x y"])
def test_a_dataset_needs_its_project(name: str) -> None:
    with pytest.raises(SchemaError, match=r"write project\.dataset"):
        Dataset(name)


def test_without_googles_client_it_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud", None)
    with pytest.raises(SchemaError, match="pip install google-cloud-bigquery"):
        Dataset("shop.bronze")
