"""The warehouse, from a lake on disk to gold with every test run: what a user waits for."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from benchmarks.measured import Measured
from benchmarks.warehouse_lake import DAYS, make_lake, sizes, write_day
from dataflows.contracts import load_contracts
from dataflows.runtime.config import Config, load_config
from services.warehouse.bronze import bronze_tables


def warehouse_full(users: int, events: int) -> Measured:
    """Everything anew."""
    with tempfile.TemporaryDirectory() as directory:
        make_lake(_config(directory), users, events)
        return _timed(directory, "build")


def warehouse_day(users: int, events: int) -> Measured:
    """A day more, on top of all the others."""
    return _on_top(users, events, DAYS - 1, 1.0, "events", "build")


def warehouse_late(users: int, events: int) -> Measured:
    """Late events of one day in the middle: one in a hundred of it."""
    return _on_top(users, events, DAYS // 2, 0.01, "buffered", "reprocess")


def _on_top(users: int, events: int, day: int, share: float, kind: str, command: str) -> Measured:
    with tempfile.TemporaryDirectory() as directory:
        config = _config(directory)
        make_lake(config, users, events)
        files = list(config.lake_path.glob("clickstream/*/*"))
        if kind == "events":
            max(files).unlink()
        _timed(directory, "build")
        rows = sizes(users, events)["clickstream"]
        start, stop = rows * day // DAYS, rows * (day + 1) // DAYS
        if kind == "buffered":
            start, stop = rows, rows + int((stop - start) * share)
        table = bronze_tables(load_contracts(Path(config.schemas)))["clickstream"]
        with duckdb.connect() as database:
            database.execute("SET TimeZone = 'UTC'")
            write_day(database, config, table, day, start, stop, users, f"{kind}.clickstream")
        return _timed(directory, command)


def _config(directory: str) -> Config:
    return load_config(None, {}, {"data_dir": directory})


def _timed(directory: str, command: str) -> Measured:
    """The command as a user runs it, start-up and tests included; the memory of its largest
    process."""
    words = [sys.executable, "-m", "services.cli", "-d", directory, "warehouse", command]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measured(
        events=0,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        wall_seconds=time.perf_counter() - started,
        rss_mb=after.ru_maxrss / 1024,
    )
