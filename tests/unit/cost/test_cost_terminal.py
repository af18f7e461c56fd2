"""The text that a person reads, as it is kept in a file, and the metrics that an alert reads."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from cost_samples import DAYS, PRICES, measured, settings_of
from prometheus_client.parser import text_string_to_metric_families

from services.cost.errors import CostError
from services.cost.metrics import write_metrics
from services.cost.report import Report, cost_report
from services.cost.terminal import lines

GOLDEN = Path(__file__).with_name("cost.txt")


def report(budget: str = "900", *, scale: str = "1") -> Report:
    return cost_report(measured(), DAYS, PRICES, settings_of(), Decimal(scale), Decimal(budget))


def test_the_golden_text() -> None:
    assert lines(report()) == GOLDEN.read_text("utf-8").splitlines()


def test_it_fits_a_terminal() -> None:
    assert max(map(len, lines(report(scale="1000")))) <= 100


def test_a_budget_that_is_kept_is_said_to_be() -> None:
    assert "✓ No day is above 50 % of the budget of 100000 USD a day." in lines(report("100000"))
    assert not [line for line in lines(report("0")) if "budget" in line]


def test_a_scale_is_said() -> None:
    assert lines(report(scale="10"))[0].startswith("A day of 10 times the traffic of 2026-05-01 to")


def samples(file: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(file.read_text("utf-8")):
        for sample in family.samples:
            assert sample.labels["currency"] == "USD"
            found.setdefault(sample.name, {})[sample.labels.get("part", "")] = sample.value
    return found


def test_metrics_are_the_reports_figures(tmp_path: Path) -> None:
    file, told = tmp_path / "tidegate.prom", report("900.50")
    file.write_text("what was there before\n")
    write_metrics(told, file)
    found = samples(file)
    assert found["tidegate_cost_a_day"] == {part.part: float(part.a_day) for part in told.parts}
    assert found["tidegate_cost_dearest_day"] == {"": float(max(d.cost for d in told.days))}
    assert found["tidegate_cost_budget_a_day"] == {"": 900.5}
    assert found["tidegate_cost_last_day_timestamp_seconds"] == {"": 1777766400.0}
    assert list(tmp_path.iterdir()) == [file]


def test_without_a_budget_there_is_no_metric_of_one(tmp_path: Path) -> None:
    write_metrics(report("0"), tmp_path / "tidegate.prom")
    assert "tidegate_cost_budget_a_day" not in samples(tmp_path / "tidegate.prom")


def test_metrics_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CostError, match=r"nowhere/x\.prom: cannot be written \(No such file"):
        write_metrics(report(), tmp_path / "nowhere" / "x.prom")
