"""What came later than the horizon counts once somebody has it merged, as if it had come in time.

The oracle is another lake, in which the same events did come in time.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from built_warehouse import config_of
from command_line import CommandLine
from expired_events import put_letters, quarantine
from warehouse_shop import KEY, MONDAY, Delivery, Shop, put

from dataflows.connectors.lake import LakeError, LakeWriter, lake_files
from services.warehouse import merges
from services.warehouse.build import Report, build
from services.warehouse.database import open_database
from services.warehouse.errors import WarehouseError
from services.warehouse.merges import Choice, Decision, merge, quarantined, unmerge

pytestmark = pytest.mark.slow

TUESDAY, THURSDAY = date(2026, 3, 3), date(2026, 3, 5)
LINEAGE = {"_topic", "_log_partition", "_offset"}
OF_LETTERS = {"silver.stg_dead_letters", "silver.stg_quarantined"}

Tables = dict[str, list[tuple[Any, ...]]]


class Week(NamedTuple):
    """A shop's week: what came in time, and what came later than the horizon."""

    timely: list[Delivery]
    expired: list[Delivery]


def week() -> Week:
    """Of clicks, payments, profiles and products of some days nothing came in time."""
    shop = Shop(31, users=12, clicks=200, payments=60)
    wanted = {
        ("clickstream", "2026-03-03"),
        ("clickstream", "2026-03-04"),
        ("transactions", "2026-03-04"),
        ("customer_profiles", "2026-03-05"),
        ("product_catalog", "2026-03-05"),
    }
    expired = [d for d in shop.deliveries if (d.table, day(d)) in wanted]
    ids = {key_of(d) for d in expired} - {None}
    timely = [d for d in shop.deliveries if key_of(d) not in ids or d.table not in SOURCES]
    expired = [d for d in shop.deliveries if key_of(d) in ids and d.table in SOURCES]
    return Week(timely, [as_expired(d) for d in expired])


SOURCES = {
    "clickstream": "event_id",
    "transactions": "transaction_id",
    "customer_profiles": "event_id",
    "product_catalog": "event_id",
}


def key_of(delivery: Delivery) -> str | None:
    return delivery.document.get(SOURCES.get(delivery.table, ""))


def day(delivery: Delivery) -> str:
    return str(delivery.document.get("event_timestamp", ""))[:10]


def as_expired(delivery: Delivery) -> Delivery:
    """What ingest finds out by itself is not in what a source sends."""
    known = {k: v for k, v in delivery.document.items() if k != "device_class"}
    return replace(delivery, document=known | {"lateness": "expired"})


def new_directory(place: Path) -> Path:
    (place / "lake").mkdir(parents=True)
    (place / "pii.key").write_text(KEY.hex())
    (place / "pii.key").chmod(0o600)
    return place


def tables(directory: Path, without: Iterable[str] = ()) -> Tables:
    """Every row of silver and gold, without some columns."""
    with open_database(directory / "warehouse" / "warehouse.duckdb", read_only=True) as database:
        found = database.execute(
            "SELECT table_schema || '.' || table_name, list(column_name ORDER BY ordinal_position) "
            "FROM information_schema.columns WHERE table_schema IN ('silver', 'gold') GROUP BY 1"
        ).fetchall()
        return {
            name: database.execute(
                f"SELECT {', '.join(c for c in columns if c not in set(without))} "
                f"FROM {name} ORDER BY ALL"
            ).fetchall()
            for name, columns in found
        }


def merge_all(directory: Path, choices: Iterable[Choice]) -> Report:
    for choice in choices:
        assert merge(config_of(directory), choice)
    return build(config_of(directory))


CHOICES = (
    Choice("clickstream", date(2026, 3, 1), date(2026, 3, 31)),
    Choice("transactions", date(2026, 3, 1), date(2026, 3, 31)),
    Choice("customer_profiles", date(2026, 3, 1), date(2026, 3, 31)),
    Choice("product_catalog", date(2026, 3, 1), date(2026, 3, 31)),
)


