"""A small month's settings, and its records as a reader of the raw topics sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from services.simulator.settings import SimulationSettings
from services.simulator.simulate import Simulation

START = date(2026, 3, 2)
PARTITIONS = {"clickstream": 3, "transactions": 2}


@dataclass(frozen=True)
class Seen:
    """A record of a raw topic."""

    source: str
    partition: int
    arrival_us: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def records(simulation: Simulation) -> Iterator[Seen]:
    for chunk in simulation.chunks():
        for part in chunk.parts:
            columns = (part.arrival_us.tolist(), part.keys, part.values, part.headers)
            for arrival, key, value, headers in zip(*columns, strict=True):
                yield Seen(part.source, part.partition, arrival, key, value, headers)


def small(**changes: object) -> SimulationSettings:
    """A month of a small shop."""
    given: dict[str, object] = {
        "start": START,
        "customers": 300,
        "products": 60,
        "target_events": 30_000,
        "partitions": PARTITIONS,
    }
    return SimulationSettings(**(given | changes))  # type: ignore[arg-type]
