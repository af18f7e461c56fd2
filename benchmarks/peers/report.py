"""The suite of runs, their results in a file, and the tables made from it."""

from __future__ import annotations

import os
import platform
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.peers.harness import Result, run
from benchmarks.peers.systems import SYSTEMS, System

RESULTS = Path(".cache/bench/peers.json")
WARM_UP_SHARE = 1 / 3
MANY_KEYS = 1_000_000
SPREAD = 0.15  # two runs agree when their ratios differ by no more
TITLES = {
    "sessions": "sessions",
    "tumbling": "tumbling windows",
    "pass_through": "pass-through",
    "scoring": "scoring",
}


@dataclass(frozen=True)
class Cell:
    """A comparison that every system takes part in."""

    workload: str
    keys: int
    mode: str


CELLS = (
    Cell("sessions", 20_000, "durable"),
    Cell("sessions", 20_000, "light"),
    Cell("sessions", 1_000, "durable"),
    Cell("sessions", MANY_KEYS, "durable"),
    Cell("tumbling", 20_000, "durable"),
    Cell("tumbling", 20_000, "light"),
    Cell("pass_through", 20_000, "durable"),
    Cell("pass_through", 20_000, "light"),
    Cell("scoring", 20_000, "durable"),
    Cell("scoring", 20_000, "light"),
)


class Results(msgspec.Struct):
    """What the runs on a machine showed, the last one of each kind and round."""

    machine: str
    runs: list[Result]

    def replace(self, new: Result) -> None:
        kept = [r for r in self.runs if (_kind(r), r.round) != (_kind(new), new.round)]
        self.runs = [*kept, new]

    def rounds(self, system: str, cell: Cell) -> dict[int, Result]:
        """The runs by their round."""
        wanted = (system, *_place(cell))
        return {run.round: run for run in self.runs if _kind(run) == wanted}

    def find(self, system: str, cell: Cell) -> Result | None:
        """The run in the middle of all rounds; one that failed, if there is one."""
        runs = sorted(self.rounds(system, cell).values(), key=lambda run: run.rate)
        failed = (run for run in runs if run.failed)
        return next(failed, runs[(len(runs) - 1) // 2] if runs else None)

    def ratio(self, system: str, cell: Cell) -> float | None:
        """How many times as many events a CPU-second Tidegate does, at the median of the rounds: a
        machine is not as fast in each. None where one has no rate."""
        ours = self.rounds("tidegate", Cell(cell.workload, cell.keys, "durable"))
        peers = self.rounds(system, cell)
        both = [(ours[n].rate, peers[n].rate) for n in sorted(ours.keys() & peers.keys())]
        ratios = [one / other for one, other in both if one and other]
        return median(ratios) if ratios else None


def _kind(run: Result) -> tuple[str, str, int, str]:
    return (run.system, run.workload, run.keys, run.mode)


def read_results(file: Path) -> Results:
    """What is in the file; nothing, where there is none."""
    if not file.exists():
        return Results(machine=this_machine(), runs=[])
    return msgspec.json.decode(file.read_bytes(), type=Results)


def this_machine() -> str:
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores ({_processor()}), "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def selected(
    peers: Sequence[str], workloads: Sequence[str], modes: Sequence[str], keys: Sequence[int]
) -> list[tuple[System, Cell]]:
    """The runs asked for; an empty choice takes all. Tidegate is told apart only as durable."""
    return [
        (system, cell)
        for cell in CELLS
        for system in SYSTEMS.values()
        if cell.mode in system.modes
        and (not peers or system.name in peers)
        and (not workloads or cell.workload in workloads)
        and (not modes or cell.mode in modes)
        and (not keys or cell.keys in keys)
    ]


def run_suite(
    runs: Iterable[tuple[System, Cell]],
    file: Path,
    scale: float,
    events: int | None,
    rounds: int = 1,
) -> Results:
    """Runs them one after the other; each result is in the file as soon as it is there.

    Args:
        scale: of keys and events.
        events: of each measured load, instead of what is set for the system.
        rounds: how often all systems take their turn at each comparison.
    """
    results = read_results(file)
    for number, system, cell in _turns(runs, rounds):
        many = 2 if cell.keys >= MANY_KEYS else 1
        load = events or int(system.events.get(cell.workload, 0) * scale) * many
        keys = max(int(cell.keys * scale), 10)
        print(f"{system.title}: {_title(cell)} ...", file=sys.stderr, flush=True)
        result = run(system, cell.workload, cell.mode, keys, load, int(load * WARM_UP_SHARE))
        result.keys, result.at = cell.keys, datetime.now(UTC).isoformat(timespec="seconds")
        result.round = number
        said = result.failed or f"{result.rate:,.0f} events/CPU-s, error {result.error:.2%}"
        print(f"  {said}", file=sys.stderr, flush=True)
        results = read_results(file)  # another suite may have added to it meanwhile
        results.machine = this_machine()
        results.replace(result)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    return results


def _turns(runs: Iterable[tuple[System, Cell]], rounds: int) -> Iterator[tuple[int, System, Cell]]:
    for cell, systems in groupby(runs, key=lambda run: run[1]):
        taking_part = [system for system, _ in systems]
        for number in range(rounds):
            yield from ((number, system, cell) for system in taking_part)


def _title(cell: Cell) -> str:
    return f"{TITLES[cell.workload]}, {_count(cell.keys)} keys, {cell.mode}"


def _count(number: int) -> str:
    return f"{number // 1_000_000}M" if number >= 1_000_000 else f"{number // 1_000}k"


def full_table(results: Results) -> str:
    """Every run, a table a workload, as Markdown; who does not take part says why below."""
    notes: list[str] = []
    parts = [_wrapped(f"{_days(results)}, on {results.machine}{_how_often(results)}.")]
    for workload, keys in dict.fromkeys((cell.workload, cell.keys) for cell in CELLS):
        cells = [cell for cell in CELLS if (cell.workload, cell.keys) == (workload, keys)]
        lines = [
            _line(results, cell, system, found, notes)
            for system in SYSTEMS.values()
            for cell in cells
            if (found := results.find(system.name, cell))
        ]
        if lines:
            title = f"**{TITLES[workload].capitalize()}, {_count(keys)} keys**\n\n"
            parts.append(title + _HEAD + "\n".join(lines))
    if notes:
        numbered = (_wrapped(f"{number}. {note}") for number, note in enumerate(notes, 1))
        parts.append("\n".join(numbered))
    return "\n\n".join(parts) + "\n"


_HEAD = (
    "| system | mode | events | per CPU-second | Tidegate is | error | memory |\n"
    "|---|---|---:|---:|---:|---:|---:|\n"
)


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text, 100, break_on_hyphens=False, subsequent_indent="   " if text[0].isdigit() else ""
    )


