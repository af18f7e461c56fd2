"""Event to alert: from the arrival of the raw transaction to the arrival of its alert."""

from __future__ import annotations

import msgspec
import numpy as np

from dataflows.connectors.log import Log
from dataflows.contracts.timestamps import parse_timestamps
from services.status.peek import peek_records


class _Alert(msgspec.Struct):
    arrived_at: str


def alert_latencies_ms(log: Log) -> tuple[float, float]:
    """(p50, p99) in milliseconds over all alerts; nan without any."""
    records = [r for r in peek_records(log, "alerts", None, 0, 2**62) if r.value]
    if not records:
        return float("nan"), float("nan")
    alerts = [msgspec.json.decode(r.value or b"", type=_Alert) for r in records]
    arrived_us, _ = parse_timestamps([alert.arrived_at for alert in alerts])
    latency_us = np.array([r.arrival_us for r in records]) - arrived_us
    p50, p99 = np.percentile(latency_us, [50, 99]) / 1_000
    return float(p50), float(p99)
