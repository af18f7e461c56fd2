"""The summary, as a person at an 80-column terminal reads it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
import report_shop as shop
from rich.cells import cell_len
from rich.console import Console

from services.report import terminal
from services.report.facts import gather
from services.report.model import Facts, RunFigures
from services.report.terminal import print_summary, summary

GOLDEN = Path(__file__).with_name("summary.txt")


def printed(facts: Facts, width: int = 80, encoding: str = "utf-8", color: bool = False) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    console = Console(file=file, width=width, force_terminal=color, no_color=not color)
    print_summary(facts, console)
    file.flush()
    return raw.getvalue().decode(encoding)


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return shop.facts(tmp_path)


def test_the_golden_summary(facts: Facts) -> None:
    assert lines(printed(facts)) == lines(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("width", [80, 132, 200])
def test_never_wider_than_80_columns(facts: Facts, width: int) -> None:
    assert max(map(len, lines(printed(facts, width)))) <= 80


def test_colour_only_adds_colour(facts: Facts) -> None:
    coloured = printed(facts, color=True)
    assert "\x1b[" in coloured
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(summary(facts))
    assert lines(console.export_text()) == lines(printed(facts))


def test_a_terminal_that_knows_only_ascii(facts: Facts) -> None:
    text = printed(shop.with_strings(facts, ["Ωmega ✓ 東京"]), encoding="ascii")
    assert "It adds up" in text
    assert "######" in text


def test_what_does_not_add_up_is_loud(tmp_path: Path) -> None:
    shop.write_lake(tmp_path)
    totals = shop.totals()
    totals[0].records_in += 1_000
    facts = gather(tmp_path, totals, shop.truth(), [], shop.FIGURES)
    text = printed(facts)
    assert "✗ IT DOES NOT ADD UP: 1 of" in text
    assert "✗ ingest: records in, against their fates: expected 1,020, got 20 (-1,000)" in text
    assert "It adds up" not in text


def test_what_gold_holds_where_it_was_built(facts: Facts) -> None:
    text = printed(msgspec.structs.replace(facts, warehouse=shop.WAREHOUSE))
    assert "29 tables of a star schema, built and tested by 116 tests in 12 s." in text
    said = " ".join(text.split())
    assert "3 purchases on 2 days came to 10.30 EUR; most on 2026-01-01: 7.30 EUR." in said


def test_a_run_of_nothing(tmp_path: Path) -> None:
    figures = RunFigures(
        events=0,
        wall_seconds=0.0,
        events_per_second=0.0,
        alert_latency_p50_ms=float("nan"),
        alert_latency_p99_ms=float("nan"),
    )
    text = printed(gather(tmp_path, [], None, [], figures))
    for section in ("Sessions", "Funnel", "Fraud", "Late", "Dead", "Speed", "Reconciliation"):
        assert f"── {section}" in text
    assert "nan" not in text
    assert "No flow has run." in text


def test_strangers_strings_steer_no_terminal(
    facts: Facts, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naughty = json.loads((shared_data / "naughty_strings.json").read_text(encoding="utf-8"))
    strings = [
        *naughty,
        "\x1b[2J\x1b]0;owned\x07",
        "[bold red]markup[/]",
        "\u202eleft",
        "x" * 9_999,
    ]
    monkeypatch.setattr(terminal, "EXPLAINED_ALERTS", 10_000)
    text = printed(shop.with_strings(facts, strings))
    assert text.count("Why:") == 2 * len(strings)
    assert {char for char in text if not char.isprintable()} == {"\n"}
    assert max(map(cell_len, lines(text))) <= 80
    assert len(text) < 2_000 * len(strings)


def test_markup_in_a_strangers_string_is_text(facts: Facts) -> None:
    assert "[bold red]u[/]" in printed(shop.with_strings(facts, ["[bold red]u[/]"]))
