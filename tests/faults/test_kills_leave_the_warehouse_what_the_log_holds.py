"""While events come in, load, builds, merges and dbt are killed again and again. In the end silver
is what the log holds, row for row, and gold what a whole build makes; and all the while whoever
asks finds the last good warehouse, whole."""

from __future__ import annotations

import json
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from os import kill
from pathlib import Path
from typing import Any

import duckdb
import pytest
from faults_table import Figures
from flow_bench import Bench
from places import CONFIG, Place, Running, alive, wait_until
from warehouse_oracle import KEYS, LogOracle, Merged

from dataflows.connectors.records import published
from dataflows.flows.pseudonyms import load_key
from services.status.peek import Record

FLOWS = ("ingest", "sessionize", "features", "score", "watch", "late")
FIRST, DAYS = date(2026, 3, 2), 3
TIMED = ("events.", "sessions", "scores", "alerts", "incidents")
LONG_AGO = [date(2026, 2, day) for day in (10, 11, 12)]
SETTINGS = {"TIDEGATE_SLOTS_BATCH_RECORDS": "50"}
DATES = ("--from", str(LONG_AGO[0]), "--to", str(LONG_AGO[-1]))

VICTIMS = ("command", "dbt", "load")
BUILD = ("build",)
COMMANDS = (
    BUILD,
    ("merge", "--source", "clickstream", *DATES, "--yes"),
    ("build", "--full"),
    ("reprocess",),
    ("merge", "--source", "transactions", *DATES, "--yes"),
    ("reprocess", "--from", str(FIRST), "--to", str(FIRST + timedelta(1))),
    ("unmerge", "--source", "clickstream", *DATES, "--yes"),
)
GOOD, CHECK_FAILED, MAY_PASS = 0, 1, 75


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """What the load flow reads of some days of the shop, as it would have come; some of it came
    late, and some later than the horizon."""
    bench = Bench(tmp_path_factory.mktemp("prepared") / "data")
    bench.simulate(days=DAYS, events=3_000, reference=True)
    for source in ("clickstream", "transactions", "labels"):
        old = [json.dumps(document).encode() for document in belated(source)]
        bench.publish(f"raw.{source}", list(old))
    bench.run(*FLOWS)
    topics = dict.fromkeys(slot.topic for slot in bench.shop.slots("load"))
    found = [record for topic in topics for record in bench.records(topic)]
    bench.log.close()
    assert any(record.topic == "buffered.clickstream" for record in found)
    assert sum(record.topic == "dlq.late" for record in found) == 24
    return as_it_comes(found)


def as_it_comes(records: Sequence[Record]) -> list[Record]:
    """By event time, what follows from events behind them; each partition as it is."""
    counts = Counter((record.topic, record.partition) for record in records)
    reached = dict.fromkeys(counts, "")
    order: list[tuple[str, bool, int]] = []
    for record in records:
        place = (record.topic, record.partition)
        share = DAYS * 86_400 * record.offset / counts[place]
        by_share = datetime.combine(FIRST, datetime.min.time()) + timedelta(seconds=share)
        known = json.loads(record.value or b"{}") if record.topic.startswith(TIMED) else {}
        time_of_it = known.get("ended_at") or known.get("event_timestamp") or by_share.isoformat()
        reached[place] = max(reached[place], time_of_it)
        order.append((reached[place], not record.topic.startswith("events."), len(order)))
    return [records[number] for *_, number in sorted(order)]


def belated(source: str) -> Iterator[dict[str, Any]]:
    """Events of a source, 15 of a day before, and 12 of weeks before; labels of these payments."""
    item = {"product_id": "P10001", "quantity": 2, "unit_price": "5.00", "amount": "10.00"}
    likes: dict[str, dict[str, Any]] = {
        "clickstream": {"event_type": "page_view", "device": {"device_id": "d"}},
        "transactions": {"total_amount": "10.00", "currency": "EUR", "items": [item]},
        "labels": {"verdict": "fraud", "origin": "analyst"},
    }
    long_ago = LONG_AGO * 4 if source != "labels" else []
    for number, day in enumerate([FIRST + timedelta(1)] * 15 + long_ago):
        when = {"event_timestamp": f"{day}T12:00:{number:02d}.5Z", "user_id": "C100001"}
        about = {"transaction_id": f"transactions {number}"} if source == "labels" else {}
        yield likes[source] | when | about | {KEYS[source]: f"{source} {number}"}