@pytest.fixture(scope="module")
def quarantined_week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory without a warehouse; part of the week is quarantined. Not to be changed."""
    directory = new_directory(tmp_path_factory.mktemp("expired") / "shop")
    timely, expired = week()
    put(directory / "lake", timely)
    half = len(expired) // 2
    quarantine(directory / "lake", expired[:half])
    quarantine(directory / "lake", expired[half:], partition=1)
    return directory


@pytest.fixture
def directory(quarantined_week: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(quarantined_week, tmp_path / "shop"))


def test_merged_events_count_as_if_they_had_come_in_time(
    directory: Path, tmp_path: Path, in_this_process: None
) -> None:
    config = config_of(directory)
    build(config)
    before = tables(directory)
    timely, expired = week()

    report = merge_all(directory, CHOICES)
    assert report.kind == "changed dates"

    in_time = new_directory(tmp_path / "in-time")
    put(in_time / "lake", [*timely, *expired])
    build(config_of(in_time))
    without = {*LINEAGE, "product_at_the_time", "customer_at_the_time"}
    merged, oracle = tables(directory, without), tables(in_time, without)
    for name in oracle.keys() - OF_LETTERS:
        assert merged[name] == oracle[name], name
    assert merged["silver.stg_quarantined"] == []

    elsewhere = new_directory(tmp_path / "elsewhere")
    shutil.copytree(directory / "lake", elsewhere / "lake", dirs_exist_ok=True)
    assert build(config_of(elsewhere)).kind == "full"
    assert tables(elsewhere) == tables(directory)

    for choice in CHOICES:
        assert unmerge(config, choice)
    build(config)
    assert tables(directory) == before


def test_an_event_is_told_what_held_at_its_time(directory: Path, in_this_process: None) -> None:
    """Against the week's documents, one by one."""
    timely, expired = week()
    merge(config_of(directory), CHOICES[0])
    build(config_of(directory))
    with open_database(directory / "warehouse" / "warehouse.duckdb", read_only=True) as database:
        rows = database.execute(
            "SELECT event_id, product_at_the_time, customer_at_the_time "
            "FROM silver.stg_clickstream WHERE lateness = 'expired'"
        ).fetchall()
    copies = sorted(expired, key=lambda delivery: delivery.arrived_at, reverse=True)
    clicks = {d.document["event_id"]: d.document for d in copies if d.table == "clickstream"}
    assert len(rows) == len(clicks) > 20
    known = Counter[str]()
    for event_id, product, customer in rows:
        click = clicks[event_id]
        products = versions_of(timely, "product_catalog", "product_id", click.get("product_id"))
        if held := as_of(products, click):
            assert json.loads(product)["price"] == held["price"]
            known["product"] += 1
        else:
            assert product is None
        customers = versions_of(timely, "customer_profiles", "user_id", click["user_id"])
        if held := as_of(customers, click):
            expected = {"segment": held["segment"], "country": held["address"]["country"]}
            told = json.loads(customer)
            assert {"segment": told["segment"], "country": told["address"]["country"]} == expected
            known["customer"] += 1
        else:
            assert customer is None
    assert min(known["product"], known["customer"]) > 5


def versions_of(timely: list[Delivery], table: str, key: str, value: Any) -> list[dict[str, Any]]:
    found = [d for d in timely if d.table == table and d.document[key] == value]
    return [d.document for d in sorted(found, key=lambda d: d.arrived_at)]


def as_of(versions: list[dict[str, Any]], click: dict[str, Any]) -> dict[str, Any] | None:
    held = [v for v in versions if v["event_timestamp"] <= click["event_timestamp"]]
    return max(held, key=lambda version: version["event_timestamp"], default=None)


def expected_dates(source: str) -> Counter[date]:
    return Counter(date.fromisoformat(day(d)) for d in week().expired if d.table == source)


