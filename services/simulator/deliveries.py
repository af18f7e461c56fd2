"""How events reach the log: delayed, out of order, held back for days, twice, or broken."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from services.simulator.breakage import Damage, damages_of
from services.simulator.rhythm import Floats, Ints
from services.simulator.settings import DAY_US, HOUR_US, SimulationSettings
from services.simulator.tables import Table
from services.simulator.visits import Rows

# One record that arrives: row of the source's table, damage done, and a number to vary the damage.
DELIVERY_ROW = np.dtype([("arrival_us", "i8"), ("row", "i8"), ("damage", "i1"), ("salt", "i8")])
_SECOND_US = 1_000_000
_MINUTE_US = 60 * _SECOND_US
# Delays of what is held back: shortest and longest, on a logarithmic scale.
_LATE_US = (1 * _MINUTE_US, 50 * _MINUTE_US)
_BUFFERED_US = (75 * _MINUTE_US, int(6.4 * DAY_US))
_EXPIRED_US = (int(7.05 * DAY_US), 12 * DAY_US)
# Longest delay of a record that may be sent twice: both are then on time or a little late.
_REPEATABLE_US = 20 * _MINUTE_US


def deliver(
    rng: Generator,
    settings: SimulationSettings,
    table: Table,
    carrier: Ints,
    spared: NDArray[np.bool_],
) -> Rows:
    """All deliveries of one source in the order of arrival; what would arrive after the end is not.

    Rows with the same `carrier` lose and regain their connection together: a phone in a tunnel.
    `spared` rows are never held back. Reference data from before the start arrives at once. Rows
    behind those that have a carrier are left to `promptly`.
    """
    event_us, faults = table.event_us[: len(carrier)], settings.faults
    reference = event_us < settings.start_us
    arrival = event_us + _latency(rng, len(event_us))
    shuffled = rng.random(len(event_us)) < faults.out_of_order
    arrival[shuffled] += rng.integers(2 * _SECOND_US, 24 * _SECOND_US, int(shuffled.sum()))
    _hold_back(rng, settings, event_us, arrival, carrier, spared)
    arrival = np.where(reference, event_us, arrival)

    plain = np.zeros(len(event_us), DELIVERY_ROW)
    plain["arrival_us"], plain["row"] = arrival, np.arange(len(event_us))
    plain = plain[plain["arrival_us"] < settings.end_us]
    prompt = plain["arrival_us"] - event_us[plain["row"]] < _REPEATABLE_US
    live = plain[prompt & ~reference[plain["row"]]]
    everything = in_order(
        plain, _repeats(rng, settings, live), _broken(rng, settings, table.source, live)
    )
    return everything[everything["arrival_us"] < settings.end_us]


def promptly(rng: Generator, settings: SimulationSettings, table: Table, first: int) -> Rows:
    """Deliveries of the rows from `first` on, each once and in no trouble."""
    event_us = table.event_us[first:]
    plain = np.zeros(len(event_us), DELIVERY_ROW)
    plain["arrival_us"] = event_us + _latency(rng, len(event_us))
    plain["row"] = first + np.arange(len(event_us))
    return plain[plain["arrival_us"] < settings.end_us]


def in_order(*deliveries: Rows) -> Rows:
    """All of them by arrival."""
    everything = np.concatenate(deliveries)
    return everything[np.argsort(everything["arrival_us"], kind="stable")]


def _latency(rng: Generator, count: int) -> Ints:
    """From the browser to the log: mostly a fifth of a second, at most five."""
    seconds = np.clip(rng.lognormal(np.log(0.18), 0.7, count), 0.02, 5.0)
    return (seconds * _SECOND_US).astype(np.int64)


def _hold_back(
    rng: Generator,
    settings: SimulationSettings,
    event_us: Ints,
    arrival: Ints,
    carrier: Ints,
    spared: NDArray[np.bool_],
) -> None:
    """Delay what some carriers send from a random moment on until they are back, in place."""
    if len(event_us) == 0:
        return
    carriers = int(carrier.max()) + 1
    faults = settings.faults
    rates = np.cumsum([faults.late, faults.buffered, faults.expired])
    kind = np.searchsorted(rates, rng.random(carriers), side="right")
    low, high = np.array([_LATE_US, _BUFFERED_US, _EXPIRED_US, (1, 1)], dtype=np.float64)[kind].T
    delay = low * (high / low) ** rng.random(carriers)

    first = np.full(carriers, np.iinfo(np.int64).max)
    last = np.full(carriers, np.iinfo(np.int64).min)
    np.minimum.at(first, carrier, event_us)
    np.maximum.at(last, carrier, event_us)
    lost = first + (rng.random(carriers) * np.maximum(last - first, 0)).astype(np.int64)
    back = lost + delay.astype(np.int64)
    held = (kind[carrier] < len(rates)) & (event_us >= lost[carrier]) & ~spared
    arrival[held] = np.maximum(arrival[held], back[carrier[held]])


def _repeats(rng: Generator, settings: SimulationSettings, live: Rows) -> Rows:
    """The same bytes again within a minute or so: a producer that did not get its answer."""
    again = live[rng.random(len(live)) < settings.faults.duplicates]
    wait: Floats = 0.3 * 300 ** rng.random(len(again))
    again["arrival_us"] += (wait * _SECOND_US).astype(np.int64)
    return again


def _broken(rng: Generator, settings: SimulationSettings, source: str, live: Rows) -> Rows:
    """Extra records made from valid ones: every kind of damage, at least once if at all."""
    faults = settings.faults
    rates = dict.fromkeys(damages_of(source), faults.broken)
    if source == "clickstream":
        rates[Damage.MISSING_USER] = faults.missing_user
    # Early enough to arrive before the end.
    models = live[live["arrival_us"] < settings.end_us - HOUR_US // 4]
    wanted = {
        damage: max(1, round(rate * len(live))) if rate > 0 and len(models) else 0
        for damage, rate in rates.items()
    }
    total = sum(wanted.values())
    broken = models[rng.integers(0, max(len(models), 1), total)]
    broken["damage"] = np.repeat(list(wanted), list(wanted.values()))
    broken["salt"] = rng.integers(0, 1 << 62, total)
    broken["arrival_us"] += rng.integers(0, 5 * _SECOND_US, total)
    return broken
