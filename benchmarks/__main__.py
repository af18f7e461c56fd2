"""Runs the cases, each several times in a process of its own, and prints a table of medians.

python -m benchmarks [--runs 3] [--only sessionize] [--scale 0.1] [--write README.md]
python -m benchmarks --only peers [--peer flink_sql] [--workload sessions] [--mode light]
python -m benchmarks --compare first.json second.json
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.measured import NOT_MEASURED, Measured
from benchmarks.peers.report import (
    RESULTS,
    TITLES,
    comparison,
    full_table,
    read_results,
    run_suite,
    selected,
    short_table,
)
from benchmarks.peers.systems import SYSTEMS


@dataclass(frozen=True)
class Row:
    """A line of the table: a case at a size."""

    name: str
    case: str
    users: int
    events: int


ROWS = (
    Row("session kernel alone, 20k users", "sessions_kernel", 20_000, 2_000_000),
    Row("session kernel alone, 1M users", "sessions_kernel", 1_000_000, 3_000_000),
    Row("sessionize, 20k users", "sessionize", 20_000, 1_000_000),
    Row("sessionize, 1M users", "sessionize", 1_000_000, 3_000_000),
    Row("ingest, 20k users", "ingest", 20_000, 500_000),
    Row("sessionize on Kafka, 1k users", "sessionize_on_kafka", 1_000, 1_000_000),
    Row("sessionize on Kafka, 20k users", "sessionize_on_kafka", 20_000, 1_000_000),
    Row("sessionize on Kafka, 1M users", "sessionize_on_kafka", 1_000_000, 6_000_000),
    Row("the same without snapshots", "sessionize_on_kafka_unsaved", 1_000_000, 6_000_000),
    Row("ingest on Kafka, 20k users", "ingest_on_kafka", 20_000, 500_000),
    Row("features on Kafka, 20k users", "features_on_kafka", 20_000, 300_000),
    Row("features and score on Kafka, 20k users", "scoring_on_kafka", 20_000, 300_000),
    Row("features and score, 20k users", "scoring", 20_000, 200_000),
    Row("load into the lake", "load", 20_000, 300_000),
    Row("load into a BigQuery emulator", "load_into_bigquery", 20_000, 300_000),
    Row("restart with 1M users of state", "restart", 1_000_000, 3_000_000),
    Row("longest of 60 snapshots, 1M users", "snapshot_stall_10s", 1_000_000, 3_000_000),
    Row("warehouse, 10M events, all anew", "warehouse_full", 200_000, 10_000_000),
    Row("warehouse, 10M events, a day more", "warehouse_day", 200_000, 10_000_000),
    Row("warehouse, 10M events, a late day", "warehouse_late", 200_000, 10_000_000),
    Row("anomaly scores, 10k series", "anomaly_scores", 10_000, 2_000_000),
    Row("half-space trees by river, 100 series", "anomaly_scores_river", 100, 50_000),
    Row("anomaly scores: NAB, shared groups", "nab_score", 1, 1),
    Row("five windows of a spec's features, 200k entities", "timelines_kernel", 200_000, 2_000_000),
    Row("the same by river, 20k entities", "timelines_river", 20_000, 20_000),
    Row("model, 1,000 rows at once", "model_batches", 1, 500_000),
    Row("the same by scikit-learn", "model_batches_scikit_learn", 1, 500_000),
    Row("model, one row at a time", "model_one_row", 1, 50_000),
    Row("the same by scikit-learn", "model_one_row_scikit_learn", 1, 2_000),
    Row("forest of `train`, 1,000 rows at once", "forest_batches", 1, 300_000),
    Row("the same by scikit-learn", "forest_batches_scikit_learn", 1, 300_000),
    Row("the same by treelite, compiled to C", "forest_batches_treelite", 1, 100_000),
    Row("features of past payments, 200k customers", "history_features", 200_000, 2_000_000),
    Row("a rule's backtest over past payments", "rule_backtest", 200_000, 2_000_000),
    Row("stock Bytewax session windows, 20k users", "stock_bytewax", 20_000, 100_000),
)


def measure(row: Row, scale: float) -> Measured | None:
    """Runs one case once; None where the machine lacks what it needs, which is told."""
    users, events = max(int(row.users * scale), 10), max(int(row.events * scale), 1_000)
    command = [sys.executable, "-m", "benchmarks.cases", row.case, str(users), str(events)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == NOT_MEASURED:
        print(done.stderr.splitlines()[-1], file=sys.stderr)
        return None
    if done.returncode:
        sys.exit(f"benchmark {row.name} failed:\n{done.stderr}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Measured)


def line(row: Row, runs: list[Measured]) -> str:
    """The row's medians as a line of Markdown."""
    cpu = statistics.median(run.cpu_seconds for run in runs)
    wall = statistics.median(run.wall_seconds for run in runs)
    memory = max(run.rss_mb for run in runs)
    rates = sorted(run.events / run.cpu_seconds for run in runs)
    if runs[0].figure:
        middle, spread = runs[0].figure, ""
    elif runs[0].events:
        middle = f"{statistics.median(rates):,.0f}"
        spread = f"{rates[0]:,.0f} .. {rates[-1]:,.0f}"
    else:
        middle, spread = f"{wall * 1e3:,.0f} ms", f"CPU {cpu * 1e3:,.0f} ms"
    return f"| {row.name} | {middle} | {spread} | {memory:,.0f} MB |"


