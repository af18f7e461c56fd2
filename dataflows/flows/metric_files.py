"""Which metrics are counted: those of one's own, or those that come with Tidegate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dataflows.contracts import Contract
from dataflows.detection.metrics import MetricError, Metrics, fitting_metrics, load_metrics
from dataflows.runtime.config import Config


def configured_metrics(
    config: Config, contracts: Mapping[str, Contract]
) -> tuple[Metrics, list[MetricError]]:
    """The metrics that are counted; and why some are not that came with Tidegate, for its own
    contracts, and do not fit these.

    Raises MetricError: one's own cannot be used.
    """
    folder = Path(config.metrics)
    if folder == Path(Config().metrics):
        return fitting_metrics(folder, contracts)
    return load_metrics(folder, contracts), []
