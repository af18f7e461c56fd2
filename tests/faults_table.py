"""The faults that Tidegate is to survive, and a table of which tests it survived them in.

A test says by `@pytest.mark.survives(number, ...)` which faults it is about, and by the fixture
`figures` what it counted. Results are kept in .cache/faults.json, one a test, the last one; every
run that has such tests prints the table of what is there and writes it to --table.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

HOUSE = Path(__file__).resolve().parents[1]
RESULTS = HOUSE / ".cache" / "faults.json"
WIDTH = 100

FAULTS = {
    1: "SIGKILL at seeded moments, any process, all flows",
    2: "SIGKILL at each point of a transaction: start, before commit, mid transaction, after "
    "commit, after snapshot",
    3: "ten kills while it recovers",
    4: "SIGTERM under load",
    5: "SIGTERM, then SIGKILL within a second",
    6: "slots moved from 1 process to 4 to 2",
    7: "a sibling process killed",
    8: "two instances on one slot",
    9: "a zombie: a process that was thought dead goes on",
    10: "broker down for minutes",
    11: "broker down at start",
    12: "the sink is out of reach",
    13: "the outcome of a transaction is unknown",
    14: "BigQuery: dropped replies, ALREADY_EXISTS, 5xx",
    15: "1 % poison",
    16: "the dead-letter topic is not there",
    17: "partitions added under load",
    18: "offsets lost to retention",
    19: "wall clock 5 minutes off, either way; one event a year ahead",
    20: "24 h late and 30 % shuffled",
    21: "1M keys of which 90 % expire",
    22: "disk full",
    23: "an older backup of the state restored",
    24: "renamed step, changed snapshot version",
    25: "all of it at once, for long (soak)",
    26: "network: latency",
    27: "network: connections reset",
    28: "network: black hole",
    29: "three brokers: a leader killed mid transaction",
    30: "three brokers: min.insync.replicas not met",
    31: "three brokers: leaders move (preferred leader election)",
    32: "the warehouse: load, builds, merges and dbt killed while events come in",
}


class Figures:
    """What a test counted, for the table. `seed` is the run's: `--seed`."""

    def __init__(self, seed: int):
        self.seed = seed
        self.counted: dict[str, object] = {}

    def add(self, **counted: object) -> None:
        self.counted |= counted
        print(self.text())

    def text(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.counted.items())


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    made = Figures(request.config.getoption("seed"))
    yield made
    request.node.user_properties += [("seed", made.seed), ("figures", made.text())]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=100, help="kills of the long series (faults)")
    parser.addoption("--seed", type=int, default=1, help="of whatever the tests of faults choose")
    parser.addoption("--soak", default="10m", help="how long the soak lasts: 10m, 24h")
    parser.addoption("--outage", default="20s", help="how long the broker is down: 20s, 10m")
    parser.addoption(
        "--table", default=str(RESULTS.with_suffix(".md")), help="file for the table of faults"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if survived := [n for mark in item.iter_markers("survives") for n in mark.args]:
            long = item.get_closest_marker("faults") is not None
            item.user_properties += [("survives", survived), ("long", long)]


class _Results:
    """This run's results, by test."""

    def __init__(self) -> None:
        self.new: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = dict(report.user_properties)
        if "survives" not in told:
            return
        today = str(datetime.now(UTC).date())
        result = self.new.setdefault(
            report.nodeid, {"result": "interrupted", "seconds": 0, "on": today}
        )
        result |= {name: told[name] for name in ("survives", "long", "seed", "figures")
                   if name in told}  # fmt: skip
        result["seconds"] += report.duration
        if report.outcome != "passed" or report.when == "call":
            result["result"] = report.outcome

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        if not self.new:
            return
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        known |= self.new
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(known, indent=1))
        target = Path(config.getoption("table"))
        target.write_text(page(known))
        terminalreporter.section("faults")
        for name, result in self.new.items():
            about = ",".join(map(str, result["survives"]))
            test, counted = name.partition("::")[2], result.get("figures", "")
            terminalreporter.write_line(
                f"{about:>5}  {result['result']:8}{result['seconds']:6.0f} s  {test}  {counted}"
            )
        terminalreporter.write_line(f"table of all that was run so far: {target}")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the process that collects everybody's results
        config.pluginmanager.register(_Results(), "faults-results")


def page(results: dict[str, dict[str, Any]]) -> str:
    """The table as a page of the documentation."""
    lines = [
        "# Faults",
        "",
        *textwrap.wrap(
            "Made by `make faults`: each fault, the tests in which it is survived, and what these "
            "counted when they were run last. All but those that say otherwise run against a real "
            "Kafka that the test starts; those of the warehouse, and of BigQuery, which is an "
            "emulator, from the embedded log. [Guarantees](guarantees.md) say how it is judged.",
            WIDTH,
        ),
        "",
        "| fault | test | result | took | seed | figures |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for number, fault in FAULTS.items():
        about = sorted((n, r) for n, r in results.items() if number in r["survives"])
        if not about:
            lines.append(f"| {number}. {fault} | | not run | | | |")
        for place, (name, result) in enumerate(about):
            file, _, test = name.partition("::")
            first = f"{number}. {fault}" if place == 0 else ""
            words = test.removeprefix("test_").replace("_", " ")
            lines.append(
                f"| {first} | [{words}](../../{file})"
                f" | {result['result']} {result['on']} | {result['seconds']:.0f} s"
                f" | {result.get('seed', '')} | {result.get('figures', '')} |"
            )
    return "\n".join([*lines, ""])
