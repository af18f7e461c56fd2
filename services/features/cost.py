"""What a spec's state takes, and how fast it is, before anyone runs it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from dataflows.durations import Duration
from dataflows.eventtime.timelines import Keeps
from dataflows.features.catalogue import DAY_US
from dataflows.features.columns import Column, Kind, full
from dataflows.features.engine import FeatureEngine
from dataflows.features.spec import FeatureSpec, Windowed
from services.features.arrival import in_order

_SLACK = 1.5  # a slab is between half full and full
_TRIED = 100_000
_ENTITIES = 10_000

_WORDS = {
    Keeps.NOTHING: "time",
    Keeps.NUMBER: "time, sum",
    Keeps.SQUARES: "time, sum, sum of squares",
    Keeps.KNOWN_AT: "time, since when it is known",
    Keeps.NAME: "time, value, its neighbours",
}


@dataclass(frozen=True, slots=True)
class TimelineCost:
    """One timeline of an entity."""

    entity: str
    of: str
    kept: str
    kept_us: int
    bytes_per_event: int
    bytes_per_entity: int

    def megabytes(self, events_per_day: float, entities: float) -> float:
        """If every event belonged to it: an upper bound where it has a filter or is of labels."""
        events = events_per_day * self.kept_us / DAY_US
        held = events * self.bytes_per_event * _SLACK + entities * self.bytes_per_entity
        return held / 1e6


def costs(spec: FeatureSpec) -> list[TimelineCost]:
    """Every timeline of the spec."""
    return [
        TimelineCost(
            entity=entity,
            of=of,
            kept=_WORDS[timeline.keeps],
            kept_us=timeline.retention_us,
            bytes_per_event=timeline.bytes_per_event,
            bytes_per_entity=timeline.bytes_per_entity,
        )
        for entity, timelines in FeatureEngine(spec, 0).described.items()
        for of, timeline in timelines
    ]


def measured_rate(spec: FeatureSpec) -> float:
    """Events a CPU-second, of made events of 10,000 entities a field, on this machine."""
    engine = FeatureEngine(spec, 0)
    rng = np.random.default_rng(1)
    reach = max(
        (f.window_us + f.delay_us for f in spec.features if isinstance(f, Windowed)), default=1
    )
    times_us = np.sort(rng.integers(0, reach, 2 * _TRIED))
    fields = {name: _made(kind, rng) for name, kind in spec.fields.items()}
    never = np.full(2 * _TRIED, np.iinfo(np.int64).min)
    parts = list(in_order(times_us, never, fields))
    half = len(parts) // 2
    for part in parts[:half]:
        engine.process(part.events)
    started = time.process_time()
    for part in parts[half:]:
        engine.process(part.events)
    return sum(len(part.rows) for part in parts[half:]) / (time.process_time() - started)


def _made(kind: Kind, rng: np.random.Generator) -> Column:
    numbers = rng.integers(0, _ENTITIES, 2 * _TRIED)
    if kind is Kind.TEXT:
        return full(np.array([f"entity {number}" for number in numbers.tolist()], dtype=object))
    return full(numbers % 2 == 0 if kind is Kind.BOOLEAN else numbers / 100)


def explained(spec: FeatureSpec, events_per_day: float, entities: float) -> list[str]:
    """For a person: a line for each timeline, then the sums."""
    lines = [f"{len(spec.names)} features, version {spec.version}: {', '.join(spec.names)}"]
    total = 0.0
    for cost in costs(spec):
        size = cost.megabytes(events_per_day, entities)
        total += size
        lines.append(
            f"  {cost.entity}: {cost.of}, kept {Duration(cost.kept_us)} ({cost.kept}): "
            f"{cost.bytes_per_event} bytes an event, {cost.bytes_per_entity} an entity: "
            f"{size:,.1f} MB"
        )
    lines.append(
        f"state for {events_per_day:,.0f} events a day of {entities:,.0f} entities of each kind: "
        f"at most {total:,.1f} MB, and the entities' names; the allowed lateness adds to it"
    )
    lines.append(f"cost: {measured_rate(spec):,.0f} events a CPU-second on this machine")
    return lines
