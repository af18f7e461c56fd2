"""The command on a shop's week with a warehouse: what it prints, exits with, and refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from built_warehouse import Built
from command_line import CommandLine, Outcome
from cost_shop import config_of, put_log
from warehouse_shop import CONTRACTS

from dataflows.runtime.config import HOUSE
from services.cost.warehouse import read_manifest
from services.warehouse.bronze import bronze_tables
from services.warehouse.place import Place

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def shop(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a data directory `shop`: lake, log and warehouse. Not to be changed."""
    directory = tmp_path_factory.mktemp("cost")
    shutil.copytree(built.directory, directory / "shop")
    put_log(config_of(directory / "shop"), built.shop.deliveries)
    return directory


@pytest.fixture
def cost(shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    run = CommandLine(shop, monkeypatch, capfd)
    return lambda *arguments: run("-d", "shop", "cost", *arguments)


def figures(done: Outcome) -> Any:
    assert done.err == ""
    return json.loads(done.out)


def of_part(report: Any, part: str) -> dict[str, float]:
    return {v["of"]: float(v["amount"]) for v in report["volumes"] if v["part"] == part}


def test_what_a_person_reads(cost: Run) -> None:
    done = cost()
    assert (done.code, done.err) == (0, "")
    first, second, *_ = done.out.splitlines()
    assert first == "A day of the traffic of 2026-03-02 to 2026-03-06 on Google Cloud, us-central1:"
    assert second.endswith(f"in USD by {HOUSE / 'config' / 'prices.yaml'}")
    assert "BigQuery queries, 6.25 USD per TiB since 2023-07-05" in done.out
    assert "budget" not in done.out
    assert "!" not in done.out


def test_what_programs_read(cost: Run, built: Built) -> None:
    report = figures(cost("--json"))
    assert float(report["a_day"]) > 0
    assert [day["day"] for day in report["days"]] == [f"2026-03-0{n}" for n in range(2, 7)]
    stored = of_part(report, "storage_active")
    names = "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'gold'"
    full = [name for (name,) in built.rows(names) if built.rows(f"FROM gold.{name} LIMIT 1")]
    gold = {f"gold.{name}" for name in full}
    assert gold <= stored.keys()
    assert {"bronze.clickstream", "silver.stg_clickstream"} <= stored.keys()
    assert of_part(report, "gke_vcpu") == dict.fromkeys(
        ("ingest", "sessionize", "load", "light"), 12.0
    )
    asked = of_part(report, "queries")
    models = {p.stem for p in (HOUSE / "warehouse_sql" / "models").rglob("*.sql")}
    assert models - {"dim_date"} <= asked.keys()
    assert len(asked) > 100  # tests, too
    least = 10 * 2**20 * 96 / 2**40  # of a table, with 96 builds
    assert min(asked.values()) == pytest.approx(least)
    assert {v["source"] for v in report["volumes"] if v["part"] == "queries"} == {
        "columns that models and tests name; one date anew (none measured yet)"
    }


def test_ten_times_the_traffic_is_ten_times_what_is_not_in_whole_pieces(cost: Run) -> None:
    one, ten = figures(cost("--json")), figures(cost("--json", "--scale", "10"))
    assert float(ten["events"]) == pytest.approx(10 * float(one["events"]))
    for part in ("pubsub", "storage_active"):
        before = of_part(one, part)
        assert of_part(ten, part) == pytest.approx({k: 10 * v for k, v in before.items()})
    assert of_part(ten, "gke_vcpu") == of_part(one, "gke_vcpu")
    assert float(ten["a_day"]) < 10 * float(one["a_day"])


@pytest.mark.parametrize(
    ("budget", "code", "says"),
    [
        ("1000", 0, "✓ No day is above 50 % of the budget of 1000 USD a day."),
        ("0.01", 1, "is above 100 % of the budget of 0.01 USD a day"),
        ("0", 0, "In all"),
    ],
)
def test_a_budget_is_kept_or_the_command_says_no(
    budget: str, code: int, says: str, cost: Run
) -> None:
    done = cost("--budget", budget)
    assert (done.code, done.err) == (code, "")
    assert says in done.out


def test_the_configured_budget_counts_and_the_option_wins(
    cost: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_COST_BUDGET_A_DAY", "1")
    report = cost("--json")
    assert report.code == 1
    assert figures(report)["budget"]["alerts"][0]["share"] == "1.0"
    assert cost("--budget", "1000").code == 0


def test_metrics_are_written_beside_what_is_printed(cost: Run, tmp_path: Path) -> None:
    file = tmp_path / "tidegate.prom"
    done = cost("--metrics", file, "--budget", "0.01")
    assert done.code == 1
    assert 'tidegate_cost_a_day{currency="USD",part="queries"}' in file.read_text()


def test_prices_of_ones_own(cost: Run, tmp_path: Path) -> None:
    text = (HOUSE / "config" / "prices.yaml").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(
        text.replace("currency: USD", "currency: EUR").replace("price: 6.25", "price: 0")
    )
    report = figures(cost("--json", "--prices", file))
    assert report["currency"] == "EUR"
    assert {p["part"]: p["a_day"] for p in report["parts"]}["queries"] == "0.000000"


def test_what_is_refused_in_one_line(cost: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("currency: USD\nprices:\n  - part: pubsub\n    cost: 7\n")
    refusals = {
        ("--prices", broken): "broken.yaml:4: prices[0].cost: there is no such field",
        ("--from", "2027-01-01", "--to", "2027-01-02"): "shop/lake: holds no events of 2027-01-01",
        ("--metrics", tmp_path / "nowhere" / "x"): "nowhere/x: cannot be written",
    }
    for arguments, says in refusals.items():
        done = cost(*arguments)
        assert (done.code, done.out) == (78, "")
        assert done.err.count("\n") == 1
        assert says in done.err


def test_days_before_the_first_price_are_refused(cost: Run, tmp_path: Path) -> None:
    text = (HOUSE / "config" / "prices.yaml").read_text()
    file = tmp_path / "later.yaml"
    file.write_text(text.replace("2023-07-05", "2026-03-04"))
    done = cost("--prices", file)
    assert done.code == 78
    assert "later.yaml:33: prices[3].valid_from: the first price of queries" in done.err
    assert cost("--prices", file, "--from", "2026-03-04").code == 0


@pytest.fixture
def copy(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    """For tests that change something."""
    shutil.copytree(shop, tmp_path / "copy")
    return CommandLine(tmp_path / "copy", monkeypatch, capfd)


def test_a_warehouse_that_does_not_say_what_it_asks_is_refused(copy: CommandLine) -> None:
    (copy.directory / "shop" / "warehouse" / "dbt" / "manifest.json").write_text("{")
    done = copy("-d", "shop", "cost")
    assert done.code == 78
    assert "manifest.json: does not say what a build asks" in done.err
    assert "`tidegate warehouse build --full`" in done.err


def test_what_a_build_asks_is_known_after_commands_that_ask_nothing(copy: CommandLine) -> None:
    """`warehouse freshness` leaves a manifest without SQL."""
    scaled = ("-d", "shop", "cost", "--json", "--scale", "100000")
    before = figures(copy(*scaled))
    file = copy.directory / "shop" / "warehouse" / "dbt" / "manifest.json"
    manifest = json.loads(file.read_text())
    for node in manifest["nodes"].values():
        node["compiled_code"] = None
    file.write_text(json.dumps(manifest))
    assert figures(copy(*scaled)) == before
    shutil.rmtree(file.parent / "compiled")
    refused = copy(*scaled)
    assert refused.code == 78
    assert "compiled: has no " in refused.err


def test_dates_that_builds_have_made_anew_are_measured(copy: CommandLine) -> None:
    before = figures(copy("-d", "shop", "cost", "--json", "--scale", "100000"))
    with duckdb.connect(copy.directory / "shop" / "warehouse" / "warehouse.duckdb") as database:
        for dates in (1, 4):
            days = [f"2026-03-0{n + 1}" for n in range(dates)]
            row = (7, "changed dates", "2026-03-09 10:00:00+00", 1.0, days)
            database.execute("INSERT INTO meta.builds VALUES (?, ?, ?, ?, ?)", row)
    after = figures(copy("-d", "shop", "cost", "--json", "--scale", "100000"))
    said = {v["source"] for v in after["volumes"] if v["part"] == "queries"}
    assert said == {"columns that models and tests name; 2.5 dates anew, mean of 2"}
    less, more = (of_part(report, "queries")["stg_clickstream"] for report in (before, after))
    assert less < more < 2.5 * less  # the column by which copies are found is read whole


def test_each_table_that_a_query_reads_is_known(built: Built) -> None:
    """Else it would be billed as empty."""
    place = Place(built.directory / "warehouse")
    manifest = read_manifest(place)
    found = built.rows("SELECT schema_name, table_name FROM duckdb_tables()")
    bronze = {("bronze", name) for name in bronze_tables(CONTRACTS)}
    read = {name for query in manifest.queries(place) for name in query.reads}
    assert read <= {*found, *bronze}
    assert ("silver", "stg_clickstream") in manifest.by_date
    assert ("gold", "dim_users") not in manifest.by_date
