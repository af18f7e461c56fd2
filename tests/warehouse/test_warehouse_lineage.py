"""OpenLineage's events of a build: who is told, what of, and that nobody can fail a build."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from built_warehouse import Built, config_of
from warehouse_shop import Shop, put

from dataflows.runtime.config import Config, Warehouse
from services.warehouse.build import build
from services.warehouse.database import open_database
from services.warehouse.dbt import Dbt
from services.warehouse.dbt_process import Node
from services.warehouse.errors import ChecksFailed, WarehouseError

pytestmark = pytest.mark.slow

Event = dict[str, Any]


@pytest.fixture
def directory(built: Built, tmp_path: Path) -> Path:
    """A good warehouse, and a lake that has more since."""
    shop = Path(shutil.copytree(built.directory, tmp_path / "shop"))
    put(shop / "lake", Shop(7, clicks=5, payments=9).of("labels"))
    return shop


def telling(directory: Path, destination: str) -> Config:
    config = config_of(directory)
    return msgspec.structs.replace(config, warehouse=Warehouse(lineage=destination))


def read(file: Path) -> list[Event]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def by_job(events: list[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event["job"]["name"], []).append(event)
    return found


def test_a_build_and_its_models_are_told_with_what_they_are_made_of(
    directory: Path, in_this_process: None
) -> None:
    file = directory / "lineage.jsonl"
    report = build(telling(directory, str(file)), full=True)
    events = read(file)
    for event in events:
        check_form(event)
    of = by_job(events)
    whole = of.pop("warehouse.build")
    assert [event["eventType"] for event in (events[0], events[-1])] == ["START", "COMPLETE"]
    assert whole == [events[0], events[-1]]
    (run_id,) = {event["run"]["runId"] for event in whole}

    manifest = json.loads((directory / "warehouse" / "dbt" / "manifest.json").read_text())
    made = [n for n in manifest["nodes"].values() if n["resource_type"] in ("model", "seed")]
    assert of.keys() == {f"warehouse.build.{n['schema']}.{n['name']}" for n in made}
    for started, ended in of.values():
        assert (started["eventType"], ended["eventType"]) == ("START", "COMPLETE")
        assert instant(whole[0]) <= instant(started) <= instant(ended) <= instant(whole[1])
        assert started["run"]["runId"] == ended["run"]["runId"] != run_id
        assert started["run"]["facets"]["parent"]["run"]["runId"] == run_id

    lake = f"{(directory / 'lake').absolute()}"
    file_of_it = (directory / "warehouse" / "warehouse.duckdb").absolute()
    (_, letters) = of["warehouse.build.silver.stg_dead_letters"]
    assert letters["inputs"] == [dataset("file", f"{lake}/dead_letters")]
    (output,) = of["warehouse.build.gold.fct_daily_summary"][1]["outputs"]
    assert output["namespace"] == f"duckdb://{file_of_it}"
    assert output["name"] == "warehouse.gold.fct_daily_summary"
    names = {given["name"] for given in of["warehouse.build.gold.fct_daily_summary"][1]["inputs"]}
    assert {"warehouse.gold.fct_sessions", "warehouse.gold.fct_transactions"} <= names

    with open_database(file_of_it, read_only=True) as asked:
        for table, rows in report.rows.items():
            (output,) = of[f"warehouse.build.gold.{table}"][1]["outputs"]
            assert output["outputFacets"]["outputStatistics"]["rowCount"] == rows
            fields = output["facets"]["schema"]["fields"]
            columns = asked.execute(f"DESCRIBE gold.{table}").fetchall()
            assert [(f["name"], f["type"]) for f in fields] == [row[:2] for row in columns]


def dataset(namespace: str, name: str) -> Event:
    return {"namespace": namespace, "name": name, "facets": {}, "inputFacets": {}}


def instant(event: Event) -> datetime:
    return datetime.fromisoformat(event["eventTime"])


def check_form(event: Event) -> None:
    """What the specification asks of a run event, and of each facet."""
    assert instant(event).tzinfo is not None
    assert event["schemaURL"].endswith("#/$defs/RunEvent")
    assert event["producer"].startswith("urn:tidegate:")
    UUID(event["run"]["runId"])
    assert event["job"]["namespace"] == "tidegate"
    for facet in facets(event):
        assert facet["_schemaURL"].startswith("https://openlineage.io/spec/")
        assert facet["_producer"] == event["producer"]


def facets(event: Event) -> Iterator[Event]:
    datasets = [*event["inputs"], *event["outputs"]]
    for holder in (event["run"], event["job"], *datasets):
        for kind in ("facets", "inputFacets", "outputFacets"):
            yield from holder.get(kind, {}).values()


def test_a_build_with_nothing_to_do_is_none(built: Built, tmp_path: Path) -> None:
    shop = Path(shutil.copytree(built.directory, tmp_path / "shop"))
    assert build(telling(shop, str(tmp_path / "events"))).kind == "unchanged"
    assert not (tmp_path / "events").exists()


def test_a_failure_is_told_and_that_nothing_was_put_in_place(
    directory: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Dbt.run

    def with_a_failure(self: Dbt, *arguments: Any, **options: Any) -> list[Node]:
        nodes = run(self, *arguments, **options)
        return [*nodes, Node("test", "words_are_known", "fail", 0.5, "f.sql", "Got 3 results", 3)]

    monkeypatch.setattr(Dbt, "run", with_a_failure)
    file = directory / "lineage.jsonl"
    with pytest.raises(ChecksFailed) as failed:
        build(telling(directory, str(file)))
    events = read(file)
    assert events[-1]["eventType"] == "FAIL"
    assert events[-1]["run"]["facets"]["errorMessage"]["message"] == str(failed.value)
    of_models = Counter(event["eventType"] for event in events[1:-1])
    assert of_models["START"] == of_models["ABORT"] == of_models.total() / 2 > 20


def test_a_model_that_fails_says_why(directory: Path, tmp_path: Path) -> None:
    """By dbt as it is: a project of which one model is no SQL."""
    config = telling(directory, str(directory / "lineage.jsonl"))
    project = Path(shutil.copytree(config.warehouse_sql, tmp_path / "project"))
    (project / "models" / "gold" / "fct_support.sql").write_text("select nothing from nowhere")
    with pytest.raises(WarehouseError, match="fct_support failed"):
        build(msgspec.structs.replace(config, warehouse_sql=str(project)))
    of = by_job(read(directory / "lineage.jsonl"))
    started, failed = of["warehouse.build.gold.fct_support"]
    assert (started["eventType"], failed["eventType"]) == ("START", "FAIL")
    assert "nowhere" in failed["run"]["facets"]["errorMessage"]["message"]
    assert of["warehouse.build"][1]["eventType"] == "FAIL"


@contextmanager
def server(status: int) -> Iterator[tuple[str, list[Event]]]:
    """Answers every event with this; its URL, and what it was told."""
    told: list[Event] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/api/v1/lineage"
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}", told
        listening.shutdown()


def test_a_server_is_told_the_same(directory: Path, in_this_process: None) -> None:
    with server(201) as (url, told):
        build(telling(directory, url))
    assert [told[0]["eventType"], told[-1]["eventType"]] == ["START", "COMPLETE"]
    assert len(told) > 40


@pytest.mark.parametrize("trouble", ["refuses", "is down", "no folder"])
def test_who_does_not_listen_fails_no_build_and_is_named_once(
    directory: Path, in_this_process: None, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    with server(400) as (url, told):
        destination = {
            "refuses": url,
            "is down": "http://127.0.0.1:9",
            "no folder": str(directory / "nowhere" / "events"),
        }[trouble]
        assert build(telling(directory, destination)).kind == "changed dates"
    assert len(told) == (trouble == "refuses")
    (line,) = (line for line in caplog.messages if line.startswith("lineage"))
    assert line.startswith(f"lineage: {destination} does not take it, and is told no more: ")


def test_a_destination_that_cannot_be_is_refused(directory: Path) -> None:
    with pytest.raises(WarehouseError, match=r"^\[warehouse\] lineage = 'http://' is no URL"):
        build(telling(directory, "http://"))


def test_the_library_is_asked_for_where_it_is_missing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openlineage.client.transport.file", None)
    with pytest.raises(WarehouseError, match="pip install openlineage-python"):
        build(telling(directory, "events"))
