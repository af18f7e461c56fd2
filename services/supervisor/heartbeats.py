"""Heartbeats into idle raw partitions, so that time passes and sessions close without traffic."""

from __future__ import annotations

import time
from collections.abc import Mapping

from dataflows.connectors.log import Log, LogUnreachable, Marker
from dataflows.connectors.records import END_OF_TIME_US, heartbeat
from dataflows.runtime.config import Config

CHECK_EVERY_S = 1.0


class HeartbeatWriter:
    """Writes to the raw partitions that ingest has finished and nobody writes to.

    Event time goes on from the newest event at the pace of this process's monotonic clock: a step
    of the wall clock moves nothing, an outage makes nothing late, and replayed history is not
    jerked into the present.
    """

    def __init__(self, log: Log, config: Config, raw_topics: Mapping[str, int]):
        self._log, self._raw_topics = log, raw_topics
        self._bound_us = config.event_time.bound
        self._after_s = config.service.heartbeat_after.seconds
        self._idle_since: dict[tuple[str, int], tuple[int, float, int]] = {}
        self._next_check = 0.0

    def tick(self) -> None:
        """Call often; looks at the log once a second.

        Raises:
            LogUnreachable: event time stands still until the log is back, as nobody can write.
        """
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_EVERY_S
        try:
            self._attend_all(now)
        except LogUnreachable:
            self._idle_since.clear()
            raise

    def _attend_all(self, now: float) -> None:
        markers = self._log.markers("ingest.")
        for topic, partitions in self._raw_topics.items():
            for partition in range(partitions):
                marker = markers.get(f"ingest.{topic}.{partition}")
                if marker is not None and marker.watermark_us > -END_OF_TIME_US:
                    self._attend(topic, partition, marker, now)

    def _attend(self, topic: str, partition: int, marker: Marker, now: float) -> None:
        place = (topic, partition)
        _, high = self._log.offsets(topic, partition)
        known = self._idle_since.get(place)
        caught_up = high == marker.next_offset
        if known is None or known[0] != high:
            if caught_up:
                self._idle_since[place] = (high, now, marker.watermark_us + self._bound_us)
            return
        _, since, reached_us = known
        if not caught_up or now - since < self._after_s or reached_us >= END_OF_TIME_US // 2:
            return
        time_us = reached_us + round((now - since) * 1e6)
        self._log.append([heartbeat(topic, partition, time_us)])
        # The heartbeat is the partition's only new record: time goes on from it.
        self._idle_since[place] = (high + 1, now, time_us)
