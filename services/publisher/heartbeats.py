"""Heartbeats after the last file: idle partitions keep up, and sessions can close."""

from __future__ import annotations

from dataflows.connectors.records import END_OF_TIME_US, Output, heartbeat
from dataflows.contracts import Contract


def heartbeats(contract: Contract, time_us: int) -> list[Output]:
    """One heartbeat at `time_us` (microseconds) for each partition of the contract's raw topic."""
    return [heartbeat(contract.topic, number, time_us) for number in range(contract.partitions)]


def completion_time(last_us: int, gap_us: int, lateness_us: int, bound_us: int) -> int:
    """The event time (microseconds) from which nothing up to `last_us` can change any more.

    The watermark trails event time by the bound, and a session ends once it is past the gap;
    strictly past, hence the microsecond more.
    """
    return min(last_us + gap_us + lateness_us + bound_us + 1, END_OF_TIME_US)
