"""Compiles every numba kernel by using it once; the machine code is cached beside the source."""

from __future__ import annotations

import numpy as np

from dataflows.contracts.timestamps import format_timestamps, parse_timestamps
from dataflows.eventtime.sessions import Sessions, SessionSettings
from dataflows.features.customer import CustomerFeatures
from dataflows.features.device import DeviceFeatures


def compile_kernels() -> None:
    """Takes seconds the first time and a fraction of one afterwards."""
    times_us, _ = parse_timestamps(["2026-01-01T00:00:00Z", 1])
    format_timestamps(times_us)
    settings = SessionSettings(
        gap_us=1, bound_us=1, lateness_us=1, max_duration_us=10, max_events=10
    )
    sessions = Sessions(settings)
    kinds = np.zeros(2, np.uint8)
    sessions.process(np.array([1, 100], np.int64), ["a", "b"], kinds, kinds)
