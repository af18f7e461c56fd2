"""The last build as metrics: a file for the textfile collector of node exporter."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import duckdb
import msgspec
from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dataflows.runtime.metrics import Declared
from services.warehouse.contents import Contents, contents_of
from services.warehouse.database import open_database
from services.warehouse.dbt_process import Node
from services.warehouse.errors import ChecksFailed, WarehouseError
from services.warehouse.ledger import last_nodes
from services.warehouse.manifest import Limits, limits
from services.warehouse.place import Place

Outcome = Literal["built", "unchanged", "tests_failed", "failed"]

ENDED = Declared(
    GaugeMetricFamily,
    "tidegate_warehouse_build_timestamp_seconds",
    "When the last build ended, whatever came of it.",
    ("target",),
)
SECONDS = Declared(
    GaugeMetricFamily,
    "tidegate_warehouse_build_seconds",
    "How long the last build took.",
    ("target",),
)
OUTCOME = Declared(
    GaugeMetricFamily,
    "tidegate_warehouse_build_outcome",
    "1 for what the last build came to: built, unchanged, tests_failed, failed; 0 for the others.",
    ("target", "outcome"),
)
GOOD = Declared(
    GaugeMetricFamily,
    "tidegate_warehouse_good_build_timestamp_seconds",
    "When the build began that made what is asked now; not there before the first.",
    ("target",),
)
NODES = Declared(
    GaugeMetricFamily,
    "tidegate_warehouse_nodes",
    "Models, seeds and tests of the last build that ran any, by how they ended.",
    ("target", "kind", "status"),
)
MEASURED = Declared(
    GaugeMetricFamily,
    "tidegate_warehouse_test_measure",
    "What a test with limits of its own has measured, such as dead letters of 1,000 records.",
    ("target", "test"),
)
LIMIT = Declared(
    GaugeMetricFamily,
    "tidegate_warehouse_test_limit",
    "What that measure may be before the test warns, or fails and stops the build.",
    ("target", "test", "severity"),
)
ROWS = Declared(
    GaugeMetricFamily,
    "tidegate_warehouse_table_rows",
    "Rows of each table of silver and gold.",
    ("target", "layer", "table"),
)
NEWEST = Declared(
    GaugeMetricFamily,
    "tidegate_warehouse_table_newest_timestamp_seconds",
    "The newest row of each table that tells it, by arrival, else by event time, else by date.",
    ("target", "layer", "table"),
)
QUARANTINED = Declared(
    GaugeMetricFamily,
    "tidegate_warehouse_quarantined_records",
    "Events that are in no figure, by why.",
    ("target", "source", "reason"),
)
DEAD_LETTERS = Declared(
    GaugeMetricFamily,
    "tidegate_warehouse_dead_letters",
    "Records that are no event, by why.",
    ("target", "reason"),
)
DECLARED = (
    ENDED,
    SECONDS,
    OUTCOME,
    GOOD,
    NODES,
    MEASURED,
    LIMIT,
    ROWS,
    NEWEST,
    QUARANTINED,
    DEAD_LETTERS,
)
_log = logging.getLogger(__name__)


class Run(msgspec.Struct, frozen=True):
    """What a build came to: the nodes that dbt has run; times in seconds since the epoch."""

    target: str
    outcome: Outcome
    ended: float
    seconds: float
    nodes: Sequence[Node] = ()


class BuildCollector(Collector):
    """A build, and what it left, as metrics."""

    def __init__(self, run: Run, contents: Contents, limits: Mapping[str, Limits]):
        self._run, self._contents, self._limits = run, contents, limits

    def collect(self) -> Iterator[Metric]:
        metrics = {declared.name: declared.new() for declared in DECLARED}
        for declared, labels, value in self._samples():
            labels = (self._run.target, *labels)
            metrics[declared.name].add_metric(labels, value)  # type: ignore[attr-defined]
        yield from metrics.values()

    def _samples(self) -> Iterator[tuple[Declared, tuple[str, ...], float]]:
        run, contents = self._run, self._contents
        yield ENDED, (), run.ended
        yield SECONDS, (), run.seconds
        for outcome in get_args(Outcome):
            yield OUTCOME, (outcome,), float(outcome == run.outcome)
        if contents.built is not None:
            yield GOOD, (), contents.built
        for labels, count in Counter((node.kind, node.status) for node in run.nodes).items():
            yield NODES, labels, count
        for node in run.nodes:
            if node.name in self._limits:
                yield MEASURED, (node.name,), node.failures
        for test, allowed in self._limits.items():
            for severity, limit in allowed.items():
                yield LIMIT, (test, severity), limit
        for table, rows in contents.rows.items():
            yield ROWS, table, rows
        for table, newest in contents.newest.items():
            yield NEWEST, table, newest
        for labels, count in contents.quarantined.items():
            yield QUARANTINED, labels, count
        for reason, count in contents.dead_letters.items():
            yield DEAD_LETTERS, (reason,), count


@contextmanager
def measured(place: Place, nodes: Sequence[Node], target: str = "duckdb") -> Iterator[None]:
    """Leaves metrics of the build inside beside the warehouse, whatever comes of it.

    A file that cannot be written is told in one line and fails no build: its time stands still.

    Args:
        nodes: what dbt has run, filled inside.
    """
    started = time.monotonic()
    outcome: Outcome = "failed"
    try:
        yield
        outcome = "built" if nodes else "unchanged"
    except ChecksFailed:
        outcome = "tests_failed"
        raise
    finally:
        try:
            run = Run(target, outcome, time.time(), time.monotonic() - started, nodes)
            _write(place, run)
        except WarehouseError as error:
            _log.warning("no metrics of this build: %s", error)


def _write(place: Place, run: Run) -> None:
    contents = Contents()
    if place.file.is_file():
        with open_database(place.file, read_only=True) as database:
            try:
                contents = contents_of(database)
                if not run.nodes:
                    run = msgspec.structs.replace(run, nodes=last_nodes(database))
            except duckdb.Error as error:
                first, _, _ = str(error).partition("\n")
                raise WarehouseError(f"{place.file}: {first}") from error
    write_metrics(BuildCollector(run, contents, limits(place.dbt)), place.metrics)


def write_metrics(collector: BuildCollector, file: Path) -> None:
    """Whole or not at all: what was there before stays until then.

    Raises:
        WarehouseError: it cannot be written.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        write_to_textfile(str(file), registry)
    except OSError as error:
        raise WarehouseError(
            f"{file}: cannot be written ({error.strerror}); make room, or make it writable"
        ) from error
