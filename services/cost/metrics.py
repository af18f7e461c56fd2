"""The cost as metrics: a file for the node exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dataflows.runtime.metrics import Declared
from services.cost.errors import CostError
from services.cost.report import Report

A_DAY = Declared(
    GaugeMetricFamily, "tidegate_cost_a_day", "What the mean day costs.", ("part", "currency")
)
DEAREST = Declared(
    GaugeMetricFamily,
    "tidegate_cost_dearest_day",
    "What the dearest of the days costs, of all parts.",
    ("currency",),
)
BUDGET = Declared(
    GaugeMetricFamily,
    "tidegate_cost_budget_a_day",
    "What a day may cost; not there without a budget.",
    ("currency",),
)
LAST_DAY = Declared(
    GaugeMetricFamily,
    "tidegate_cost_last_day_timestamp_seconds",
    "The beginning of the last day that was priced, UTC.",
    ("currency",),
)
DECLARED = (A_DAY, DEAREST, BUDGET, LAST_DAY)


_EPOCH = date(1970, 1, 1).toordinal()


class CostCollector(Collector):
    """A report as metrics."""

    def __init__(self, report: Report):
        self._report = report

    def collect(self) -> Iterator[Metric]:
        report, currency = self._report, self._report.currency
        budget = [report.budget.a_day] if report.budget else []
        samples: list[tuple[Declared, list[str], Decimal]] = [
            *((A_DAY, [str(part.part), currency], part.a_day) for part in report.parts),
            (DEAREST, [currency], report.dearest.cost),
            *((BUDGET, [currency], amount) for amount in budget),
            (LAST_DAY, [currency], Decimal(_midnight_s(report))),
        ]
        metrics = {declared.name: declared.new() for declared in DECLARED}
        for declared, labels, value in samples:
            metrics[declared.name].add_metric(labels, float(value))  # type: ignore[attr-defined]
        yield from metrics.values()


def _midnight_s(report: Report) -> int:
    return (report.last.toordinal() - _EPOCH) * 86_400


def write_metrics(report: Report, file: Path) -> None:
    """Whole or not at all: what was there before stays until then.

    Raises:
        CostError: it cannot be written.
    """
    registry = CollectorRegistry()
    registry.register(CostCollector(report))
    try:
        write_to_textfile(str(file), registry)
    except OSError as error:
        raise CostError(
            f"{file}: cannot be written ({error.strerror}); name a file in a folder that you may "
            "write"
        ) from error
