"""The lake holds each record exactly once, whatever happens to its writer."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

import duckdb
import lake_source
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_source import dates, rows, write

from dataflows.connectors.lake import (
    LakeError,
    LakeFile,
    LakeGap,
    LakeWriter,
    lake_files,
    lake_gaps,
)

HOUSE = Path(__file__).resolve().parents[3]

_duckdb = duckdb.connect()


def query(files: str | list[str], what: str) -> list[tuple[Any, ...]]:
    relation = "read_parquet(?, hive_partitioning = true, union_by_name = true)"
    return _duckdb.execute(f"SELECT {what} FROM {relation}", [files]).fetchall()


def everything(root: Path, table: str = "t") -> str:
    return f"{root / table}/**/*.parquet"


def expected(stop: int) -> list[tuple[Any, ...]]:
    days = dates(0, stop).tolist()
    return [(n, f"row {n}", day) for n, day in enumerate(days)]


def holds_exactly(files: str | list[str], stop: int) -> bool:
    if stop == 0:  # DuckDB wants at least one file
        return not (glob(files, recursive=True) if isinstance(files, str) else files)
    return sorted(query(files, "n, text, event_date")) == expected(stop)


def listed(root: Path, table: str = "t") -> list[str]:
    return [str(path) for path in lake_files(root, table)]


@pytest.fixture
def writer(tmp_path: Path) -> LakeWriter:
    return LakeWriter(tmp_path, "t", "load.t.0")


class TestWrite:
    def test_duckdb_reads_back_every_row_once(self, tmp_path: Path, writer: LakeWriter) -> None:
        assert writer.next_offset is None
        for count in (1, 50, 3, 20):
            write(writer, count)
        assert writer.next_offset == 74
        assert holds_exactly(everything(tmp_path), 74)
        assert holds_exactly(listed(tmp_path), 74)
        types = query(everything(tmp_path), "DISTINCT typeof(event_date)")
        assert types == [("DATE",)]

    def test_the_path_says_date_slot_and_offsets(self, tmp_path: Path, writer: LakeWriter) -> None:
        writer.write(rows(0, 2), np.array(["2026-11-23"] * 2, "datetime64[D]"), 5, 17)
        (path,) = lake_files(tmp_path, "t")
        name = "event_date=2026-11-23/load.t.0-000000000005-000000000017.parquet"
        assert path == tmp_path / "t" / name
        assert LakeFile.parse(path.parent.name, path.name) == LakeFile(
            "2026-11-23", "load.t.0", 5, 17
        )

    def test_rows_keep_their_order_within_a_date(self, tmp_path: Path, writer: LakeWriter) -> None:
        write(writer, 100)
        for path in lake_files(tmp_path, "t"):
            numbers = pq.ParquetFile(path).read()["n"].to_pylist()
            assert numbers == sorted(numbers)

    def test_the_same_input_gives_the_same_files(self, tmp_path: Path) -> None:
        for root in ("one", "two"):
            writer = LakeWriter(tmp_path / root, "t", "s")
            for _ in range(9):
                write(writer, 10)
            writer.compact()
        one, two = (
            {
                path.relative_to(tmp_path / root): path.read_bytes()
                for path in lake_files(tmp_path / root, "t")
            }
            for root in ("one", "two")
        )
        assert one == two

    def test_no_rows_only_move_the_offset(self, tmp_path: Path, writer: LakeWriter) -> None:
        writer.write(rows(0, 0), dates(0, 0), 0, 12)
        assert writer.next_offset == 12
        assert LakeWriter(tmp_path, "t", "load.t.0").next_offset == 12
        assert lake_files(tmp_path, "t") == []

    def test_a_new_writer_goes_on(self, tmp_path: Path) -> None:
        for stop in range(10, 50, 10):
            writer = LakeWriter(tmp_path, "t", "s")
            write(writer, 10)
            assert writer.next_offset == stop
        assert holds_exactly(everything(tmp_path), 40)

    def test_slots_share_a_table(self, tmp_path: Path) -> None:
        for slot in ("a", "a-0", "a-000000000000", "b.c"):
            write(LakeWriter(tmp_path, "t", slot), 20)
        for slot in ("a", "a-0", "a-000000000000", "b.c"):
            assert LakeWriter(tmp_path, "t", slot).next_offset == 20
        assert query(everything(tmp_path), "count(*), count(DISTINCT n)") == [(80, 20)]

    @pytest.mark.parametrize(
        ("table", "days", "start", "stop"),
        [
            (rows(0, 2), dates(0, 2), 3, 9),  # written already
            (rows(0, 2), dates(0, 2), 12, 11),
            (rows(0, 2), dates(0, 3), 10, 12),
            (rows(0, 2), np.array(["2026-11-23", "NaT"], "datetime64[D]"), 10, 12),
            (rows(0, 1).append_column("event_date", [["x"]]), dates(0, 1), 10, 11),
        ],
        ids=["replayed", "backwards", "too many dates", "no date", "date column"],
    )
    def test_what_does_not_fit_is_refused(
        self, tmp_path: Path, writer: LakeWriter, table: pa.Table, days: Any, start: int, stop: int
    ) -> None:
        write(writer, 10)
        with pytest.raises(ValueError, match=r"do not follow|a date for each row"):
            writer.write(table, days, start, stop)
        assert holds_exactly(everything(tmp_path), 10)
        write(writer, 10)
        assert holds_exactly(everything(tmp_path), 20)

    def test_a_slot_must_fit_a_file_name(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="file name"):
            LakeWriter(tmp_path, "t", "../up")


class TestCompact:
    def test_merges_small_files_and_changes_no_row(self, tmp_path: Path) -> None:
        writer = LakeWriter(tmp_path, "t", "s")
        for _ in range(10):
            write(writer, 40)
        before = lake_files(tmp_path, "t")
        gone = writer.compact(min_files=2)
        after = lake_files(tmp_path, "t")
        assert len(after) == 4
        assert len(before) - gone == len(after)
        assert holds_exactly(everything(tmp_path), 400)
        assert holds_exactly(listed(tmp_path), 400)
        assert writer.next_offset == 400
        assert LakeWriter(tmp_path, "t", "s").next_offset == 400
        assert writer.compact(min_files=2) == 0
        assert list((tmp_path / "t" / "_staging" / "s").iterdir()) == []

    def test_waits_for_enough_files(self, writer: LakeWriter) -> None:
        for _ in range(3):
            write(writer, 40)
        assert writer.compact(min_files=4) == 0
        write(writer, 40)
        assert writer.compact(min_files=4) == 12

    def test_stops_at_files_that_are_large_enough(self, tmp_path: Path) -> None:
        writer = LakeWriter(tmp_path, "t", "s", small_records=25)
        for _ in range(12):
            write(writer, 40)
        writer.compact(min_files=2)
        counts = [pq.read_metadata(path).num_rows for path in lake_files(tmp_path, "t")]
        assert max(counts) < 50
        assert sum(counts) == 480
        assert holds_exactly(everything(tmp_path), 480)

    def test_leaves_other_slots_alone(self, tmp_path: Path, writer: LakeWriter) -> None:
        other = LakeWriter(tmp_path, "t", "other")
        for _ in range(3):
            write(writer, 10)
            write(other, 10)
        theirs = {path for path in lake_files(tmp_path, "t") if "other-" in path.name}
        writer.compact(min_files=2)
        assert theirs == {path for path in lake_files(tmp_path, "t") if "other-" in path.name}

    def test_rewrites_a_record_a_few_times_only(self, tmp_path: Path) -> None:
        writer = LakeWriter(tmp_path, "t", "s", small_records=10**6)
        day = np.datetime64("2026-11-23")
        seen: set[Path] = set()
        rewritten = 0
        for start in range(0, 4_000, 10):
            writer.write(rows(start, start + 10), np.full(10, day), start, start + 10)
            writer.compact(min_files=8)
            merged = {path for path in lake_files(tmp_path, "t") if path not in seen}
            rewritten += sum(pq.read_metadata(path).num_rows for path in merged)
            seen |= merged
        assert rewritten < 4_000 * 8
        assert len(lake_files(tmp_path, "t")) < 40

    def test_a_column_added_later_is_null_before(self, tmp_path: Path, writer: LakeWriter) -> None:
        write(writer, 11)
        new = rows(11, 22).append_column("extra", [["x"] * 11])
        writer.write(new, dates(11, 22), 11, 22)
        unmerged = sorted(query(everything(tmp_path), "n, extra"))
        assert writer.compact(min_files=2) > 0
        assert sorted(query(everything(tmp_path), "n, extra")) == unmerged
        assert unmerged == [(n, None if n < 11 else "x") for n in range(22)]

    def test_files_of_clashing_types_stay_apart(
        self, tmp_path: Path, writer: LakeWriter, caplog: pytest.LogCaptureFixture
    ) -> None:
        day = np.full(1, np.datetime64("2026-11-23"))
        writer.write(pa.table({"n": [1]}), day, 0, 1)
        writer.write(pa.table({"n": ["one"]}), day, 1, 2)
        with caplog.at_level(logging.WARNING):
            assert writer.compact(min_files=2) == 0
        assert "stay apart" in caplog.text
        assert len(lake_files(tmp_path, "t")) == 2


DAY = "2026-11-21"


class TestTakeBack:
    def test_removes_dates_of_its_slot_and_nothing_else(
        self, tmp_path: Path, writer: LakeWriter
    ) -> None:
        write(LakeWriter(tmp_path, "t", "other"), 40)
        for _ in range(2):
            write(writer, 20)
        gone = [row for row in expected(40) if str(row[2]) == DAY]
        assert writer.take_back([DAY, "2001-01-01"]) == len(gone) > 5
        found = Counter(query(everything(tmp_path), "n, text, event_date"))
        assert found == Counter(expected(40)) + Counter(expected(40)) - Counter(gone)
        assert writer.next_offset == 40
        assert lake_gaps(tmp_path, "t") == []
        assert writer.take_back([DAY]) == 0
        write(LakeWriter(tmp_path, "t", "load.t.0"), 20)
        assert lake_gaps(tmp_path, "t") == []
        assert len(query(everything(tmp_path), "n")) == 40 + 60 - len(gone)

    def test_at_any_step_all_of_it_is_gone_or_nothing(self) -> None:
        kept = [row for row in expected(40) if str(row[2]) != DAY]
        for steps in range(200):
            with tempfile.TemporaryDirectory(prefix="crash-lake") as folder:
                root = Path(folder)
                write(opened(root), 20)
                write(opened(root), 20)
                done = False
                with dies_after(steps):
                    opened(root).take_back([DAY])
                    done = True
                found = sorted(query(listed(root), "n, text, event_date"))
                assert found in (expected(40), kept)
                opened(root)
                assert sorted(query(everything(root), "n, text, event_date")) == found
                assert lake_gaps(root, "t") == []
            if done:
                assert found == kept
                assert steps > 10
                return
        raise AssertionError("never done")


class Crash(BaseException):
    """The process is dead: nothing after this instruction happens."""


_steps_left: list[int] = []
_FILE_STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def _count_steps(event: str, arguments: tuple[Any, ...]) -> None:
    if _steps_left and event in _FILE_STEPS and "crash-lake" in str(arguments[0]):
        _steps_left[0] -= 1
        if _steps_left[0] < 0:
            raise Crash


sys.addaudithook(_count_steps)


@contextmanager
def dies_after(steps: int | None) -> Iterator[None]:
    """Kills what runs inside before its file operation number `steps` (None: never)."""
    if steps is not None:
        _steps_left.append(steps)
    try:
        yield
    except Crash:
        pass
    finally:
        _steps_left.clear()


def opened(root: Path) -> LakeWriter:
    return LakeWriter(root, "t", "s", small_records=60)


steps = st.none() | st.integers(0, 40)
actions = st.lists(st.tuples(st.none() | st.integers(0, 30), steps, steps), max_size=6)


class TestCrash:
    @settings(deadline=None, max_examples=60)
    @given(actions=actions)
    def test_at_any_step_leaves_each_row_once(
        self, actions: list[tuple[int | None, int | None, int | None]]
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="crash-lake") as folder:
            root = Path(folder)
            for count, dies_acting, dies_opening in actions:
                before = opened(root).next_offset or 0
                writer = opened(root)
                with dies_after(dies_acting):
                    if count is None:
                        writer.compact(min_files=2)
                    else:
                        write(writer, count)
                self.check_readers(root, {before, before + (count or 0)})
                with dies_after(dies_opening):
                    opened(root)
                self.check_readers(root, {before, before + (count or 0)})
            stop = opened(root).next_offset or 0
            assert holds_exactly(listed(root), stop)
            assert holds_exactly(everything(root), stop)
            assert stop == 0 or lake_gaps(root, "t") == []
            assert list((root / "t" / "_staging").glob("*/*")) == []

    def check_readers(self, root: Path, stops: set[int]) -> None:
        """The list is that of some instant; the glob misses nothing and has no half file."""
        files = listed(root)
        assert any(holds_exactly(files, stop) for stop in stops)
        if min(stops):
            found = query(everything(root), "n, text, event_date")
            assert set(expected(min(stops))) <= set(found) <= set(expected(max(stops)))

    def test_every_step_of_a_write_and_of_a_compaction(self) -> None:
        for act in (lambda writer: write(writer, 20), lambda writer: writer.compact(min_files=2)):
            assert self.steps_until_done(act) > 10

    def steps_until_done(self, act: Callable[[LakeWriter], Any]) -> int:
        for steps in range(200):
            with tempfile.TemporaryDirectory(prefix="crash-lake") as folder:
                root = Path(folder)
                write(opened(root), 20)
                write(opened(root), 20)
                done = False
                with dies_after(steps):
                    act(opened(root))
                    done = True
                self.check_readers(root, {40, 60})
                stop = opened(root).next_offset or 0
                assert stop in (40, 60)
                assert holds_exactly(everything(root), stop)
            if done:
                return steps
        raise AssertionError("never done")

    def test_kill_9_at_random_moments(self, tmp_path: Path) -> None:
        moments = random.Random(1)
        stop = 1_500
        for _ in range(6):
            process = start_loading(tmp_path, 10**9)
            time.sleep(moments.uniform(0.05, 0.3))
            process.kill()
            process.wait()
            reached = LakeWriter(tmp_path, "t", "s").next_offset or 0
            assert holds_exactly(everything(tmp_path), reached)
            assert lake_gaps(tmp_path, "t") == []
            stop = max(stop, reached + 100)
        assert start_loading(tmp_path, stop).wait(60) == 0
        reached = LakeWriter(tmp_path, "t", "s").next_offset or 0
        assert reached >= stop
        assert holds_exactly(everything(tmp_path), reached)


class TestGaps:
    def test_whatever_is_written_and_merged_leaves_none(self, tmp_path: Path) -> None:
        writer = LakeWriter(tmp_path, "t", "load.t.0", small_records=60)
        for count in (1, 50, 3, 0, 20, 7, 41):
            write(writer, count)
            writer.compact(min_files=2)
            assert lake_gaps(tmp_path, "t") == []
        assert holds_exactly(listed(tmp_path), 122)

    def test_a_file_that_is_gone_is_one(self, tmp_path: Path, writer: LakeWriter) -> None:
        write(writer, 50)
        write(LakeWriter(tmp_path, "t", "load.t.1"), 50)
        write(writer, 50)
        for path in lake_files(tmp_path, "t"):
            file, kept = LakeFile.parse(path.parent.name, path.name), path.read_bytes()
            records = pq.read_metadata(path).num_rows
            path.unlink()
            (gap,) = lake_gaps(tmp_path, "t")
            assert file is not None
            assert gap == LakeGap(file.slot, file.date, gap.written, gap.written - records)
            path.write_bytes(kept)
        assert lake_gaps(tmp_path, "t") == []

    def test_a_date_that_is_gone_is_none(self, tmp_path: Path, writer: LakeWriter) -> None:
        write(writer, 50)
        shutil.rmtree(lake_files(tmp_path, "t")[0].parent)
        assert lake_gaps(tmp_path, "t") == []

    def test_a_file_that_is_there_twice_is_one(self, tmp_path: Path, writer: LakeWriter) -> None:
        write(writer, 50)
        path = lake_files(tmp_path, "t")[0]
        name = path.name.replace("000000000050", "000000000051")
        shutil.copy(path, path.with_name(name))
        (gap,) = lake_gaps(tmp_path, "t")
        assert gap.found == 2 * gap.written

    def test_a_lake_of_an_earlier_version_is_counted_from_its_files_on(
        self, tmp_path: Path, writer: LakeWriter
    ) -> None:
        write(writer, 50)
        commit = tmp_path / "t" / "_commits" / "load.t.0.json"
        earlier = json.loads(commit.read_bytes())
        del earlier["records"]
        commit.write_text(json.dumps(earlier))
        lost, *_ = lake_files(tmp_path, "t")
        assert lake_gaps(tmp_path, "t") == []
        write(LakeWriter(tmp_path, "t", "load.t.0"), 50)
        assert lake_gaps(tmp_path, "t") == []
        lost.unlink()
        assert len(lake_gaps(tmp_path, "t")) == 1

    def test_a_broken_file_is_named(self, tmp_path: Path, writer: LakeWriter) -> None:
        write(writer, 50)
        path = lake_files(tmp_path, "t")[0]
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(LakeError, match=f"{path} is no Parquet file"):
            lake_gaps(tmp_path, "t")


class TestReaders:
    def test_a_list_taken_at_any_time_is_that_of_an_instant(self, tmp_path: Path) -> None:
        process = start_loading(tmp_path, 3_000)
        looks = 0
        while process.poll() is None or looks == 0:
            if not (files := listed(tmp_path)):
                continue
            try:
                found = query(files, "count(*), count(DISTINCT n), max(n) + 1")
            except (duckdb.IOException, duckdb.InvalidInputException):
                continue  # compacted away: ask again
            assert len(set(found[0])) == 1
            looks += 1
        assert process.returncode == 0
        assert looks > 3

    def test_a_table_that_is_not_there_has_no_files(self, tmp_path: Path) -> None:
        assert lake_files(tmp_path, "nothing") == []


def start_loading(root: Path, stop: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, str(Path(lake_source.__file__)), str(root), "t", "s", str(stop)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(HOUSE)},
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


class TestTrouble:
    def test_a_full_disk_loses_nothing(
        self, tmp_path: Path, writer: LakeWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(writer, 20)

        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        for broken in ("pyarrow.parquet.write_table", "os.fsync", "os.replace"):
            with monkeypatch.context() as patch:
                patch.setattr(broken, full)
                with pytest.raises(LakeError, match="No space left on device; make room") as error:
                    write(writer, 20)
            assert "\n" not in str(error.value)
            assert holds_exactly(everything(tmp_path), 20)
        write(writer, 1)
        assert holds_exactly(everything(tmp_path), 21)

    def test_what_was_committed_is_put_into_place_later(
        self, tmp_path: Path, writer: LakeWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(writer, 20)
        replace = os.replace

        def no_more_parquet(source: Path, target: Path) -> None:
            if target.suffix == ".parquet":
                raise OSError(errno.ENOSPC, "No space left on device")
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", no_more_parquet)
            with pytest.raises(LakeError, match="make room"):
                write(writer, 20)
        assert writer.next_offset == 40
        assert holds_exactly(listed(tmp_path), 20)
        write(writer, 20)
        assert holds_exactly(everything(tmp_path), 60)

    def test_a_staged_file_that_is_gone_is_named(
        self, tmp_path: Path, writer: LakeWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("dataflows.connectors.lake._Table.finish", lambda *_: None)
            write(writer, 20)
        (tmp_path / "t" / "_staging" / "load.t.0" / "1" / "2").unlink()
        with pytest.raises(LakeError, match="was committed but is neither there nor in"):
            LakeWriter(tmp_path, "t", "load.t.0")

    def test_a_place_that_cannot_be_written_is_named(self) -> None:
        with pytest.raises(LakeError, match="/proc"):
            LakeWriter(Path("/proc/tidegate"), "t", "s")

    def test_a_file_in_the_way_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "t").write_bytes(b"")
        with pytest.raises(LakeError, match=str(tmp_path / "t")):
            LakeWriter(tmp_path, "t", "s")

    def test_a_lost_commit_file_is_not_taken_for_a_new_slot(
        self, tmp_path: Path, writer: LakeWriter
    ) -> None:
        write(writer, 20)
        (tmp_path / "t" / "_commits" / "load.t.0.json").unlink()
        with pytest.raises(LakeError, match=r"its commit file .* is gone"):
            LakeWriter(tmp_path, "t", "load.t.0")

    def test_a_damaged_commit_file_is_named(self, tmp_path: Path, writer: LakeWriter) -> None:
        write(writer, 20)
        (tmp_path / "t" / "_commits" / "load.t.0.json").write_text("{")
        with pytest.raises(LakeError, match=r"load\.t\.0\.json is damaged"):
            LakeWriter(tmp_path, "t", "load.t.0")

    def test_deleting_a_date_of_the_lake_is_allowed(
        self, tmp_path: Path, writer: LakeWriter
    ) -> None:
        write(writer, 20)
        for path in (tmp_path / "t" / "event_date=2026-11-20").iterdir():
            path.unlink()
        again = LakeWriter(tmp_path, "t", "load.t.0")
        assert again.next_offset == 20
        again.compact(min_files=2)

    def test_foreign_files_are_left_alone(self, tmp_path: Path, writer: LakeWriter) -> None:
        write(writer, 20)
        foreign = tmp_path / "t" / "event_date=2026-11-20" / "mine.parquet"
        foreign.write_bytes(b"")
        write(writer, 20)
        writer.compact(min_files=2)
        assert foreign.exists()
        assert str(foreign) not in listed(tmp_path)
