"""Customer profiles: everybody known at the start, then sign-ups and changes."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from services.simulator.customers import Customers, Places
from services.simulator.rhythm import instants
from services.simulator.settings import HOUR_US, SimulationSettings
from services.simulator.visits import Rows

PROFILE_ROW = np.dtype(
    [
        ("event_us", "i8"),
        ("user", "i4"),
        ("place", "i2"),
        ("house", "i4"),
        ("segment", "i1"),
        ("opted_in", "?"),
    ]
)
SEGMENTS = ("new", "regular", "loyal", "vip")


def make_profiles(
    rng: Generator, settings: SimulationSettings, customers: Customers, places: Places
) -> Rows:
    """Rows in time order: one for each customer, and what the mix leaves for changes.

    A change moves house within the country, moves up a segment, or flips the marketing opt-in.
    """
    count, existing = len(customers), customers.existing
    changes = max(0, settings.records_of("customer_profiles") - count)
    known = np.zeros(count, PROFILE_ROW)
    known["user"] = np.arange(count)
    known["event_us"] = customers.signed_up_us
    spread = np.arange(existing) * HOUR_US // max(existing, 1)
    known["event_us"][:existing] = settings.start_us - HOUR_US + spread
    changed = np.zeros(changes, PROFILE_ROW)
    changed["event_us"] = instants(rng, settings, changes)
    changed["user"] = customers.known_at(rng.integers(0, count, changes), changed["event_us"])
    rows = np.concatenate((known, changed))
    user = rows["user"].astype(np.int64)
    kind = np.where(np.arange(len(rows)) < count, -1, rng.integers(0, 3, len(rows)))
    country = places.country[customers.place[user]]
    first = np.array([of[0] for of in places.of_country])[country]
    size = np.array([len(of) for of in places.of_country])[country]
    moved = first + (rng.random(len(rows)) * size).astype(np.int64)
    rows["place"] = np.where(kind == 0, moved, customers.place[user])
    rows["house"] = np.where(kind == 0, rng.integers(1, 300, len(rows)), 1 + user % 120)
    rows["segment"] = np.minimum(customers.segment[user] + (kind == 1), len(SEGMENTS) - 1)
    rows["opted_in"] = (user % 3 == 0) ^ (kind == 2)
    return rows[np.argsort(rows["event_us"], kind="stable")]