def test_what_is_quarantined_is_told_by_source_and_date(directory: Path) -> None:
    config = config_of(directory)
    found = quarantined(config)
    for source in SOURCES:
        told = {day.event_date: day.waiting for day in found if day.source == source}
        assert told == expected_dates(source)
    assert not any(day.merged for day in found)

    decisions = merge(config, Choice("clickstream", TUESDAY, TUESDAY))
    count = expected_dates("clickstream")[TUESDAY]
    assert [(d.event_date, d.action, d.events) for d in decisions] == [(TUESDAY, "merge", count)]
    (tuesday,) = quarantined(config, Choice("clickstream", TUESDAY, TUESDAY))
    assert (tuesday.waiting, tuesday.merged) == (0, count)
    assert tuesday.decided_at == decisions[0].decided_at
    rest = [day for day in found if (day.source, day.event_date) != ("clickstream", TUESDAY)]
    assert [day for day in quarantined(config) if day != tuesday] == rest


def test_nothing_is_merged_twice_and_every_decision_is_kept(directory: Path) -> None:
    config, choice = config_of(directory), Choice("clickstream", TUESDAY, THURSDAY)
    counts = expected_dates("clickstream")
    of_choice = {day: n for day, n in counts.items() if choice.has(day)}
    for _ in range(2):
        assert summary(merge(config, choice)) == {(d, "merge"): n for d, n in of_choice.items()}
        assert merge(config, choice) == []
        assert summary(unmerge(config, choice)) == {(d, "unmerge"): n for d, n in of_choice.items()}
        assert unmerge(config, choice) == []
    kept = rows_of_merges(directory)
    assert kept == 2 * [(action, n) for action in ("merge", "unmerge") for n in of_choice.values()]


def summary(decisions: list[Decision]) -> dict[tuple[date, str], int]:
    return {(decision.event_date, decision.action): decision.events for decision in decisions}


def rows_of_merges(directory: Path) -> list[tuple[str, int]]:
    with open_database(directory / "asked.duckdb") as database:
        return database.execute(
            "SELECT action, events FROM read_parquet(?) ORDER BY _offset",
            [str(directory / "lake" / "merges" / "*" / "*.parquet")],
        ).fetchall()


