"""What a record costs in CPU: of the workers that run here, else as the configuration says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from prometheus_client.parser import text_string_to_metric_families

from dataflows.flows.topology import FLOWS, Topology
from dataflows.runtime.config import Config
from dataflows.runtime.metrics import LATENCY
from services.cost.volumes import Flow, Worker
from services.supervisor.groups import group_flows
from services.supervisor.readiness import WorkerHealth, worker_health, worker_metrics

ENOUGH_RECORDS = 100_000  # fewer, and the start of the process is most of it
_CPU = "process_cpu_seconds_total"
_PUBLISHED = f"{LATENCY.name}_count"


def workers(config: Config, topology: Topology) -> list[Worker]:
    """Those that the service runs, each flow with the CPU of a record of its input."""
    measured = dict(_measured(config))
    flows = {
        name: Flow(name, inputs, *measured.get(name, _configured(config, name)))
        for name, inputs in topology.inputs.items()
    }
    return [
        Worker(group.name, [flows[name] for name in group.flows])
        for group in group_flows(FLOWS, config.service.alone)
    ]


def _configured(config: Config, flow: str) -> tuple[Decimal, str]:
    cpu_us = config.cost.cpu_us[flow]
    return cpu_us, f"{cpu_us} µs a record (configured)"


def _measured(config: Config) -> Iterator[tuple[str, tuple[Decimal, str]]]:
    """Of each flow of a worker that has had enough to do; several in one worker share its mean."""
    for worker in worker_health(config):
        totals = _totals(config, worker)
        records = int(totals.get(_PUBLISHED, 0))
        if records >= ENOUGH_RECORDS:
            cpu_us = Decimal(str(totals[_CPU])) * 1_000_000 / records
            source = f"{cpu_us:.1f} µs a record (measured, of {records:,} that the worker had)"
            for flow in worker.flows:
                yield flow, (cpu_us, source)


def _totals(config: Config, worker: WorkerHealth) -> Mapping[str, float]:
    """What its metrics come to, over their labels; nothing if it does not answer."""
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(worker_metrics(config, worker)):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals
