"""The archive's commands: what they do, and what a person and a program read of it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from archived_shop import ArchivedShop, rows
from built_warehouse import Built, config_of
from warehouse_shop import Shop, put

from dataflows.connectors.lake import LakeWriter, lake_gaps, lake_progress
from services.warehouse.build import build

pytestmark = pytest.mark.slow

TABLES = (
    *("alerts", "clickstream", "customer_profiles", "customer_support", "incidents", "labels"),
    *("product_catalog", "scores", "sessions", "transactions"),
)
FIGURE = re.compile(r"\d[\d,.]*( [kMG]B)?")


def shape(said: str) -> list[str]:
    """Lines with figures as `#`."""
    return [" ".join(FIGURE.sub("#", line).split()) for line in said.splitlines()]


def test_there_and_back(archived: ArchivedShop) -> None:
    assert shape(archived("export", "backup")) == [
        "Exported # days of tables, # rows, #, to backup in # s."
    ]
    assert archived("export", "backup") == (
        "backup is as it was: nothing has changed in shop/lake.\n"
    )
    assert shape(archived("list", "backup"))[0] == (
        "alerts #-#-# to #-#-# # days # rows # # older versions"
    )
    assert [line.split()[0] for line in archived("list", "backup").splitlines()] == [*TABLES]
    assert shape(archived("verify", "backup")) == [
        "✓ backup: # versions, # files, #, # rows read back in # s, as they were written."
    ]
    assert shape(archived("drill", "backup")) == [
        "✓ backup is shop/lake, row for row:",
        "# days of tables, # rows of # log records, restored in # s",
        "The drill took # s.",
    ]
    assert shape(archived("restore", "backup", "--into", "back/lake")) == [
        "Restored # days of tables, # rows, to back/lake in # s, each as its manifest says."
    ]
    back = archived.directory / "back" / "lake"
    for table in TABLES:
        assert rows(back, table) == rows(archived.lake, table)
        assert lake_progress(back, table) == lake_progress(archived.lake, table)
        assert lake_gaps(back, table) == []
    assert sorted(path.name for path in back.iterdir()) == [*TABLES]


def test_what_programs_read(archived: ArchivedShop) -> None:
    count = sum(len(rows(archived.lake, table)) for table in TABLES)
    days = len(list(archived.lake.glob("*/event_date=*")))
    exported = archived.json("export", "backup")
    assert len(exported["exported"]) == days
    assert sum(day["rows"] for day in exported["exported"]) == count
    listed = archived.json("list", "backup", "transactions")
    assert {day["contract"] for day in listed} == {"v1"}
    assert [day["event_date"] for day in listed] == [f"2026-03-0{n}" for n in range(2, 8)]
    assert sum(day["rows"] for day in listed) == len(rows(archived.lake, "transactions"))
    spans = [(span["topic"], span["first"]) for span in listed[0]["lineage"]]
    assert ("events.transactions", 0) in spans
    verified = archived.json("verify", "backup")
    assert (verified["versions"], verified["rows"], verified["problems"]) == (days, count, [])
    drilled = archived.json("drill", "backup")
    assert (drilled["days"], drilled["rows"], drilled["differences"]) == (days, count, [])
    restored = archived.json("restore", "backup", "--into", "back")
    assert sum(day["rows"] for day in restored["restored"]) == count


def test_late_events_make_a_new_version_of_their_days(archived: ArchivedShop) -> None:
    archived("export", "backup")
    put(archived.lake, Shop(2).deliveries[:40])
    late = archived("export", "backup", "clickstream")
    assert "new versions" not in late
    assert re.search(r"^  clickstream 2026-03-02: version 2, [\d,]+ rows$", late, re.MULTILINE)
    versions = archived("list", "backup", "clickstream").splitlines()
    assert [line.split()[3] for line in versions[:2]] == ["1", "2"]
    archived("restore", "backup", "clickstream", "--into", "back")
    assert rows(archived.directory / "back", "clickstream") == rows(archived.lake, "clickstream")


def test_some_days_of_some_tables(archived: ArchivedShop) -> None:
    span = ("--from", "2026-03-03", "--to", "2026-03-04")
    exported = archived.json("export", "backup", "alerts", "labels", "alerts", *span)["exported"]
    assert [(day["table"], day["event_date"]) for day in exported] == [
        ("alerts", "2026-03-03"),
        ("alerts", "2026-03-04"),
        ("labels", "2026-03-03"),
        ("labels", "2026-03-04"),
    ]
    drilled = archived.json("drill", "backup", "alerts", *span)
    assert (drilled["days"], drilled["differences"]) == (2, [])
    assert "Restored 1 day of a table," in archived(
        "restore", "backup", "alerts", "--from", "2026-03-04", "--into", "back"
    )


def test_a_drill_finds_what_is_not_the_lake(archived: ArchivedShop) -> None:
    archived("export", "backup", "alerts")
    file = archived.file("shop/lake/alerts/event_date=2026-03-04/*.parquet")
    found = pq.ParquetFile(file).read()
    changed = found.set_column(
        found.column_names.index("severity"), "severity", [["none"] * len(found)]
    )
    pq.write_table(changed, file)
    put(archived.lake, [d for d in Shop(2).deliveries if d.topic == "alerts"][:1])
    said = archived.fails_check("drill", "backup", "alerts")
    count = len(found)
    assert f"✗ alerts 2026-03-04: {count} rows of the lake are not in the restored archive" in said
    assert f"✗ alerts 2026-03-04: {count} rows of the restored archive are not in the lake" in said
    assert "`tidegate archive export backup` archives what has changed since." in said
    archived("export", "backup", "alerts")
    archived("drill", "backup", "alerts")


def test_a_lake_that_is_lost_goes_on_from_the_archive(archived: ArchivedShop) -> None:
    """And what is loaded again from there is what it was."""
    archived("export", "backup")
    more = Shop(2).deliveries
    put(archived.lake, more)
    whole = {table: rows(archived.lake, table) for table in TABLES}
    shutil.rmtree(archived.lake)
    archived("restore", "backup")
    slots = lake_progress(archived.lake, "alerts")
    assert LakeWriter(archived.lake, "alerts", "alerts.0").next_offset == (
        slots["alerts.0"].next_offset
    )
    put(archived.lake, more)
    assert {table: rows(archived.lake, table) for table in TABLES} == whole


def test_gold_of_both_sides_is_the_same(archived: ArchivedShop) -> None:
    archived("export", "backup")
    drilled = archived.json("drill", "backup", "--warehouse")
    assert drilled["differences"] == []
    assert drilled["gold"]["fct_events"] > 1000
    assert not (archived.directory / "shop" / "archive" / "scratch").exists()


@pytest.mark.usefixtures("in_this_process")
def test_the_warehouse_of_a_restored_lake_is_the_one_there_was(
    built: Built, archived: ArchivedShop, tmp_path: Path
) -> None:
    shutil.copytree(built.directory / "lake", archived.lake, dirs_exist_ok=True)
    archived("export", "backup")
    archived("restore", "backup", "--into", "back/lake")
    shutil.copy(built.directory / "pii.key", archived.directory / "back")
    report = build(config_of(archived.directory / "back"))
    assert report.rows == {
        name: built.rows(f"SELECT count(*) FROM gold.{name}")[0][0] for name in report.rows
    }
