"""`tidegate schema` against a BigQuery that answers as the service does: what plan says is what
apply does, and then there is nothing to say."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bigquery_emulator import PROJECT, emulator
from command_line import CommandLine
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from places import COMMAND

from dataflows.runtime.config import HOUSE
from services.schema.dataset import Dataset, Unavailable

NAME = f"{PROJECT}.bronze"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with emulator(tmp_path_factory.mktemp("bigquery")) as started:
        yield started.url


@pytest.fixture
def client(url: str, monkeypatch: pytest.MonkeyPatch) -> bigquery.Client:
    """Of a dataset without tables."""
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
    made = bigquery.Client(PROJECT, credentials=AnonymousCredentials())
    made.delete_dataset(NAME, delete_contents=True, not_found_ok=True)
    made.create_dataset(NAME)
    return made


@pytest.fixture
def tidegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    """Commands on contracts and models of their own."""
    for part in ("schemas", "warehouse_sql"):
        shutil.copytree(HOUSE / part, tmp_path / part)
        monkeypatch.setenv(f"TIDEGATE_{part.upper()}", str(tmp_path / part))
    return CommandLine(tmp_path, monkeypatch, capfd)


def edit(tidegate: CommandLine, **properties: Any) -> dict[str, Any]:
    file = tidegate.directory / "schemas" / "transactions" / "v1.schema.json"
    schema: dict[str, Any] = json.loads(file.read_text())
    schema["properties"] |= properties
    file.write_text(json.dumps(schema))
    return schema


def steps(tidegate: CommandLine) -> list[dict[str, str]]:
    planned = tidegate("schema", "plan", "--bigquery", NAME, "--json")
    assert planned.err == ""
    found = [step for step in json.loads(planned.out)["steps"] if step["place"] == "bigquery"]
    assert planned.code == any(step["do"] == "refuse" for step in found)
    return found


def apply(tidegate: CommandLine) -> str:
    applied = tidegate("schema", "apply", "--bigquery", NAME, "--yes")
    assert (applied.code, applied.err) == (0, "")
    return applied.out


def column(table: bigquery.Table, path: str) -> bigquery.SchemaField:
    names = path.split(".")
    found = {field.name: field for field in table.schema}[names[0]]
    for name in names[1:]:
        found = {field.name: field for field in found.fields}[name]
    return found


def test_tables_are_made_grow_and_are_then_as_planned(
    client: bigquery.Client, tidegate: CommandLine
) -> None:
    sources = [folder.name for folder in (HOUSE / "schemas").iterdir() if folder.is_dir()]
    of_flows = {"sessions", "scores", "alerts", "floods", "incidents", "metrics"}
    of_flows |= {"anomalies", "reprocess_requests", "dead_letters", "merges"}
    assert {step["table"] for step in steps(tidegate)} == {*sources} - {"history"} | of_flows
    assert f"made {NAME}.transactions" in apply(tidegate)
    assert steps(tidegate) == []
    table = client.get_table(f"{NAME}.transactions")
    assert table.time_partitioning.field == "event_date"
    assert table.clustering_fields == ["user_id", "status"]
    assert "stored as a keyed hash" in column(table, "ip_address").description

    coupon = {"type": "string", "description": "The code that was typed"}
    edit(tidegate, coupon=coupon)
    (added,) = steps(tidegate)
    assert (added["do"], added["column"], added["type"]) == ("add", "coupon", "STRING")
    assert f"changed {NAME}.transactions: coupon" in apply(tidegate)
    assert steps(tidegate) == []
    there = column(client.get_table(f"{NAME}.transactions"), "coupon")
    assert (there.field_type, there.mode, there.description) == (
        "STRING",
        "NULLABLE",
        "The code that was typed",
    )
    assert "Nothing to do" in tidegate("schema", "apply", "--bigquery", NAME).out


def test_columns_are_relaxed_widened_and_added_where_they_belong(
    client: bigquery.Client, tidegate: CommandLine
) -> None:
    apply(tidegate)
    file = tidegate.directory / "schemas" / "transactions" / "v1.schema.json"
    schema = json.loads(file.read_text())
    schema["required"].remove("currency")
    line = schema["properties"]["items"]["items"]["properties"]
    line["quantity"]["type"] = "number"
    line["gift"] = {"type": "boolean"}
    file.write_text(json.dumps(schema))
    shop = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    edit(tidegate, shop=shop)
    assert {(step["do"], step["column"]) for step in steps(tidegate)} == {
        ("relax", "currency"),
        ("widen", "items.quantity"),
        ("add", "items.gift"),
        ("add", "shop"),
    }
    apply(tidegate)
    assert steps(tidegate) == []
    table = client.get_table(f"{NAME}.transactions")
    assert column(table, "currency").mode == "NULLABLE"
    assert column(table, "items.quantity").field_type == "FLOAT"
    assert column(table, "shop.id").mode == "REQUIRED"


def test_rows_are_kept_while_their_table_grows(
    client: bigquery.Client, tidegate: CommandLine
) -> None:
    apply(tidegate)
    place = f"`{NAME}.labels`"
    row = "'l1', 't1', 'ada', TIMESTAMP '2026-05-01 00:00:00Z', 'fraud', 'bank', 'raw', 0, 7"
    names = "label_id, transaction_id, user_id, event_timestamp, verdict, origin, _topic"
    run(
        client,
        f"INSERT INTO {place} ({names}, _log_partition, _offset, event_date) "
        f"VALUES ({row}, DATE '2026-05-01')",
    )
    file = tidegate.directory / "schemas" / "labels" / "v1.schema.json"
    schema = json.loads(file.read_text())
    schema["properties"]["why"] = {"type": "string"}
    file.write_text(json.dumps(schema))
    apply(tidegate)
    # The emulator's rows learn of a column by this alone, which on the service does nothing.
    run(client, f"ALTER TABLE {place} ADD COLUMN IF NOT EXISTS why STRING")
    ask = f"SELECT label_id, why, _offset FROM {place} WHERE event_date = '2026-05-01'"
    assert [tuple(found) for found in run(client, ask)] == [("l1", None, 7)]


def run(client: bigquery.Client, sql: str) -> list[Any]:
    return list(client.query(sql, job_retry=None, timeout=20).result(timeout=20))


@pytest.mark.parametrize("lines", [1, 7])
def test_what_a_kill_left_is_finished_by_applying_again(
    lines: int, client: bigquery.Client, tidegate: CommandLine
) -> None:
    file = tidegate.directory / "schemas" / "labels" / "v1.schema.json"
    schema = json.loads(file.read_text())
    schema["properties"]["why"] = {"type": "string"}
    file.write_text(json.dumps(schema))
    command = [*COMMAND, "schema", "apply", "--bigquery", NAME, "--yes"]
    with subprocess.Popen(command, cwd=tidegate.directory, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        done = (line for line in process.stdout if line.startswith((b"made", b"wrote")))
        for _ in range(lines):
            next(done)
        process.kill()
    apply(tidegate)
    assert steps(tidegate) == []
    assert json.loads(tidegate("schema", "plan", "--bigquery", NAME, "--json").out)["to_do"] == 0
    changed = json.loads(tidegate("schema", "history", "labels", "--json").out)[1:]
    assert [[change["place"] for change in entry["changes"]] for entry in changed] == [["why"]]


def test_what_takes_something_away_changes_nothing(
    client: bigquery.Client, tidegate: CommandLine
) -> None:
    apply(tidegate)
    schema = edit(tidegate)
    schema["properties"]["shop_order"] = schema["properties"].pop("order_id")
    file = tidegate.directory / "schemas" / "transactions" / "v1.schema.json"
    file.write_text(json.dumps(schema))
    before = client.get_table(f"{NAME}.transactions").to_api_repr()
    refused = [step for step in steps(tidegate) if step["do"] == "refuse"]
    assert [step["column"] for step in refused] == ["order_id"]
    assert "renamed to shop_order?" in refused[0]["what"]
    applied = tidegate("schema", "apply", "--bigquery", NAME, "--yes")
    assert (applied.code, applied.err) == (1, "")
    assert client.get_table(f"{NAME}.transactions").to_api_repr() == before


def test_a_table_of_somebody_else_keeps_what_is_said_of_it(
    client: bigquery.Client, tidegate: CommandLine
) -> None:
    apply(tidegate)
    client.update_table(
        bigquery.Table.from_api_repr(
            client.get_table(f"{NAME}.labels").to_api_repr() | {"labels": {"team": "fraud"}}
        ),
        ["labels"],
    )
    edit(tidegate, coupon={"type": "string"})
    apply(tidegate)
    assert client.get_table(f"{NAME}.labels").labels == {"team": "fraud"}
    assert steps(tidegate) == []


@pytest.mark.parametrize("name", [f"{PROJECT}.nowhere"])
def test_a_dataset_that_is_not_there_is_named(
    name: str, client: bigquery.Client, tidegate: CommandLine
) -> None:
    refused = tidegate("schema", "plan", "--bigquery", name)
    assert (refused.code, refused.out) == (78, "")
    assert refused.err.count("\n") == 1
    assert f"{name}: there is no such dataset" in refused.err


def test_without_a_name_it_is_the_dataset_of_load(
    client: bigquery.Client, tidegate: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(tidegate("schema", "plan", "--json").out)["bigquery"] is None
    monkeypatch.setenv("TIDEGATE_BIGQUERY_DATASET", NAME)
    assert json.loads(tidegate("schema", "plan", "--json").out)["bigquery"] == NAME


def test_a_service_that_does_not_answer_may_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr("services.schema.dataset._PATIENCE_S", 1.0)
    with pytest.raises(Unavailable, match="does not answer") as caught:
        Dataset(NAME)
    assert caught.value.may_pass
    assert "\n" not in str(caught.value)
