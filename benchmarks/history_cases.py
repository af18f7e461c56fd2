"""The past: features of a lake's payments, and a rule on them."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import duckdb

from benchmarks.measured import Measured
from benchmarks.warehouse_lake import DAYS, write_day
from dataflows.contracts import load_contracts
from dataflows.detection.rules import load_rules
from dataflows.runtime.config import Config, load_config
from services.backtest.backtest import backtest
from services.history.features import open_history
from services.warehouse.bronze import bronze_tables


def history_features(users: int, events: int) -> Measured:
    """The catalogue's features of every payment, from the lake to a file."""
    with tempfile.TemporaryDirectory() as directory:
        config = _lake(directory, users, events)
        started = time.process_time(), time.perf_counter()
        open_history(config)
        return _measured(events, *started)


def rule_backtest(users: int, events: int) -> Measured:
    """A rule beside ten others, over features that are there."""
    with tempfile.TemporaryDirectory() as directory:
        config = _lake(directory, users, events)
        rules = load_rules(Path(config.rules))
        (rule,) = (r for r in rules.live if r.rule.id == "card_burst")
        open_history(config)
        started = time.process_time(), time.perf_counter()
        answer = backtest(open_history(config), rule, rules.live)
        assert answer.payments.payments == events
        return _measured(events, *started)


def _lake(directory: str, users: int, payments: int) -> Config:
    config = load_config(None, {}, {"data_dir": directory})
    table = bronze_tables(load_contracts(Path(config.schemas)))["transactions"]
    bounds = [payments * day // DAYS for day in range(DAYS + 1)]
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        for day in range(DAYS):
            write_day(database, config, table, day, bounds[day], bounds[day + 1], users)
    return config


def _measured(events: int, cpu_started: float, wall_started: float) -> Measured:
    return Measured(
        events=events,
        cpu_seconds=time.process_time() - cpu_started,
        wall_seconds=time.perf_counter() - wall_started,
        rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
