"""Heartbeats in a batch: records that carry time and nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataflows.connectors.records import Records, heartbeat_time


def heartbeat_rows(records: Records) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which records are heartbeats, and the event time each announces (0 for the others)."""
    found = np.zeros(len(records), np.bool_)
    times_us = np.zeros(len(records), np.int64)
    for row, headers in enumerate(records.headers or ()):
        if headers and records.values[row] is None:
            time_us = heartbeat_time(headers)
            if time_us is not None:
                found[row], times_us[row] = True, time_us
    return found, times_us
