"""What commands of the warehouse print: for people, and as JSON for programs."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from built_warehouse import Built
from command_line import CommandLine
from warehouse_shop import CONTRACTS

from services.warehouse.build import Report
from services.warehouse.dbt_process import Node
from services.warehouse.terminal import lines


@pytest.fixture
def ask(
    built: Built,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    in_this_process: None,
) -> CommandLine:
    """Commands in a directory with a built warehouse."""
    shutil.copytree(built.directory, tmp_path / "shop")
    return CommandLine(tmp_path, monkeypatch, capfd)


def read(run: CommandLine, code: int, *words: str) -> Any:
    done = run("-d", "shop", "warehouse", *words, "--json")
    assert (done.code, done.err) == (code, ""), done
    return json.loads(done.out)


def test_a_build_as_json(ask: CommandLine) -> None:
    unchanged = read(ask, 0, "build")
    assert unchanged["kind"] == "unchanged"
    report = read(ask, 0, "reprocess", "--from", "2026-03-02", "--source", "alerts")
    assert report["kind"] == "reprocessed"
    assert report["dates"] == ["2026-03-02"]
    assert report["file"] == "shop/warehouse/warehouse.duckdb"
    assert report["models"] == 31
    assert report["rows"] == unchanged["rows"]
    assert read(ask, 0, "reprocess")["kind"] == "not asked"


def test_an_answer_as_json(ask: CommandLine) -> None:
    sql = "SELECT 1 AS n, 2.50 AS money, DATE '2026-03-02' AS day, NULL AS nothing, [1] AS list"
    row = {"n": 1, "money": "2.50", "day": "2026-03-02", "nothing": None, "list": [1]}
    assert read(ask, 0, "query", sql) == [row]


def test_freshness_as_json_says_what_is_old(ask: CommandLine) -> None:
    sources = read(ask, 1, "freshness")
    assert {source["name"]: source["status"] for source in sources} == dict.fromkeys(
        CONTRACTS, "error"
    )
    assert all(source["age_seconds"] > 72 * 3_600 for source in sources)


def test_docs_as_json_say_where_the_page_is(ask: CommandLine) -> None:
    page = Path(read(ask, 0, "docs")["page"])
    text = page.read_text("utf-8")
    for part in ("fct_user_journey", "The version that held", "stg_clickstream", "bronze"):
        assert part.lower() in text.lower()


def test_an_answer_is_a_table(ask: CommandLine) -> None:
    done = ask("-d", "shop", "warehouse", "query", "SELECT 'a[b]' AS name, 12 AS n, NULL AS x")
    assert done.out == "name   n  x\na[b]  12   \n(1 row)\n"


def test_what_a_build_says() -> None:
    warning = Node("test", "dead_letters_are_few", "warn", 0.1, "f", "Got 3 results")
    report = Report(
        kind="changed dates",
        lake="lake",
        file="warehouse.duckdb",
        dates=[date(2026, 3, 2), date(2026, 3, 4)],
        seconds=8.6,
        models=2,
        tests=3,
        warnings=[warning],
        rows={"dim_date": 365, "fct_events": 12_345},
    )
    assert lines(report) == [
        "Built warehouse.duckdb in 9 s from lake:",
        "2 dates, 2026-03-02 to 2026-03-04, those that changed.",
        "",
        "  dim_date            365",
        "  fct_events       12,345",
        "",
        "✓ 2 models, 2 tests hold",
        "! dead_letters_are_few: Got 3 results",
    ]
