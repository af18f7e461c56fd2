"""Publishes a simulation to a log, at a rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from dataflows.connectors.log import Log
from dataflows.connectors.records import published
from services.simulator.stream import Chunk


def publish_chunks(
    log: Log,
    chunks: Iterable[Chunk],
    rate: float | None,
    stop: threading.Event,
    on_chunk: Callable[[Chunk], None] = lambda chunk: None,
) -> int:
    """Appends each chunk's records and heartbeats to the raw topics; returns how many records.

    Args:
        rate: records a second, on average; None as fast as the log takes them.
        stop: ends it early, between two chunks.
    """
    started, records = time.monotonic(), 0
    for chunk in chunks:
        log.append(
            [
                published(
                    f"raw.{part.source}", part.keys, part.values, part.headers, part.partition
                )
                for part in chunk.parts
            ]
        )
        records += chunk.records
        on_chunk(chunk)
        ahead = records / rate - (time.monotonic() - started) if rate else 0.0
        if stop.wait(max(ahead, 0.0)):
            break
    return records