@pytest.mark.parametrize("command", [merge, unmerge])
def test_a_command_that_is_cut_off_goes_on_where_it_was(
    directory: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    config, choice = config_of(directory), Choice("clickstream", TUESDAY, THURSDAY)
    if command is unmerge:
        merge(config, choice)
    steps = LakeSteps()
    with monkeypatch.context() as patched:
        patched.setattr(merges, "LakeWriter", steps.writer)
        while True:
            try:
                command(config, choice)
                break
            except LakeError:
                steps.allowed += 1
    assert steps.allowed == 3  # two partitions and the decision
    (merged,) = {sum(day.merged for day in quarantined(config, choice))}
    whole = sum(n for day, n in expected_dates("clickstream").items() if choice.has(day))
    assert merged == (whole if command is merge else 0)
    net = sum(n if action == "merge" else -n for action, n in rows_of_merges(directory))
    assert net == merged


class LakeSteps:
    """A lake that takes so many writes, and then no more, for each command."""

    def __init__(self) -> None:
        self.allowed = 0

    def writer(self, *arguments: Any) -> Any:
        if arguments[1] == "merges" and self.allowed < 3:
            self._fail()
        real = LakeWriter(*arguments)
        steps = self

        class Stopping:
            next_offset = real.next_offset

            def write(self, *what: Any) -> None:
                steps.step(arguments)
                real.write(*what)

            def take_back(self, dates: Any) -> int:
                steps.step(arguments)
                return int(real.take_back(dates))

        return Stopping()

    def step(self, arguments: Any) -> None:
        if arguments[1] != "merges" and self.allowed <= int(str(arguments[2])[-1]):
            self._fail()

    def _fail(self) -> None:
        raise LakeError("no room")


def test_what_no_longer_fits_its_contract_stays_and_is_told(directory: Path) -> None:
    config = config_of(directory)
    at = Delivery("late.labels", {"raw_offset": 10**7}, datetime(2026, 4, 1, tzinfo=UTC))
    label = {
        "label_id": "l1",
        "transaction_id": "t1",
        "user_id": "C1",
        "verdict": "fraud",
        "origin": "analyst",
        "event_timestamp": MONDAY.isoformat(),
    }
    put_letters(directory / "lake", "labels", [json.dumps(label).encode()], [at])
    assert label_dates(config) == [(MONDAY.date(), 1)]
    del label["verdict"]
    put_an_older_letter(directory, label)
    assert label_dates(config) == [(MONDAY.date(), 1), (None, 1)]
    (decision,) = merge(config, Choice("labels", MONDAY.date(), THURSDAY))
    assert decision.events == 1
    assert label_dates(config) == [(MONDAY.date(), 0), (None, 1)]


def label_dates(config: Any) -> list[tuple[date | None, int]]:
    return [(day.event_date, day.waiting) for day in quarantined(config) if day.source == "labels"]


def put_an_older_letter(directory: Path, label: dict[str, Any]) -> None:
    """A letter of the same source that was written when its contract asked for less."""
    (file,) = [
        f
        for f in lake_files(directory / "lake", "dead_letters")
        if pq.ParquetFile(f).read().column("topic")[0].as_py() == "raw.labels"
    ]
    letter = pq.ParquetFile(file).read()
    names = letter.schema.names
    for name, value in (("value", json.dumps(label).encode()), ("offset", 10**7 + 1)):
        place = names.index(name)
        letter = letter.set_column(place, letter.schema.field(place), [[value]])
    writer = LakeWriter(directory / "lake", "dead_letters", "dlq.late.1")
    writer.write(letter, np.array(["2026-04-01"], "datetime64[D]"), 0, 1)


def test_there_is_no_such_source(directory: Path) -> None:
    with pytest.raises(WarehouseError, match=r"^'sessions' is no source; there are clickstream"):
        merge(config_of(directory), Choice("sessions", TUESDAY, TUESDAY))


def test_on_bigquery_it_says_that_it_cannot(directory: Path) -> None:
    config = config_of(directory)
    with_dataset = replace_dataset(config)
    for command in (merge, unmerge):
        with pytest.raises(WarehouseError, match=r"works on a lake of files only \(DuckDB\)$"):
            command(with_dataset, Choice("labels", TUESDAY, TUESDAY))


def replace_dataset(config: Any) -> Any:
    bigquery = msgspec.structs.replace(config.bigquery, dataset="p.bronze")
    return msgspec.structs.replace(config, bigquery=bigquery)


def test_the_commands(
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    in_this_process: None,
) -> None:
    run = CommandLine(tmp_path, monkeypatch, capfd)
    dates = ("--source", "clickstream", "--from", "2026-03-03")
    count = expected_dates("clickstream")[TUESDAY]

    listed = run("-d", "shop", "warehouse", "quarantined")
    assert listed.code == 0
    lines = listed.out.splitlines()
    assert lines[0] == "source             event date    waiting     merged  decided"
    assert f"clickstream        2026-03-03  {count:>9}          0" in lines
    assert lines[-1].startswith("`tidegate warehouse merge --source SOURCE")
    told = json.loads(run("-d", "shop", "warehouse", "quarantined", "--json").out)
    (tuesday,) = (
        day for day in told if (day["source"], day["event_date"]) == ("clickstream", "2026-03-03")
    )
    assert (tuesday["waiting"], tuesday["merged"]) == (count, 0)

    merged = run("-d", "shop", "warehouse", "merge", *dates, "--yes")
    assert merged.code == 0, merged
    assert merged.out.splitlines()[:3] == [
        f"Quarantined of clickstream of 2026-03-03: {count} events, to be merged into silver and "
        "gold.",
        f"  2026-03-03  {count:>9}",
        f"Merged: {count} events of clickstream of 2026-03-03.",
    ]
    assert "Built shop/warehouse/warehouse.duckdb" in merged.out

    again = run("-d", "shop", "warehouse", "merge", *dates)
    assert (again.code, again.out) == (0, "Nothing of clickstream of 2026-03-03 is quarantined.\n")

    out = run("-d", "shop", "warehouse", "unmerge", *dates, "--yes")
    assert out.out.splitlines()[0] == (
        f"Merged of clickstream of 2026-03-03: {count} events, to be taken out of silver and gold."
    )
    assert f"Taken out: {count} events of clickstream of 2026-03-03." in out.out

    wrong = run("-d", "shop", "warehouse", "merge", *dates, "--to", "2026-03-01")
    assert wrong.code == 2
    assert "--to 2026-03-01 is before --from 2026-03-03" in wrong.err