def table(lines: list[str], runs: int) -> str:
    head = (
        f"Events per CPU-second of the worker, start-up taken off; medians of {runs} runs on\n"
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}.\n\n"
        "| what | median | range | memory |\n|---|---:|---:|---:|\n"
    )
    return head + "\n".join(lines) + "\n"


def write_into(file: Path, name: str, text: str) -> None:
    """Replaces what stands between the markers of that name, where the file has them."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, found, rest = file.read_text("utf-8").partition(start)
    if found:
        _, _, after = rest.partition(end)
        file.write_text(f"{before}{start}\n{text}{end}{after}", "utf-8")


def cases(arguments: argparse.Namespace) -> None:
    """Measures Tidegate's cases, prints the table and writes it."""
    lines = []
    for row in ROWS:
        if not arguments.only or arguments.only in row.case:
            print(f"{row.name} ...", file=sys.stderr, flush=True)
            runs = [measure(row, arguments.scale) for _ in range(arguments.runs)]
            if measured := [run for run in runs if run is not None]:
                lines.append(line(row, measured))
    text = table(lines, arguments.runs)
    print(text)
    for file in arguments.write:
        write_into(file, "bench", text)


def peers(arguments: argparse.Namespace) -> None:
    """Measures Tidegate beside its peers, prints the table of all results and writes it."""
    if arguments.show:
        results = read_results(arguments.results)
    else:
        runs = selected(arguments.peer, arguments.workload, arguments.mode, arguments.keys)
        results = run_suite(
            runs, arguments.results, arguments.scale, arguments.events, arguments.rounds
        )
    print(full_table(results))
    for file in arguments.write:
        write_into(file, "peers", full_table(results))
        write_into(file, "peers-short", short_table(results))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--runs", type=int, default=3, help="of each of Tidegate's cases")
    add("--only", help="cases whose name contains this, or peers")
    add("--scale", type=float, default=1.0, help="of users and events")
    add("--write", type=Path, metavar="FILE", action="append", default=[], help="has the markers")
    of_peers = parser.add_argument_group("beside peers")
    add = of_peers.add_argument
    add("--peer", action="append", default=[], choices=list(SYSTEMS), help="only these systems")
    add("--workload", action="append", default=[], choices=list(TITLES))
    add("--mode", action="append", default=[], choices=["durable", "light"])
    add("--keys", action="append", default=[], type=int, help="only with so many keys")
    add("--events", type=int, help="of each measured load")
    add("--rounds", type=int, default=1, help="all systems take their turns so often")
    add("--results", type=Path, default=RESULTS, help="kept there; a new one replaces the old")
    add("--show", action="store_true", help="the tables of the results, without a run")
    add("--compare", type=Path, nargs=2, metavar="RESULTS", help="do the ratios of two agree?")
    arguments = parser.parse_args()
    if arguments.compare:
        text, agree = comparison(*map(read_results, arguments.compare))
        print(text)
        sys.exit(not agree)
    of_peers_only = arguments.only == "peers" or arguments.peer or arguments.show
    if not of_peers_only:
        cases(arguments)
    if of_peers_only or not arguments.only:
        peers(arguments)


if __name__ == "__main__":
    main()
