"""When things happen in a shop: hours of the day, days of the week."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from services.simulator.settings import DAY_US, HOUR_US, SimulationSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Relative traffic by local hour: a dip at four in the morning, a bump at lunch, the evening peak.
ONLINE_HOURS: Final[Floats] = np.array(
    [18, 10, 6, 4, 3, 5, 10, 18, 28, 36, 42, 48, 56, 52, 48, 48, 52, 60, 72, 88, 100, 96, 70, 38],
    dtype=np.float64,
)
# Monday to Sunday: people shop when they have time.
ONLINE_DAYS: Final[Floats] = np.array([0.95, 0.92, 0.92, 0.96, 1.0, 1.22, 1.32])
STORE_HOURS: Final[Floats] = np.array(
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 30, 50, 65, 80, 75, 60, 60, 70, 90, 85, 45, 0, 0, 0, 0],
    dtype=np.float64,
)
STORE_DAYS: Final[Floats] = np.array([0.9, 0.9, 0.95, 1.0, 1.25, 1.6, 0.0])
OFFICE_HOURS: Final[Floats] = np.array(
    [0, 0, 0, 0, 0, 0, 0, 5, 40, 80, 90, 85, 50, 70, 85, 85, 75, 50, 15, 5, 0, 0, 0, 0],
    dtype=np.float64,
)
OFFICE_DAYS: Final[Floats] = np.array([1.1, 1.0, 1.0, 1.0, 0.9, 0.15, 0.05])


def instants(
    rng: Generator,
    settings: SimulationSettings,
    count: int,
    hours: Floats = ONLINE_HOURS,
    days: Floats = ONLINE_DAYS,
) -> Ints:
    """`count` instants (us) over the simulated days, unsorted, denser where the rhythm is strong.

    A shop that opens on Sundays only and a simulation of one Monday have no hour in common:
    the hours then count alone.
    """
    weekday = (settings.start.weekday() + np.arange(settings.days)) % 7
    mood = rng.lognormal(0.0, 0.06, settings.days)
    by_day = days[weekday] * mood
    if not by_day.any():
        by_day = mood
    weights = np.cumsum(np.outer(by_day, hours))
    hour = np.searchsorted(weights, rng.random(count) * weights[-1], side="right")
    within = rng.integers(0, HOUR_US, count)
    times: Ints = settings.start_us + hour * HOUR_US + within
    return times


def shifted(settings: SimulationSettings, local_us: Ints, offset_hours: Ints) -> Ints:
    """Local times turned into UTC; what falls off one end of the month comes in at the other."""
    span = settings.days * DAY_US
    utc: Ints = settings.start_us + (local_us - settings.start_us - offset_hours * HOUR_US) % span
    return utc


def pick(rng: Generator, weights: Floats, count: int) -> Ints:
    """`count` indices drawn with the given relative weights."""
    totals = np.cumsum(weights)
    drawn = np.searchsorted(totals, rng.random(count) * totals[-1], side="right")
    last = np.int64(len(weights) - 1)
    chosen: Ints = np.minimum(drawn, last)
    return chosen