def _line(results: Results, cell: Cell, system: System, found: Result, notes: list[str]) -> str:
    head = f"| {system.title} | {cell.mode} |"
    if found.failed:
        note = f"{system.title}: {found.failed}"
        if note not in notes:
            notes.append(note)
        return f"{head} | - ({notes.index(note) + 1}) | | | |"
    return (
        f"{head} {found.events:,} | {found.rate:,.0f} | {_beside(results, system, cell)} | "
        f"{_share(found.error)} | {found.rss_mb:,.0f} MB |"
    )


def _beside(results: Results, system: System, cell: Cell) -> str:
    ratio = results.ratio(system.name, cell)
    return "" if system.name == "tidegate" or ratio is None else f"{_times(ratio)} as fast"


def short_table(results: Results) -> str:
    """Sessions of 20,000 users, durable: what README shows."""
    cell = CELLS[0]
    lines = [
        _wrapped(
            "Sessions of 20,000 users, Kafka to Kafka, every system as durable as it can be: "
            f"events per CPU-second, start-up taken off, on {results.machine}"
            f"{_how_often(results, cell)}."
        ),
        "",
        "| system | per CPU-second | Tidegate is | sessions missing, wrong or repeated |",
        "|---|---:|---:|---:|",
    ]
    for system in SYSTEMS.values():
        if not (found := results.find(system.name, cell)):
            continue
        said = (
            f"- ({textwrap.shorten(found.failed, 50)}) | | |"
            if found.failed
            else f"{found.rate:,.0f} | {_beside(results, system, cell)} | {_share(found.error)} |"
        )
        lines.append(f"| {system.title} | {said}")
    return "\n".join(lines) + "\n"


def _times(ratio: float) -> str:
    return f"{ratio:,.{0 if ratio >= 10 else 1 if ratio >= 2 else 2}f} x"


def _share(error: float) -> str:
    return "0" if error == 0 else f"{error:.3%}" if error < 0.01 else f"{error:.1%}"


def _how_often(results: Results, cell: Cell | None = None) -> str:
    taken = {run.round for run in results.runs if cell is None or _kind(run)[1:] == _place(cell)}
    return f"; medians of {len(taken)} rounds" if len(taken) > 1 else ""


def _place(cell: Cell) -> tuple[str, int, str]:
    return (cell.workload, cell.keys, cell.mode)


def _days(results: Results) -> str:
    days = sorted({run.at[:10] for run in results.runs if run.at}) or ["no run yet"]
    return " to ".join(dict.fromkeys([days[0], days[-1]]))


def comparison(one: Results, other: Results) -> tuple[str, bool]:
    """A table of the ratios of two runs, and whether each pair is within SPREAD of each other."""
    lines = ["| comparison | first | second | differ by |", "|---|---:|---:|---:|"]
    agree = True
    for cell in CELLS:
        for system in SYSTEMS.values():
            ratios = one.ratio(system.name, cell), other.ratio(system.name, cell)
            if system.name == "tidegate" or None in ratios:
                continue
            first, second = (ratio or 0.0 for ratio in ratios)
            differ = max(first, second) / min(first, second) - 1
            agree = agree and differ <= SPREAD
            mark = "" if differ <= SPREAD else " !"
            name = f"{system.title}, {_title(cell)}"
            lines.append(f"| {name} | {first:.2f} | {second:.2f} | {differ:.0%}{mark} |")
    return "\n".join(lines) + "\n", agree
