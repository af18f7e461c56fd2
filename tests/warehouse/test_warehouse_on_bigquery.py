"""One set of models, two engines: from what the real sink wrote, gold on BigQuery is what DuckDB
makes of the same log, row by row; some dates made anew are what a whole build makes; and a build
that fails leaves the last good warehouse.

An emulator by default, the service by `make test-gcp PROJECT=...`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from flow_bench import Bench
from warehouse_places import Warehouse, given

from dataflows.flows.pseudonyms import load_key
from dataflows.runtime.config import Config
from dataflows.runtime.recovery import reset_recovery
from services.warehouse.bigquery_build import BigQueryTarget, build_on_bigquery
from services.warehouse.build import Report, build
from services.warehouse.database import open_database
from services.warehouse.datasets import Datasets
from services.warehouse.dbt import Tell
from services.warehouse.errors import ChecksFailed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FLOWS = ("ingest", "sessionize", "features", "score", "watch", "late")
DAYS = 5
LATE, LABELLED_ON = date(2026, 3, 3), date(2026, 3, 5)

Gold = dict[str, Counter[tuple[Any, ...]]]


@dataclass(frozen=True)
class BigQueryShop:
    """A shop whose load flow writes BigQuery, and a place for its warehouses on DuckDB."""

    warehouse: Warehouse
    directory: Path

    @property
    def config(self) -> Config:
        with self.opened() as bench:
            return bench.shop.config

    def opened(self) -> OpenBench:
        prefix = self.warehouse.dataset.partition(".")[2] + "_"
        return OpenBench(
            self.directory / "shop",
            **{"bigquery.dataset": self.warehouse.dataset, "bigquery.warehouse_prefix": prefix},
        )

    def build(
        self,
        target: BigQueryTarget = "bigquery",
        full: bool = False,
        tell: Tell = lambda name: None,
    ) -> Report:
        return build_on_bigquery(self.config, target, full=full, tell=tell)

    def gold(self, report: Report) -> Gold:
        """Every row of the tables that a build has made."""
        found = {}
        for table in report.rows:
            place = f"{report.file}.{table}"
            columns = [column.name for column in self.warehouse.client.get_table(place).schema]
            days = "WHERE event_date >= '1970-01-01'" if "event_date" in columns else ""
            rows = self.warehouse.client.query(f"SELECT * FROM `{place}` {days}").result()
            found[table] = counted(columns, [row.values() for row in rows])
        return found

    def gold_on_duckdb(self, name: str) -> Gold:
        """What the lake that is loaded from a copy of the log comes to."""
        directory = shutil.copytree(self.directory / "shop", self.directory / name)
        with OpenBench(directory) as bench:
            for slot in bench.shop.slots("load"):
                reset_recovery(bench.shop.config.state_path / slot.name)
            bench.run("load")
        report = build(bench.shop.config)
        with open_database(Path(report.file), read_only=True) as database:
            found = {}
            for table in report.rows:
                rows = database.sql(f'FROM gold."{table}"')
                found[table] = counted(rows.columns, rows.fetchall())
        return found

    def publish_late(self) -> None:
        """Of the day `LATE` a click and a payment, and the label of a payment; loaded as well."""
        with self.opened() as bench:
            click, payment = (some_day(bench, f"raw.{n}") for n in ("clickstream", "transactions"))
            label = {
                "label_id": "late label",
                "transaction_id": payment["transaction_id"],
                "user_id": payment["user_id"],
                "verdict": "fraud",
                "origin": "analyst",
                "event_timestamp": f"{LABELLED_ON}T12:00:00Z",
            }
            publish(bench, "raw.clickstream", click | {"event_id": "late click"})
            publish(bench, "raw.transactions", payment | {"transaction_id": "late payment"})
            publish(bench, "raw.labels", label)
            bench.run(*FLOWS, "load")

    def publish_wrong(self) -> str:
        """A payment that is not the sum of its items; loaded as well. What it should be."""
        with self.opened() as bench:
            payments = [json.loads(r.value or b"{}") for r in bench.records("events.transactions")]
            payment = next(payment for payment in payments if payment.get("items"))
            wrong = {"transaction_id": "wrong payment", "total_amount": "0.01"}
            publish(bench, "events.transactions", payment | wrong)
            bench.run("load", topic="events.transactions")
            return str(payment["total_amount"])

    def mend(self, total: str) -> None:
        """Says in bronze what that payment should have been."""
        self.warehouse.client.query(
            f"UPDATE `{self.warehouse.dataset}.transactions` SET total_amount = {total} "
            "WHERE event_date >= '1970-01-01' AND transaction_id = 'wrong payment'"
        ).result()

    def payments(self, dataset: str) -> list[tuple[Any, ...]]:
        """How many payments there are in a gold, and what the wrong one is."""
        rows = self.warehouse.client.query(
            "SELECT COUNT(*), MAX(IF(transaction_id = 'wrong payment', total_amount, NULL)) "
            f"FROM `{dataset}.fct_transactions` WHERE event_date >= '1970-01-01'"
        ).result()
        return [row.values() for row in rows]


class OpenBench(Bench):
    """A bench that lets its log go."""

    def __enter__(self) -> OpenBench:
        return self

    def __exit__(self, *error: object) -> None:
        self.log.close()


@dataclass(frozen=True)
class Builds:
    """The builds that tests look at, each made once: before late events, and after them."""

    shop: BigQueryShop

    @cached_property
    def before(self) -> tuple[Report, Gold, Gold]:
        """The first build on BigQuery, its gold, and that of DuckDB."""
        report = self.shop.build()
        return report, self.shop.gold(report), self.shop.gold_on_duckdb("before")

    @cached_property
    def meanwhile(self) -> Gold:
        """What a build comes to that began before late events were loaded, and read after it."""
        held = self.shop_holdings()
        self.shop.publish_late()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Datasets, "holdings", lambda self, tables: held)
            return self.shop.gold(self.shop.build("bigquery_dev"))

    @cached_property
    def after(self) -> tuple[Report, Gold, Gold]:
        """The second build, of some dates, its gold, and that of DuckDB, of all of them."""
        _ = self.before, self.meanwhile
        report = self.shop.build()
        return report, self.shop.gold(report), self.shop.gold_on_duckdb("after")

    def shop_holdings(self) -> Any:
        _ = self.before
        datasets = Datasets(self.shop.warehouse.dataset, "")
        try:
            return datasets.holdings(self.tables)
        finally:
            datasets.close()

    @property
    def tables(self) -> list[str]:
        client = self.shop.warehouse.client
        return [table.table_id for table in client.list_tables(self.shop.warehouse.dataset)]


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builds]:
    directory = tmp_path_factory.mktemp("shop")
    with given(directory) as warehouse:
        warehouse.create_tables()
        shop = BigQueryShop(warehouse, directory)
        with shop.opened() as bench:
            load_key(bench.shop.config.data_path)
            bench.simulate(days=DAYS, events=2_500, reference=True)
            bench.run(*FLOWS, "load")
        try:
            yield Builds(shop)
        finally:
            name = warehouse.dataset.partition(".")[2]
            for dataset in list(warehouse.client.list_datasets()):
                if dataset.dataset_id.startswith((f"{name}_", f"dev_{name}_")):
                    warehouse.client.delete_dataset(dataset.reference, delete_contents=True)


def test_gold_is_what_duckdb_makes_of_the_same_log(builds: Builds) -> None:
    report, on_bigquery, on_duckdb = builds.before
    assert report.kind == "full"
    assert report.rows == {table: rows.total() for table, rows in on_duckdb.items()}
    assert min(report.rows.values()) > 0
    same(on_bigquery, on_duckdb)


def test_what_is_loaded_during_a_build_waits_for_the_next(builds: Builds) -> None:
    _, before, _ = builds.before
    same(builds.meanwhile, before)


def test_the_dates_of_late_events_made_anew_are_what_a_whole_build_makes(builds: Builds) -> None:
    report, on_bigquery, on_duckdb = builds.after
    assert report.kind == "changed dates"
    assert {LATE, LABELLED_ON} <= set(report.dates)
    assert date(2026, 3, 4) not in report.dates
    late = {row for row in on_bigquery["fct_events"] if {"late click", "late payment"} & {*row}}
    assert len(late) == 2
    same(on_bigquery, on_duckdb)
    whole = builds.shop.build("bigquery_dev", full=True)
    assert whole.kind == "full"
    same(on_bigquery, builds.shop.gold(whole))


def test_with_nothing_new_nothing_is_built(builds: Builds) -> None:
    report, on_bigquery, _ = builds.after
    again = builds.shop.build()
    assert (again.kind, again.models, again.rows) == ("unchanged", 0, report.rows)
    same(builds.shop.gold(again), on_bigquery)


def test_the_warehouse_says_what_it_was_made_of(builds: Builds) -> None:
    report, _, _ = builds.after
    meta = report.file.replace("_gold", "_meta")
    rows = builds.shop.warehouse.client.query(
        f"SELECT kind, ARRAY_LENGTH(dates) FROM `{meta}.builds` ORDER BY build_id"
    ).result()
    kinds = [row.values() for row in rows]
    first, _, _ = builds.before
    assert kinds == [("full", len(first.dates)), ("changed dates", len(report.dates))]


def test_a_build_that_fails_leaves_the_last_good_one(builds: Builds) -> None:
    """Whoever asks meanwhile is told what it says; once it is mended it is built."""
    report, _, _ = builds.after
    shop, before = builds.shop, builds.shop.gold(report)
    total, told = shop.publish_wrong(), set()

    def ask(node: str) -> None:
        if node.startswith(("dim_", "fct_", "items_")):
            told.update(shop.payments(report.file))

    with pytest.raises(ChecksFailed) as failure:
        shop.build(tell=ask)
    said = re.fullmatch(
        rf"{report.file}: 1 test fails: items_add_up_to_their_payment \(1 rows\); the warehouse is "
        r"as it was; (\S+_building_\S+_gold) has what was built",
        str(failure.value),
    )
    assert said, failure.value
    assert told == {(before["fct_transactions"].total(), None)}
    same(shop.gold(report), before)
    assert shop.payments(said[1]) == [
        (before["fct_transactions"].total() + 1, Decimal("0.01")),
    ]
    shop.mend(total)
    assert shop.build().kind == "changed dates"
    assert shop.payments(report.file) == [
        (before["fct_transactions"].total() + 1, Decimal(total)),
    ]


def same(found: Gold, wanted: Gold) -> None:
    assert found.keys() == wanted.keys()
    for table in wanted:
        more, fewer = found[table] - wanted[table], wanted[table] - found[table]
        assert not more, f"{table}: {more.total()} rows, as {next(iter(more))}"
        assert not fewer, f"{table}: {fewer.total()} rows are missing, as {next(iter(fewer))}"


def counted(columns: list[str], rows: list[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    """Rows by the names of their columns; BigQuery does not tell no list from an empty one."""
    order = sorted(range(len(columns)), key=columns.__getitem__)
    return Counter(tuple(comparable(columns[place], row[place]) for place in order) for row in rows)


def comparable(column: str, value: Any) -> Any:
    if column not in ("tags", "attributes", "reasons"):
        return value
    return json.dumps(json.loads(value or "null") or None, sort_keys=True)


def some_day(bench: Bench, topic: str) -> dict[str, Any]:
    """What was published of the day `LATE`."""
    for record in bench.records(topic):
        document: dict[str, Any] = json.loads(record.value or b"{}")
        if str(document.get("event_timestamp")).startswith(str(LATE)):
            return document
    raise AssertionError(f"nothing in {topic} is of {LATE}")


def publish(bench: Bench, topic: str, document: dict[str, Any]) -> None:
    bench.publish(topic, [json.dumps(document).encode()])
