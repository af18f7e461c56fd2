"""A lake that was archived and restored is that lake: its rows, and where its slots are."""

from __future__ import annotations

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.connectors.lake import LakeError, LakeWriter, lake_files, lake_gaps, lake_progress
from dataflows.flows.load import LINEAGE
from dataflows.runtime.config import Config, load_config
from services.archive.drill import drill
from services.archive.export import ExportReport, export
from services.archive.inventory import inventory
from services.archive.restore import RestoreReport, restore
from services.archive.store import Archive, Choice
from services.archive.verify import verify
from services.bundles.shelf import Shelf

FIRST_DAY = np.datetime64("2026-11-20")
SLOTS = (("clickstream", "events.clickstream", 0), ("clickstream", "buffered.clickstream", 1))
EVERYTHING = Choice()
ALERTS = ("alerts", "alerts", 0)

Write = tuple[tuple[str, str, int], list[int]]
writes = st.lists(
    st.tuples(
        st.sampled_from((*SLOTS, ALERTS)),
        st.lists(st.integers(0, 3), max_size=6),  # the day of each record
    ),
    min_size=1,
    max_size=6,
)


def quiet(_: str) -> None:
    pass


class Shop:
    """A data directory with a lake, and an archive of it."""

    def __init__(self, directory: Path, url: str = ""):
        self.config: Config = load_config(None, {}, {"data_dir": str(directory / "shop")})
        self.lake, self.restored = self.config.lake_path, directory / "restored"
        self.archive = Archive(url or str(directory / "archive"))

    def write(self, slot: tuple[str, str, int], days: list[int]) -> None:
        table, topic, partition = slot
        writer = LakeWriter(self.lake, table, f"{topic}.{partition}")
        start = writer.next_offset or 0
        stop = start + len(days)
        offsets = np.arange(start, stop)
        rows = pa.table({"text": [f"{topic} {n}" for n in offsets], "odd": offsets % 2 == 1})
        columns = ([topic] * len(days), [partition] * len(days), offsets)
        for (name, kind), values in zip(LINEAGE, columns, strict=True):
            rows = rows.append_column(name, pa.array(values, kind))
        dates = FIRST_DAY + np.array(days, dtype="timedelta64[D]")
        writer.write(rows, dates, start, stop + 2)  # two heartbeats behind them

    def export(self, choice: Choice = EVERYTHING) -> ExportReport:
        return export(self.config, self.archive, choice, quiet)

    def restore(
        self,
        choice: Choice = EVERYTHING,
        version: int | None = None,
        into: Path | None = None,
    ) -> RestoreReport:
        return restore(self.archive, choice, version, into or self.restored, quiet)


def contents(lake: Path, tables: tuple[str, ...] = ("alerts", "clickstream")) -> Any:
    """Every row with its day, by an independent reader."""
    return {
        (table, file.parent.name, tuple(row.values()))
        for table in tables
        for file in lake.glob(f"{table}/event_date=*/*.parquet")
        for row in pq.ParquetFile(file).read().to_pylist()
    }


def progress(lake: Path) -> Any:
    return {t: lake_progress(lake, t) for t in ("alerts", "clickstream") if (lake / t).is_dir()}


