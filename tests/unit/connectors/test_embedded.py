"""What is particular to the log in SQLite: batches, the clock, and every kind of trouble."""

from __future__ import annotations

import logging
import os
import random
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataflows.connectors import embedded_store, sqlite_file
from dataflows.connectors.embedded import EmbeddedLog, EmbeddedReader
from dataflows.connectors.log import LogError, Marker, open_log
from dataflows.connectors.records import Output, published

HOUSE = Path(__file__).resolve().parents[3]


def put(*values: bytes | None, topic: str = "t") -> list[Output]:
    return [published(topic, [b"k"] * len(values), list(values))]


def read_all(log: EmbeddedLog, topic: str = "t") -> list[bytes | None]:
    reader = log.reader(topic, 0, log.offsets(topic, 0)[0])
    values: list[bytes | None] = []
    while len(records := reader.read(1_000)):
        values += records.values
    reader.close()
    return values


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder" / "log.db"


@pytest.fixture
def log(path: Path) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog(path)
    opened.create_topics({"t": 1})
    yield opened
    opened.close()


class TestAddress:
    def test_three_slashes_are_relative_and_four_absolute(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        open_log("sqlite:///here.db").close()
        open_log(f"sqlite:///{tmp_path}/there.db").close()
        assert {file.name for file in tmp_path.iterdir()} == {"here.db", "there.db"}

    @pytest.mark.parametrize(
        ("url", "hint"),
        [
            ("kafka://localhost", "names no brokers; use kafka://host:port"),
            ("sqlite:///", "use sqlite:///<path>"),
            ("sqlite://log.db", "use sqlite:///<path>"),
            ("log.db", "use sqlite:///<path>"),
            ("", "use sqlite:///<path>"),
        ],
    )
    def test_others_are_refused_in_one_line(self, url: str, hint: str) -> None:
        with pytest.raises(LogError, match=hint) as refusal:
            open_log(url)
        assert "\n" not in str(refusal.value)


class TestBatches:
    def test_one_read_spans_many_small_batches(self, log: EmbeddedLog) -> None:
        for number in range(50):
            log.append(put(b"%d" % number))
        reader = log.reader("t", 0, 0)
        assert reader.read(30).values == [b"%d" % number for number in range(30)]
        assert reader.read(30).values == [b"%d" % number for number in range(30, 50)]

    def test_offsets_are_contiguous_and_arrivals_those_of_the_batch(self, path: Path) -> None:
        times = iter([100, 200])
        log = EmbeddedLog(path, clock=lambda: next(times))
        log.create_topics({"t": 1})
        log.append(put(b"a", b"b"))
        log.append(put(b"c"))
        records = log.reader("t", 0, 0).read(10)
        assert records.offsets.tolist() == [0, 1, 2]
        assert records.arrival_us.tolist() == [100, 100, 200]
        log.close()

    def test_large_outputs_are_stored_in_pieces(
        self, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded_store, "BATCH_BYTES", 1_000)
        monkeypatch.setattr(embedded_store, "READ_BYTES", 3_000)
        values: list[bytes | None] = [random.Random(n).randbytes(100) for n in range(100)]
        values[40] = b"x" * 5_000
        log.append(put(*values))
        reader = log.reader("t", 0, 0)
        first = reader.read(1_000)
        assert 0 < len(first) < 40
        assert first.values + read_rest(reader) == values

    def test_a_record_beyond_the_limit_is_refused_and_nothing_stored(
        self, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded_store, "MAX_RECORD_BYTES", 10_000)
        with pytest.raises(LogError, match=r"topic t has 10,.* at most 10,000"):
            log.append([*put(b"lost"), *put(b"x" * 10_000)])
        assert read_all(log) == []

    def test_retention_removes_many_batches(self, path: Path) -> None:
        now = [0]
        log = EmbeddedLog(path, clock=lambda: now[0])
        log.create_topics({"t": 1})
        for number in range(250):
            now[0] = number * 1_000_000
            log.append(put(b"%d" % number, b"more"))
        log.apply_retention(250_000_000, {"t": 10.5})
        assert log.offsets("t", 0) == (480, 500)
        assert log.topics()["t"].records == 20
        assert read_all(log)[0] == b"240"
        left = log.topics()["t"].bytes
        log.apply_retention(10**12, {"t": 0})
        assert log.topics()["t"] == (1, 0, 0)
        assert left
        log.close()


def read_rest(reader: EmbeddedReader) -> list[bytes | None]:
    values: list[bytes | None] = []
    while len(records := reader.read(1_000)):
        values += records.values
    return values


class TestClock:
    def test_arrival_stands_still_while_the_clock_is_back(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        times = iter([100, 50, 60, 101])
        log = EmbeddedLog(path, clock=lambda: next(times))
        log.create_topics({"t": 1})
        with caplog.at_level(logging.WARNING):
            for _ in range(4):
                log.append(put(b"a"))
        assert log.reader("t", 0, 0).read(10).arrival_us.tolist() == [100, 100, 100, 101]
        assert len(caplog.records) == 1
        assert "behind the last record's arrival" in caplog.text
        log.close()

    def test_another_process_may_have_seen_a_later_time(self, path: Path) -> None:
        ahead, behind = EmbeddedLog(path, clock=lambda: 900), EmbeddedLog(path, clock=lambda: 100)
        ahead.create_topics({"t": 1, "fresh": 1})
        ahead.append(put(b"a"))
        behind.append([*put(b"b"), *put(b"c", topic="fresh")])
        assert behind.reader("t", 0, 0).read(10).arrival_us.tolist() == [900, 900]
        assert behind.reader("fresh", 0, 0).read(10).arrival_us.tolist() == [100]
        ahead.close()
        behind.close()


class TestFiles:
    def test_several_may_create_it_at_once(self, path: Path) -> None:
        failures: list[Exception] = []

        def create() -> None:
            try:
                log = EmbeddedLog(path)
                log.create_topics({"t": 2, "u": 1})
                log.close()
            except LogError as error:
                failures.append(error)

        threads = [threading.Thread(target=create) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert {t: i.partitions for t, i in EmbeddedLog(path).topics().items()} == {"t": 2, "u": 1}

    def test_the_wal_stays_small_though_there_is_always_a_reader(
        self, log: EmbeddedLog, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit = 1 << 18
        monkeypatch.setattr(sqlite_file, "WAL_LIMIT_BYTES", limit)
        writer = log.writer("slot")
        stop = threading.Event()

        def read_slowly(first_wait: float) -> None:
            connection = sqlite3.connect(path, isolation_level=None)
            stop.wait(first_wait)
            while not stop.is_set():
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM batches").fetchone()
                stop.wait(0.02)
                connection.execute("COMMIT")
            connection.close()

        threads = [threading.Thread(target=read_slowly, args=(n * 0.007,)) for n in range(3)]
        for thread in threads:
            thread.start()
        noise, largest = random.Random(1), 0
        for number in range(100):
            writer.commit(put(noise.randbytes(20_000)), Marker(seq=number, next_offset=number))
            largest = max(largest, os.stat(f"{path}-wal").st_size)
        stop.set()
        for thread in threads:
            thread.join()
        assert largest < 4 * limit

    def test_a_folder_is_no_log(self, tmp_path: Path) -> None:
        with pytest.raises(LogError, match="is a folder; name a file in it"):
            EmbeddedLog(tmp_path)

    def test_a_path_through_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(LogError, match="file"):
            EmbeddedLog(tmp_path / "file" / "log.db")

    @pytest.mark.parametrize("content", [b"not a database, " * 500, b"SQLite format 3\0" * 300])
    def test_other_files_are_refused_and_left_alone(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "log.db"
        path.write_bytes(content)
        with pytest.raises(LogError, match=r"log\.db: is (not a log of Tidegate|damaged)"):
            EmbeddedLog(path)
        assert path.read_bytes() == content

    def test_an_empty_file_becomes_a_log(self, tmp_path: Path) -> None:
        path = tmp_path / "log.db"
        path.touch()
        log = EmbeddedLog(path)
        log.create_topics({"t": 1})
        assert list(log.topics()) == ["t"]
        log.close()

    def test_a_foreign_database_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "log.db"
        foreign = sqlite3.connect(path)
        foreign.execute("CREATE TABLE moz_places (id)")
        foreign.commit()
        foreign.close()
        before = path.read_bytes()
        with pytest.raises(LogError, match="SQLite database of something else"):
            EmbeddedLog(path)
        assert path.read_bytes() == before

    def test_a_newer_format_is_refused(self, log: EmbeddedLog, path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA user_version = {sqlite_file.FORMAT_VERSION + 1}")
        connection.close()
        with pytest.raises(LogError, match=r"newer Tidegate.*upgrade"):
            EmbeddedLog(path)

    def test_a_damaged_file_says_so(self, log: EmbeddedLog, path: Path) -> None:
        for number in range(50):
            log.append(put(random.Random(number).randbytes(5_000)))
        log.close()
        content = bytearray(path.read_bytes())
        for page in range(1, len(content) // 8192):
            content[page * 8192 : page * 8192 + 100] = b"\xff" * 100
        path.write_bytes(content)
        with pytest.raises(LogError, match=r"log\.db: is damaged; restore it"):
            read_all(EmbeddedLog(path))

    def test_damaged_records_name_their_place(self, log: EmbeddedLog, path: Path) -> None:
        log.append(put(b"a", b"b"))
        log.append(put(b"c"))
        connection = sqlite3.connect(path)
        connection.execute("UPDATE batches SET data = x'ff00' WHERE id & 0xffff = 2")
        connection.commit()
        connection.close()
        reader = log.reader("t", 0, 0)
        assert reader.read(2).values == [b"a", b"b"]
        with pytest.raises(LogError, match=r"log\.db is damaged: a batch at offset 2"):
            reader.read(2)
        assert reader.position == 2

    def test_a_log_removed_while_in_use_is_noticed(self, log: EmbeddedLog, path: Path) -> None:
        writer, reader = log.writer("slot"), log.reader("t", 0, 0)
        path.unlink()
        for use in (lambda: log.append(put(b"lost")), lambda: reader.read(1), log.markers):
            with pytest.raises(LogError, match="removed or replaced while in use"):
                use()
        other = EmbeddedLog(path)
        with pytest.raises(LogError, match="removed or replaced while in use"):
            writer.commit([], Marker(seq=1, next_offset=1))
        other.close()

    def test_a_closed_log_says_so(self, path: Path) -> None:
        log = EmbeddedLog(path)
        log.close()
        log.close()
        with pytest.raises(LogError, match="closed database"):
            log.topics()

    def test_who_locks_it_for_long_is_waited_for_then_reported(
        self, log: EmbeddedLog, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_file, "_BUSY_SECONDS", 0.2)
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogError, match="locked by another process"):
            log.append(put(b"lost"))
        blocker.execute("COMMIT")
        log.append(put(b"kept"))
        assert read_all(log) == [b"kept"]
        blocker.close()


class TestNoRoom:
    def test_a_full_disk_loses_nothing(self, log: EmbeddedLog) -> None:
        writer = log.writer("slot")
        writer.commit(put(b"kept"), Marker(seq=1, next_offset=1))
        execute = writer._store.execute
        pages = execute("PRAGMA page_count").fetchone()[0]
        execute(f"PRAGMA max_page_count = {pages + 5}")
        with pytest.raises(LogError, match=r"log\.db: the disk is full; make room") as refusal:
            writer.commit(put(random.Random(1).randbytes(500_000)), Marker(seq=2, next_offset=2))
        assert "\n" not in str(refusal.value)
        assert read_all(log) == [b"kept"]
        assert log.markers()["slot"] == Marker(seq=1, next_offset=1)
        execute(f"PRAGMA max_page_count = {pages + 500}")
        writer.commit(put(b"room again"), Marker(seq=2, next_offset=2))
        assert read_all(log) == [b"kept", b"room again"]

    def test_a_write_the_system_refuses_loses_nothing(self, log: EmbeddedLog, path: Path) -> None:
        script = (
            "import random, signal, sys\n"
            "from dataflows.connectors.embedded import EmbeddedLog\n"
            "from dataflows.connectors.log import LogError\n"
            "from dataflows.connectors.records import published\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "log = EmbeddedLog(sys.argv[1])\n"
            "for number in range(1000):\n"
            "    try:\n"
            "        value = b'%d ' % number + random.randbytes(20_000)\n"
            "        log.append([published('t', [None], [value])])\n"
            "    except LogError as error:\n"
            "        print(error)\n"
            "        sys.exit(number)\n"
        )
        size = 1_000_000
        process = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            cwd=HOUSE,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        )
        assert process.stdout.startswith(f"{path}: the disk")
        assert process.stdout.count("\n") == 1
        kept = [value.split(b" ")[0] for value in read_all(log) if value]
        assert kept == [b"%d" % number for number in range(process.returncode)]
        assert process.returncode > 5

    def test_a_read_only_place_is_refused(self) -> None:
        with pytest.raises(LogError, match="/proc"):
            EmbeddedLog("/proc/tidegate/log.db")

    @pytest.mark.parametrize("what", [lambda path: path, lambda path: path.parent])
    def test_a_read_only_file_or_folder_is_refused(
        self, log: EmbeddedLog, path: Path, what: Callable[[Path], Path]
    ) -> None:
        place = what(path)
        mode = place.stat().st_mode
        place.chmod(0o555)
        try:
            if os.access(place, os.W_OK):
                pytest.skip("permissions do not bind root")
            with pytest.raises(LogError, match="cannot be written"):
                EmbeddedLog(path)
        finally:
            place.chmod(mode)