class Disturbed:
    """A log that records come into, a worker of the load flow, and commands on its warehouse."""

    def __init__(self, directory: Path, records: Sequence[Record], seed: int):
        self.place = Place(directory, CONFIG)
        self.dice = random.Random(seed)
        self.file = self.place.data / "warehouse" / "warehouse.duckdb"
        self.shop = self.place.open()
        self.oracle = LogOracle(records, load_key(self.place.data))
        self._coming = list(records)
        self.struck = dict.fromkeys(VICTIMS, 0)
        self.ended = {GOOD: 0, CHECK_FAILED: 0, MAY_PASS: 0}
        self.loading = self.load()

    def load(self) -> Running:
        return self.place.start("run", "load", **SETTINGS)

    def feed(self, share: float) -> None:
        """So much of what is still to come."""
        count = round(len(self._coming) * share)
        now, self._coming = self._coming[:count], self._coming[count:]
        for topic, partition in dict.fromkeys((r.topic, r.partition) for r in now):
            some = [r for r in now if (r.topic, r.partition) == (topic, partition)]
            keys, values = [r.key for r in some], [r.value for r in some]
            headers = [r.headers for r in some]
            self.shop.log.append([published(topic, keys, values, headers, partition)])

    def command(self, *words: str) -> Running:
        return self.place.start("warehouse", *words)

    def must(self, *words: str) -> None:
        """A command that nobody disturbs."""
        running = self.command(*words)
        assert running.process.wait(280) == GOOD, running.stderr

    def strike(self, victim: str, words: Sequence[str], within_s: float) -> None:
        """Kills the command, its dbt or the worker of load, at a moment by the dice."""
        running = self.command(*words)
        moment = time.monotonic() + self.dice.uniform(0, within_s)
        while time.monotonic() < moment and running.process.poll() is None:
            time.sleep(0.01)
        if victim == "dbt":
            wait_until(
                lambda: bool(running.children()) or running.process.poll() is not None, "dbt"
            )
        children = running.children()
        pid = {
            "command": running.process.pid,
            "dbt": children[0] if children else None,
            "load": self.loading.process.pid,
        }[victim]
        if running.process.poll() is None and pid is not None:
            kill(pid, signal.SIGKILL)
            self.struck[victim] += 1
        code = running.process.wait(280)
        if code == -signal.SIGKILL:
            # Whoever builds next must not meet what the last one has started.
            wait_until(lambda: not any(map(alive, children)), "the end of dbt", patience_s=5)
        else:
            self.ended[code] += 1
            assert code == GOOD or running.stderr.count("\n") == 1, running.stderr
        if self.loading.process.poll() is not None:
            self.loading = self.load()

    def drain(self) -> None:
        self.feed(1)
        self.place.wait_until_drained("load")
        assert self.loading.stop() == 0, self.loading.stderr

    def close(self) -> None:
        self.shop.log.close()
        self.place.clean_up()


class Reader(threading.Thread):
    """Asks all the time; each answer must be there, and be that of one build, whole."""

    def __init__(self, file: Path, oracle: LogOracle):
        super().__init__()
        self._file, self._oracle = file, oracle
        self._over = threading.Event()
        self.builds: dict[int, tuple[Any, ...]] = {}
        self.asked = 0
        self.problems: list[str] = []

    def run(self) -> None:
        while not self._over.wait(0.5):
            try:
                self._ask()
            except (duckdb.Error, AssertionError) as error:
                self.problems.append(f"{type(error).__name__}: {error}")

    def _ask(self) -> None:
        with duckdb.connect(str(self._file), read_only=True) as database:
            database.execute("SET TimeZone = 'UTC'")
            (build,) = database.execute("SELECT max(build_id) FROM meta.builds").fetchall()[0]
            answer = tuple(contents(database).items())
            if build not in self.builds:
                assert build > max(self.builds, default=0), "an older build is back"
                self._is_whole(database)
            assert self.builds.setdefault(build, answer) == answer, f"build {build} has changed"
        self.asked += 1

    def _is_whole(self, database: duckdb.DuckDBPyConnection) -> None:
        """Gold has what the log held up to where the build says that it read."""
        held = database.execute(
            "SELECT table_name, event_date, slot, next_offset FROM meta.holdings"
        ).fetchall()
        found = database.execute(
            "SELECT source, count(*) FROM gold.fct_events WHERE lateness <> 'expired' GROUP BY 1"
        ).fetchall()
        wanted = self._oracle.events_below(held)
        assert {"clickstream": 0, "transactions": 0, **dict(found)} == wanted

    def end(self) -> None:
        self._over.set()
        self.join()