@pytest.fixture(params=["folder", "memory"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    return Shop(tmp_path, f"memory://{uuid4()}" if request.param == "memory" else "")


@pytest.mark.slow
@settings(max_examples=25)
@given(writes, writes)
def test_what_is_restored_is_the_lake_and_goes_on_as_it(
    before: list[Write], after: list[Write]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        shop = Shop(Path(directory))
        shop.write(ALERTS, [0])
        for write in before:
            shop.write(*write)
        shop.export()
        former = contents(shop.lake)
        for write in after:
            shop.write(*write)
        again = shop.export()
        grown = {(table, day) for table, day, _ in contents(shop.lake) - former}
        assert {(e.table, f"event_date={e.event_date}") for e in again.exported} == grown
        assert shop.export().exported == []

        assert shop.restore().for_reading == []
        assert contents(shop.restored) == contents(shop.lake)
        assert progress(shop.restored) == progress(shop.lake)
        assert [lake_gaps(shop.restored, t) for t in ("alerts", "clickstream")] == [[], []]
        assert verify(shop.archive, EVERYTHING, quiet).problems == []
        report = drill(shop.config, shop.archive, EVERYTHING, warehouse=False, tell=quiet)
        assert (report.rows, report.differences) == (len(contents(shop.lake)), [])

        for lake in (shop.lake, shop.restored):
            shop.lake = lake
            for write in after:
                shop.write(*write)
        assert contents(shop.restored) == contents(shop.config.lake_path)
        assert lake_gaps(shop.restored, "clickstream") == []


def test_a_compaction_is_no_change(shop: Shop) -> None:
    for _ in range(8):
        shop.write(ALERTS, [0, 1])
    shop.export()
    assert LakeWriter(shop.lake, "alerts", "alerts.0").compact(min_files=2)
    assert shop.export().exported == []
    assert shop.restore(into=shop.lake).unchanged == 2
    report = drill(shop.config, shop.archive, EVERYTHING, warehouse=False, tell=quiet)
    assert (report.days, report.differences) == (2, [])


def test_an_older_version_comes_back_to_be_read_alone(shop: Shop) -> None:
    shop.write(ALERTS, [0, 0])
    shop.export()
    former = contents(shop.lake)
    shop.write(ALERTS, [0])
    assert [(e.version, e.rows) for e in shop.export().exported] == [(2, 3)]
    assert [(e.version, e.newest) for e in inventory(shop.archive, EVERYTHING)] == [
        (1, False),
        (2, True),
    ]
    report = shop.restore(version=1)
    assert (contents(shop.restored), report.for_reading) == (former, ["alerts"])
    with pytest.raises(LakeError, match="commit file"):
        LakeWriter(shop.restored, "alerts", "alerts.0")


def test_days_exported_at_different_instants_are_not_gone_on_with(shop: Shop) -> None:
    """Or what came to the other day in between would be lost without a word."""
    shop.write(ALERTS, [0, 1])
    shop.export()
    shop.write(ALERTS, [0, 1])
    shop.export(Choice(last="2026-11-20"))
    assert shop.restore().for_reading == ["alerts"]
    assert len(contents(shop.restored)) == 3
    shop.export()
    shutil.rmtree(shop.restored)
    assert shop.restore().for_reading == []
    assert progress(shop.restored) == progress(shop.lake)


def test_a_day_that_was_removed_comes_back(shop: Shop) -> None:
    shop.write(ALERTS, [0, 1, 2])
    shop.export()
    before = contents(shop.lake)
    shutil.rmtree(shop.lake / "alerts" / "event_date=2026-11-21")
    assert shop.export().exported == []
    alone = drill(shop.config, shop.archive, EVERYTHING, warehouse=False, tell=quiet)
    assert (alone.only_archived, alone.differences) == (1, [])
    report = shop.restore(into=shop.lake)
    assert [(each.event_date, each.rows) for each in report.restored] == [("2026-11-21", 1)]
    assert (contents(shop.lake), lake_gaps(shop.lake, "alerts")) == (before, [])
    assert not (shop.lake / "_restoring").exists()


def test_some_days_then_the_others(shop: Shop) -> None:
    shop.write(ALERTS, [0, 1, 2, 2])
    shop.export()
    assert shop.restore(Choice(("alerts",), first="2026-11-21")).for_reading == []
    assert lake_gaps(shop.restored, "alerts") == []
    assert len(shop.restore().restored) == 1
    assert contents(shop.restored) == contents(shop.lake)
    assert lake_gaps(shop.restored, "alerts") == []


def test_a_lake_that_is_written_meanwhile(tmp_path: Path) -> None:
    """What is archived is the lake at one instant: every record before an offset, none after."""
    shop, stop = Shop(tmp_path), Event()
    shop.write(ALERTS, [0])

    def go_on() -> None:
        while not stop.is_set():
            shop.write(ALERTS, [0, 1, 2])
            LakeWriter(shop.lake, "alerts", "alerts.0").compact(min_files=3)
            time.sleep(0.01)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(go_on)
        try:
            for number in range(4):
                into = tmp_path / str(number)
                shop.export()
                assert shop.restore(into=into).for_reading == []
                (reached,) = lake_progress(into, "alerts").values()
                held = {row[-1] for _, _, row in contents(into)}
                offsets = {0, *(o for o in range(3, reached.next_offset) if (o - 3) % 5 < 3)}
                assert held == offsets
                assert lake_gaps(into, "alerts") == []
        finally:
            stop.set()
        writing.result()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("second", [False, True])
def test_an_export_cut_off_anywhere_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: bool
) -> None:
    """Killed before each step that changes the archive, one after another."""
    real = {name: getattr(Shelf, name) for name in ("upload", "write_new", "write")}
    for step in range(100):
        shop = Shop(tmp_path / str(step))
        shop.write(ALERTS, [0, 1])
        shop.write(SLOTS[0], [0])
        if second:
            shop.export()
            shop.write(ALERTS, [0, 1])
        left = step

        def dies(name: str) -> Any:
            def call(self: Shelf, *arguments: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    if name == "upload":  # half of it is there
                        file, into = arguments
                        half = Path(file).with_suffix(".half")
                        half.write_bytes(Path(file).read_bytes()[:100])
                        real[name](self, half, into)
                    raise Killed
                return real[name](self, *arguments)

            return call

        for name in real:
            monkeypatch.setattr(Shelf, name, dies(name))
        finished = True
        try:
            shop.export()
        except Killed:
            finished = False
        monkeypatch.undo()
        if shop.archive.days() and any(k.versions for k in shop.archive.days().values()):
            assert verify(shop.archive, EVERYTHING, quiet).problems == []
            shop.restore(into=tmp_path / str(step) / "meanwhile")
        shop.export()
        assert shop.restore().for_reading == []
        assert contents(shop.restored) == contents(shop.lake)
        if finished:
            assert step > 3
            return
    raise AssertionError("the export takes no end")


def test_the_lake_listing_is_that_of_the_restored_one(shop: Shop) -> None:
    for _ in range(3):
        shop.write(SLOTS[0], [0, 1])
    shop.export()
    shop.restore()
    names = [
        [str(file.relative_to(lake)) for file in lake_files(lake, "clickstream")]
        for lake in (shop.lake, shop.restored)
    ]
    assert names[0] == names[1]
