"""What a running slot knows about itself; metrics, health and status read it."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from dataflows.connectors.log import Marker

LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_EDGES_US = np.array(LATENCY_BUCKETS_S) * 1e6


class SlotStats:
    """Written by the slot's thread alone, read by any."""

    def __init__(self, flow: str, topic: str, partition: int):
        self.flow, self.topic, self.partition = flow, topic, partition
        self.marker: Marker | None = None
        self.running = False
        self.stopped = False
        self.failure: BaseException | None = None
        self.polled = time.monotonic()
        self.state_bytes = 0
        self.snapshot_seconds = 0.0
        self.latency_counts = np.zeros(len(LATENCY_BUCKETS_S) + 1, np.int64)
        self.latency_sum_s = 0.0

    @property
    def next_offset(self) -> int | None:
        return self.marker.next_offset if self.marker else None

    @property
    def first_offset(self) -> int:
        return self.marker.first_offset if self.marker else 0

    def resume(self, marker: Marker | None) -> None:
        self.marker = marker

    def committed(self, marker: Marker, arrival_us: NDArray[np.int64]) -> None:
        """Records what a transaction covered; its latency is arrival to commit."""
        self.marker = marker
        waited_us = np.maximum(time.time_ns() // 1_000 - arrival_us, 0)
        self.latency_counts += np.bincount(
            np.searchsorted(_EDGES_US, waited_us), minlength=len(self.latency_counts)
        )
        self.latency_sum_s += float(waited_us.sum()) / 1e6

    def snapshotted(self, size: int, seconds: float) -> None:
        self.state_bytes, self.snapshot_seconds = size, seconds
