"""Runs the cases, each several times in a process of its own, and prints a table of medians.

python -m benchmarks [--runs 3] [--only sessionize] [--scale 0.1] [--write README.md]
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

from benchmarks.measured import Measured

START, END = "<!-- bench:start -->", "<!-- bench:end -->"


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
    Row("sessionize on Kafka, 1M users", "sessionize_on_kafka", 1_000_000, 3_000_000),
    Row("ingest on Kafka, 20k users", "ingest_on_kafka", 20_000, 500_000),
    Row("features on Kafka, 20k users", "features_on_kafka", 20_000, 300_000),
    Row("features and score on Kafka, 20k users", "scoring_on_kafka", 20_000, 300_000),
    Row("features and score, 20k users", "scoring", 20_000, 200_000),
    Row("load into the lake", "load", 20_000, 300_000),
    Row("restart with 1M users of state", "restart", 1_000_000, 3_000_000),
    Row("stock Bytewax session windows, 20k users", "stock_bytewax", 20_000, 100_000),
)


def measure(row: Row, scale: float) -> Measured:
    """Runs one case once."""
    users, events = max(int(row.users * scale), 10), max(int(row.events * scale), 1_000)
    command = [sys.executable, "-m", "benchmarks.cases", row.case, str(users), str(events)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"benchmark {row.name} failed:\n{done.stderr}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Measured)


def line(row: Row, runs: list[Measured]) -> str:
    """The row's medians as a line of Markdown."""
    cpu = statistics.median(run.cpu_seconds for run in runs)
    wall = statistics.median(run.wall_seconds for run in runs)
    memory = max(run.rss_mb for run in runs)
    rates = sorted(run.events / run.cpu_seconds for run in runs)
    if runs[0].events:
        middle = f"{statistics.median(rates):,.0f}"
        spread = f"{rates[0]:,.0f} .. {rates[-1]:,.0f}"
    else:
        middle, spread = f"{wall:.2f} s", f"CPU {cpu:.2f} s"
    return f"| {row.name} | {middle} | {spread} | {memory:,.0f} MB |"


def table(lines: list[str], runs: int) -> str:
    head = (
        f"Events per CPU-second of the worker, start-up taken off; medians of {runs} runs on\n"
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}.\n\n"
        "| what | median | range | memory |\n|---|---:|---:|---:|\n"
    )
    return head + "\n".join(lines) + "\n"


def write_into(file: Path, text: str) -> None:
    """Replaces what stands between the markers."""
    before, _, rest = file.read_text("utf-8").partition(START)
    _, _, after = rest.partition(END)
    file.write_text(f"{before}{START}\n{text}{END}{after}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--scale", type=float, default=1.0, help="of users and events")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into FILE")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if not arguments.only or arguments.only in row.case]
    lines = []
    for row in rows:
        print(f"{row.name} ...", file=sys.stderr, flush=True)
        lines.append(line(row, [measure(row, arguments.scale) for _ in range(arguments.runs)]))
    text = table(lines, arguments.runs)
    print(text)
    if arguments.write:
        write_into(arguments.write, text)


if __name__ == "__main__":
    main()
