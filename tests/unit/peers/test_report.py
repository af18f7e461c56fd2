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


def test_of_several_rounds_the_middle_counts_and_ratios_are_of_a_round() -> None:
    rates = {"tidegate": (400_000, 200_000, 300_000), "quix": (4_000, 4_000, 5_000)}
    kept = results(
        *(result(name, rate, round=n) for name, rs in rates.items() for n, rate in enumerate(rs))
    )
    table = full_table(kept)
    assert "; medians of 3 rounds." in table
    assert "| Tidegate | durable | 300,000 | 300,000 |" in table
    assert "Quix Streams | durable | 4,000 | 4,000 | 60 x as fast |" in table  # 100, 50 and 60
    assert "; medians of 3 rounds." in " ".join(short_table(kept).split())
    assert kept.ratio("faust", CELLS[0]) is None


def test_all_systems_take_their_turn_in_each_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(system: System, workload: str, mode: str, *_: int) -> Result:
        return Result(system=system.name, workload=workload, mode=mode, keys=0, failed="no time")

    monkeypatch.setattr("benchmarks.peers.report.run", run)
    both = [(SYSTEMS[name], cell) for cell in CELLS[:2] for name in ("quix", "faust")]
    kept = run_suite(both, tmp_path / "peers.json", scale=0.001, events=100, rounds=2)
    assert [(r.mode, r.round, r.system) for r in kept.runs] == [
        (mode, number, name)
        for mode in ("durable", "light")
        for number in (0, 1)
        for name in ("quix", "faust")
    ]


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
