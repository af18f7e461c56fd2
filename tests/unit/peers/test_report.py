"""The table shows every system, absent ones with the reason, and ratios of the same run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.__main__ import write_into
from benchmarks.peers.environments import NoPeer
from benchmarks.peers.harness import Result
from benchmarks.peers.report import (
    CELLS,
    Results,
    comparison,
    full_table,
    read_results,
    run_suite,
    selected,
    short_table,
)
from benchmarks.peers.systems import SYSTEMS, Place, System


def result(system: str, rate: int, **more: object) -> Result:
    first = CELLS[0]
    plain = {"workload": first.workload, "mode": first.mode, "keys": first.keys}
    said = {"events": rate, "cpu_seconds": 1.0, "at": "2026-01-02T03:04:05+00:00", **plain, **more}
    return msgspec.convert({"system": system, **said}, Result)


def results(*runs: Result) -> Results:
    return Results(machine="a machine", runs=list(runs))


def test_the_table_shows_ratio_and_error() -> None:
    table = full_table(
        results(result("tidegate", 400_000), result("quix", 5_000, error=0.125, rss_mb=99))
    )
    assert "a machine" in table
    assert "2026-01-02" in table
    assert "**Sessions, 20k keys**" in table
    assert "| Tidegate | durable | 400,000 | 400,000 |  | 0 | 0 MB |" in table
    assert "Quix Streams | durable | 5,000 | 5,000 | 80 x as fast | 12.5% | 99 MB |" in table


def test_who_is_faster_than_tidegate_is_shown_so() -> None:
    table = full_table(results(result("tidegate", 100_000), result("flink_sql", 200_000)))
    assert "0.50 x as fast" in table


def test_a_peer_that_cannot_be_had_is_a_row_with_the_reason() -> None:
    failed = result("faust", 0, events=0, cpu_seconds=0.0, failed="mvn is missing")
    runs = results(result("tidegate", 400_000), failed)
    assert "| Faust | durable | | - (1) |" in full_table(runs)
    assert "1. Faust: mvn is missing" in full_table(runs)
    assert "| Faust | - (mvn is missing) |" in short_table(runs)


def test_an_environment_that_cannot_be_made_is_in_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(place: Place, workload: str, mode: str) -> tuple[list[str], dict[str, str]]:
        raise NoPeer("there is no such thing")

    def no_broker(system: System, workload: str) -> object:
        raise NoPeer("java is missing")

    monkeypatch.setattr("benchmarks.peers.harness._place", no_broker)
    file = tmp_path / "peers.json"
    run_suite([(SYSTEMS["quix"], CELLS[0])], file, scale=0.001, events=100)
    (kept,) = read_results(file).runs
    assert kept.failed == "java is missing"


def test_a_new_result_replaces_the_one_of_its_kind(tmp_path: Path) -> None:
    kept = results(result("quix", 1), result("faust", 2))
    kept.replace(result("quix", 3))
    assert sorted(run.events for run in kept.runs) == [2, 3]


def test_two_runs_agree_within_the_spread() -> None:
    one = results(result("tidegate", 400_000), result("quix", 5_000))
    near = results(result("tidegate", 410_000), result("quix", 4_700))
    far = results(result("tidegate", 400_000), result("quix", 4_000))
    assert comparison(one, near)[1]
    text, agree = comparison(one, far)
    assert not agree
    assert "25% !" in text


def test_filters_choose_runs() -> None:
    chosen = selected(["flink_sql"], ["sessions"], ["light"], [])
    assert [(system.name, cell.mode) for system, cell in chosen] == [("flink_sql", "light")]
    every = selected([], [], [], [])
    assert {system.name for system, _ in every} == set(SYSTEMS)


def test_a_table_goes_between_its_markers_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- peers:start -->\nold\n<!-- peers:end -->\nb\n")
    write_into(page, "bench", "nothing\n")
    write_into(page, "peers", "new\n")
    assert page.read_text() == "a\n<!-- peers:start -->\nnew\n<!-- peers:end -->\nb\n"