def contents(database: duckdb.DuckDBPyConnection) -> dict[str, tuple[Any, ...]]:
    """Of each table of silver and gold how many rows it has, and a hash of them in any order."""
    names = database.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables() "
        "WHERE schema_name IN ('silver', 'gold') ORDER BY 1"
    ).fetchall()
    return {
        name: database.execute(f"SELECT count(*), bit_xor(hash(t)) FROM {name} AS t").fetchall()[0]
        for (name,) in names
    }


def contents_of(file: Path) -> dict[str, tuple[Any, ...]]:
    with duckdb.connect(str(file), read_only=True) as database:
        return contents(database)


@pytest.fixture
def disturbed(tmp_path: Path, records: list[Record], figures: Figures) -> Iterator[Disturbed]:
    made = Disturbed(tmp_path, records, figures.seed)
    yield made
    made.close()


def kill_series(disturbed: Disturbed, strikes: int, figures: Figures) -> None:
    disturbed.feed(0.5)
    disturbed.place.wait_until_drained("load")
    started = time.monotonic()
    disturbed.must(*BUILD)
    takes_s = time.monotonic() - started
    reader = Reader(disturbed.file, disturbed.oracle)
    reader.start()
    try:
        for number in range(strikes):
            disturbed.feed(1 / (strikes - number + 1))
            victim = VICTIMS[number % len(VICTIMS)]
            disturbed.strike(victim, COMMANDS[number % len(COMMANDS)], takes_s)
        disturbed.drain()
        disturbed.must(*COMMANDS[1])
        disturbed.must(*COMMANDS[4])
        disturbed.must(*BUILD)
    finally:
        reader.end()
    assert not reader.problems, reader.problems[:3]
    assert len(reader.builds) > 1
    merged: Merged = dict.fromkeys(("clickstream", "transactions"), LONG_AGO)
    rows = disturbed.oracle.check(disturbed.file, merged)
    assert min(rows[f"stg_{table}"] for table in ("clickstream", "transactions", "sessions")) > 50
    notices_a_row_that_is_gone(disturbed, merged)
    built = contents_of(disturbed.file)
    disturbed.must("build", "--full")
    assert contents_of(disturbed.file) == built
    hits = sum(disturbed.struck.values())
    assert hits >= strikes // 2, "the commands were done too early"
    figures.add(
        **{f"kills_of_{victim}": count for victim, count in disturbed.struck.items()},
        builds=len(reader.builds),
        asked=reader.asked,
        silver_rows=sum(rows.values()),
    )


def notices_a_row_that_is_gone(disturbed: Disturbed, merged: Merged) -> None:
    other = shutil.copy(disturbed.file, disturbed.place.directory / "other.duckdb")
    with duckdb.connect(str(other)) as database:
        database.execute("DELETE FROM silver.stg_sessions WHERE rowid = 7")
    with pytest.raises(AssertionError, match=r"silver\.stg_sessions: 1 rows missing"):
        disturbed.oracle.check(other, merged)


@pytest.mark.slow
@pytest.mark.survives(32)
@pytest.mark.timeout(900)
def test_a_few_kills_leave_the_warehouse_what_the_log_holds(
    disturbed: Disturbed, figures: Figures
) -> None:
    kill_series(disturbed, len(VICTIMS), figures)


@pytest.mark.faults
@pytest.mark.survives(32)
@pytest.mark.timeout(7200)
def test_many_kills_leave_the_warehouse_what_the_log_holds(
    disturbed: Disturbed, figures: Figures, request: pytest.FixtureRequest
) -> None:
    kill_series(disturbed, request.config.getoption("kills"), figures)
