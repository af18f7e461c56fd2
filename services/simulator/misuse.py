"""Misuse of accounts and baskets: impossible travel, guessed and stuffed passwords, cart abuse.

Honest customers who mistype their passwords are among the logins, so that not every failure is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator

from services.simulator import funnel, pages
from services.simulator.customers import Devices
from services.simulator.rhythm import Ints
from services.simulator.settings import DAY_US, HOUR_US, SimulationSettings
from services.simulator.visits import Rows, Shop, click_rows

KINDS: Final = ("impossible_travel", "password_guessing", "credential_stuffing", "cart_abuse")
TRAVEL, GUESSING, STUFFING, CART = range(4)
CUSTOMERS_A_CASE: Final = 300
_SECOND_US: Final = 1_000_000
_MISTYPED: Final = 3  # honest logins, for each case, and the most failures of one

_CASE = np.dtype([("kind", "i1"), ("start_us", "i8"), ("user", "i8"), ("device", "i8")])


@dataclass(frozen=True, slots=True)
class Misuse:
    """The cases and their clicks; `case` is -1 for clicks of honest customers."""

    kind: Ints
    device: Ints
    clicks: Rows
    case: Ints


def case_count(settings: SimulationSettings) -> int:
    """Cases of each kind; none in a shop without fraud."""
    return max(1, settings.customers // CUSTOMERS_A_CASE) if settings.fraud_share else 0


def misuse(
    rng: Generator, shop: Shop, devices: Devices, first_device: int, first_visit: int
) -> Misuse:
    """Plan the cases, on devices from `first_device` on, and click."""
    kind = np.repeat(np.arange(len(KINDS)), case_count(shop.settings))
    cases = _plan(rng, shop, kind, first_device)
    parts = [_CLICKS[case["kind"]](rng, shop, case) for case in cases]
    honest = [_mistype(rng, shop) for _ in range(_MISTYPED * len(cases) // len(KINDS))]
    clicks = np.concatenate([click_rows(0), *parts, *honest])
    number = np.repeat(np.arange(len(parts) + len(honest)), list(map(len, [*parts, *honest])))
    clicks["visit"] = first_visit + number
    return Misuse(kind, cases["device"], clicks, np.where(number < len(parts), number, -1))


def _plan(rng: Generator, shop: Shop, kind: Ints, first_device: int) -> Rows:
    cases = np.zeros(len(kind), _CASE)
    cases["kind"] = kind
    cases["start_us"] = _moments(rng, shop.settings, len(kind))
    known = shop.customers.existing
    cases["user"] = rng.choice(known, len(kind), replace=known < len(kind))
    own = (kind == CART) | (kind == TRAVEL)
    cases["device"] = np.where(
        own, shop.customers.first_device[cases["user"]], first_device + np.arange(len(kind))
    )
    return cases


def _moments(rng: Generator, settings: SimulationSettings, count: int) -> Ints:
    """Early enough to end in time."""
    span = settings.days * DAY_US - 3 * HOUR_US
    moments: Ints = settings.start_us + HOUR_US + rng.integers(0, span, count)
    return moments


def _rows(shop: Shop, case: np.void, times_us: Ints, kind: int) -> Rows:
    rows = click_rows(len(times_us))
    rows["event_us"], rows["type"] = times_us, kind
    rows["user"], rows["device"] = case["user"], case["device"]
    rows["place"] = shop.customers.place[case["user"]]
    rows["page"] = pages.ACCOUNT
    return rows


def _apart(rng: Generator, start_us: int, count: int, least_s: float, most_s: float) -> Ints:
    """Moments from `start_us` on, so many seconds apart."""
    gaps = rng.uniform(least_s, most_s, count) * _SECOND_US
    moments: Ints = start_us + np.cumsum(gaps).astype(np.int64)
    return moments


def _travel(rng: Generator, shop: Shop, case: np.void) -> Rows:
    """At home, and within the hour on the other side of the world."""
    count = 6
    rows = _rows(shop, case, _apart(rng, case["start_us"], count, 20, 90), funnel.PAGE_VIEW)
    rows["page"] = pages.HOME
    away = np.arange(count) >= count // 2
    rows["event_us"][away] += int(rng.uniform(20, 50) * 60) * _SECOND_US
    rows["place"][away] = _far_away(rng, shop, int(shop.customers.place[case["user"]]))
    return rows


def _far_away(rng: Generator, shop: Shop, home: int) -> int:
    """A place of another continent."""
    geos = shop.places.geos
    country = "GB" if geos[home].country == "JP" else "JP"
    return int(rng.choice([at for at, geo in enumerate(geos) if geo.country == country]))


def _guess(rng: Generator, shop: Shop, case: np.void) -> Rows:
    """One password after another for one account."""
    times_us = _apart(rng, case["start_us"], int(rng.integers(14, 40)), 2, 12)
    return _rows(shop, case, times_us, funnel.LOGIN_FAILED)


def _stuff(rng: Generator, shop: Shop, case: np.void) -> Rows:
    """A list of accounts, once or twice each; now and then a password fits."""
    known = shop.customers.existing
    accounts = rng.choice(known, min(int(rng.integers(8, 25)), known), replace=False)
    users = np.repeat(accounts, rng.integers(1, 3, len(accounts)))
    rows = _rows(shop, case, _apart(rng, case["start_us"], len(users), 3, 15), funnel.LOGIN_FAILED)
    rows["user"] = users
    rows["type"][rng.random(len(users)) < 0.05] = funnel.LOGIN
    return rows


def _hoard(rng: Generator, shop: Shop, case: np.void) -> Rows:
    """A basket filled with all there is of some products, and left."""
    times_us = _apart(rng, case["start_us"], int(rng.integers(15, 26)), 20, 80)
    rows = _rows(shop, case, times_us, funnel.ADD_TO_CART)
    products = rng.integers(0, len(shop.products), len(rows))
    rows["product"], rows["category"] = products, shop.products.category[products]
    rows["page"] = shop.pages.first_product + products
    rows["quantity"] = rng.integers(5, 12, len(rows))
    cents = shop.prices.at(products, rows["event_us"])
    rows["cart_items"] = np.arange(1, len(rows) + 1)
    rows["cart_cents"] = np.cumsum(cents * rows["quantity"])
    return rows


def _mistype(rng: Generator, shop: Shop) -> Rows:
    """An honest login, after a failure or some."""
    user = int(rng.integers(0, shop.customers.existing))
    start_us = int(_moments(rng, shop.settings, 1)[0])
    case = np.array([(0, start_us, user, shop.customers.first_device[user])], _CASE)[0]
    times_us = _apart(rng, start_us, int(rng.integers(2, _MISTYPED + 2)), 8, 40)
    rows = _rows(shop, case, times_us, funnel.LOGIN_FAILED)
    rows["type"][-1] = funnel.LOGIN
    return rows


_CLICKS: Final = (_travel, _guess, _stuff, _hoard)
