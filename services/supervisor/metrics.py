"""What the supervisor's own /metrics says about its workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dataflows.runtime.metrics import Declared
from services.supervisor.supervise import Worker

UP = Declared(GaugeMetricFamily, "tidegate_worker_up", "1 while the process runs.", ("worker",))
RESTARTS = Declared(
    CounterMetricFamily,
    "tidegate_worker_restarts",
    "Restarts of the worker after a crash.",
    ("worker",),
)


class WorkerCollector(Collector):
    """Reads the workers when it is asked."""

    def __init__(self, workers: Sequence[Worker]):
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        up, restarts = UP.new(), RESTARTS.new()
        for worker in self._workers:
            up.add_metric([worker.group.name], float(worker.pid is not None))  # type: ignore[attr-defined]
            restarts.add_metric([worker.group.name], worker.restarts)  # type: ignore[attr-defined]
        yield from (up, restarts)


def registry(workers: Sequence[Worker]) -> CollectorRegistry:
    """The supervisor's metrics, and those of its process."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    made.register(WorkerCollector(workers))
    return made
