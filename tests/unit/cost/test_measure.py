"""What is measured, against the records that were put there and what DuckDB counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from cost_shop import DUPLICATES, KEY, RAW, config_of, put_log
from warehouse_shop import Shop, put, put_dead_letters

from dataflows.flows.opening import connect_shop
from dataflows.runtime.config import Config
from services.cost.errors import CostError
from services.cost.measure import chosen_days, measure
from services.cost.volumes import Table, Topic

LAKE = Path("lake")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, list[int]]]:
    """A shop's week in lake and log. Not to be changed."""
    config = config_of(tmp_path_factory.mktemp("shop"))
    deliveries = Shop(1).deliveries
    put(config.lake_path, deliveries)
    return config, put_log(config, deliveries)


@pytest.fixture(scope="module")
def topics(shop: tuple[Config, dict[str, list[int]]]) -> dict[str, Topic]:
    return {topic.name: topic for topic in measure(shop[0]).measured.topics}


def in_lake(lake: Path, table: str, by: str) -> Iterator[tuple[str, date, int]]:
    files = f"{lake}/{table}/*/*.parquet"
    with duckdb.connect() as database:
        yield from database.execute(
            f"SELECT {by}, event_date, count(*) FROM read_parquet(?, hive_partitioning = true, "
            "union_by_name = true) GROUP BY ALL",
            [files],
        ).fetchall()


def test_topics_have_the_records_of_each_date_and_their_size(
    shop: tuple[Config, dict[str, list[int]]], topics: dict[str, Topic]
) -> None:
    config, sizes = shop
    loaded = [topic for topic in sizes if not topic.startswith(("raw", "scoring"))]
    for topic in loaded:
        found = topics[topic]
        table = topic.partition(".")[2] or topic
        rows = {at: n for of, at, n in in_lake(config.lake_path, table, "_topic") if of == topic}
        assert found.records == rows, topic
        assert found.bytes_each == Decimal(sum(sizes[topic])) / len(sizes[topic])
    assert {topic: topics[topic].readers for topic in topics if topic.startswith("events")} == {
        "events.clickstream": 4,  # sessionize, measure, watch and load
        "events.customer_profiles": 2,
        "events.customer_support": 2,
        "events.labels": 2,
        "events.product_catalog": 2,
        "events.transactions": 3,
    }


def test_what_the_lake_does_not_hold_goes_with_its_source(
    shop: tuple[Config, dict[str, list[int]]], topics: dict[str, Topic]
) -> None:
    config, sizes = shop
    for source in ("clickstream", "transactions"):
        raw = topics[f"raw.{source}"]
        assert raw.bytes_each == len(KEY) + len(RAW)
        sent = len(sizes[f"events.{source}"]) + DUPLICATES
        assert round(sum(raw.records.values()), 9) == sent
        events = {at: n for _, at, n in in_lake(config.lake_path, source, "1")}
        shares = {raw.records[at] / n for at, n in events.items()}
        assert max(shares) - min(shares) < Decimal("1e-20")
    asked = topics["scoring.requests"]
    assert round(sum(asked.records.values()), 9) == len(sizes["scoring.requests"])
    assert "late.clickstream" not in topics  # the late flow has counted none


def test_tables_have_rows_by_date(shop: tuple[Config, dict[str, list[int]]]) -> None:
    config, _ = shop
    tables = {table.name: table for table in measure(config).measured.tables}
    for name in ("clickstream", "sessions", "alerts"):
        table: Table = tables["bronze", name]
        assert table.rows == {at: n for _, at, n in in_lake(config.lake_path, name, "1")}
        assert table.widths["event_date"] == 8
        assert table.widths["_offset"] == 8
    assert tables["bronze", "clickstream"].key == "event_id"
    assert ("bronze", "dead_letters") not in tables


def test_dead_letters_are_no_day_of_traffic(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    put_dead_letters(config.lake_path, ["not_json"])
    with pytest.raises(CostError, match=r"lake: holds no events; `tidegate up` loads"):
        measure(config)


def test_without_a_warehouse_it_is_said_that_it_is_not_in(
    shop: tuple[Config, dict[str, list[int]]],
) -> None:
    measured = measure(shop[0]).measured
    assert measured.builds is None
    (note,) = measured.notes
    assert "no warehouse there, so its storage and queries are not in this" in note


def test_it_leaves_nothing_behind(shop: tuple[Config, dict[str, list[int]]]) -> None:
    before = sorted(shop[0].data_path.iterdir())
    measure(shop[0])
    assert sorted(shop[0].data_path.iterdir()) == before


def test_records_that_retention_removed_have_the_size_of_their_rows(tmp_path: Path) -> None:
    config, deliveries = config_of(tmp_path), Shop(1).deliveries
    put(config.lake_path, deliveries)
    put_log(config, deliveries)
    there = connect_shop(config)
    there.log.apply_retention(2**60, {"sessions": 0.0})
    there.log.close()
    measured = measure(config).measured
    (sessions,) = (topic for topic in measured.topics if topic.name == "sessions")
    (table,) = (table for table in measured.tables if table.name == ("bronze", "sessions"))
    assert sessions.bytes_each == table.width > 50
    assert "none left in the log" in sessions.source


def test_another_log_than_the_lakes_is_refused(
    shop: tuple[Config, dict[str, list[int]]], tmp_path: Path
) -> None:
    config = config_of(shop[0].data_path, f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(CostError, match=r"other\.db has had none loaded from it; set bus to the"):
        measure(config)


def test_without_a_lake_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(CostError, match=r"shop/lake: no lake there; `tidegate up` writes one"):
        measure(config_of(tmp_path / "shop"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_broken_is_named(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    put(config.lake_path, Shop(1).deliveries[:200])
    file = sorted(config.lake_path.glob("clickstream/*/*.parquet"))[0]
    file.write_bytes(b"no parquet at all")
    with pytest.raises(CostError) as refused:
        measure(config)
    assert str(refused.value).startswith(f"{file}: cannot be read (")


MAY = date(2026, 5, 1)


def may(*days: int) -> list[date]:
    return [MAY.replace(day=day) for day in days]


@pytest.mark.parametrize(
    ("there", "first", "last", "chosen"),
    [
        (range(1, 20), None, None, range(12, 19)),  # the 19th may not be over
        (range(1, 4), None, None, range(1, 3)),
        ((7,), None, None, (7,)),
        ((1, 9), None, None, (1,)),
        (range(1, 20), 17, None, range(17, 20)),
        (range(1, 20), None, 3, range(1, 4)),
        (range(1, 20), 5, 6, (5, 6)),
        (range(3, 5), 1, 4, range(1, 5)),
    ],
)
def test_days_are_those_asked_for_or_the_last_complete_week(
    there: range, first: int | None, last: int | None, chosen: range
) -> None:
    begin = MAY.replace(day=first) if first else None
    end = MAY.replace(day=last) if last else None
    assert chosen_days(may(*there), begin, end, LAKE) == may(*chosen)


def test_days_without_events_are_refused_with_those_that_have() -> None:
    later = MAY + timedelta(40)
    with pytest.raises(CostError, match=r"it has some of 2026-05-01 to 2026-05-02: choose --from"):
        chosen_days(may(1, 2), later, later, LAKE)
