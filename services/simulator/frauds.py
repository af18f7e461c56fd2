"""Frauds among the payments: stolen card burst, account takeover, compromised device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator

from services.simulator import funnel, pages
from services.simulator.orders import (
    AUTHORIZED,
    CAPTURED,
    CARD,
    CARDS_A_CUSTOMER,
    DECLINED,
    TERMINALS,
    Payments,
    payment_rows,
)
from services.simulator.rhythm import Ints
from services.simulator.settings import DAY_US, SimulationSettings
from services.simulator.visits import ITEM_ROW, Baskets, Rows, Shop, click_rows
from services.simulator.vocabulary import COUNTRIES

KINDS: Final = ("card_burst", "account_takeover", "compromised_device")
BURST, TAKEOVER, DEVICE = range(3)
# Payments of a case: at least, at most; and seconds between two of them: at least, at most.
_PAYMENTS: Final = ((8, 14), (3, 5), (15, 24))
_GAPS: Final = ((5, 55), (240, 1_500), (180, 1_500))
_MEAN_PAYMENTS: Final = np.array([11.0, 4.0, 19.5])
_SHARES: Final = np.array([0.35, 0.35, 0.30])
_ORDINARY_HISTORY: Final = 3
_CROWD: Final = 32

# -1 where the case has no such thing; `variant` tells two ways of the same kind apart.
CASE_ROW = np.dtype(
    [
        ("kind", "i1"),
        ("variant", "i1"),
        ("start_us", "i8"),
        ("payments", "i8"),
        ("user", "i8"),
        ("device", "i8"),
        ("terminal", "i8"),
        ("place", "i8"),
    ]
)


@dataclass(frozen=True, slots=True)
class Frauds:
    """The cases, what they paid for, and the clicks that account takeovers leave."""

    cases: Rows
    payments: Payments
    clicks: Rows


def case_counts(settings: SimulationSettings) -> list[int]:
    """Cases of each kind: at least one, unless there is no fraud or nothing to defraud."""
    payments = settings.records_of("transactions")
    if settings.fraud_share == 0 or payments == 0:
        return [0, 0, 0]
    wanted = settings.fraud_share * payments * _SHARES / _MEAN_PAYMENTS
    return [max(1, round(float(count))) for count in wanted]


def commit(
    rng: Generator,
    shop: Shop,
    honest: list[Payments],
    first_order: int,
    first_visit: int,
    first_device: int,
) -> Frauds:
    """Plan the cases against customers with an honest history, and pay."""
    cases = _plan(rng, shop, honest, first_device)
    case = np.repeat(np.arange(len(cases)), cases["payments"])
    nth = np.arange(len(case)) - np.repeat(
        np.cumsum(cases["payments"]) - cases["payments"], cases["payments"]
    )
    rows = payment_rows(len(case))
    rows["case"] = case
    rows["order"] = first_order + np.arange(len(case))
    rows["event_us"] = _times(rng, cases, case, nth)
    _charge(rng, shop, cases[case], nth, rows)
    baskets = _loot(rng, shop, cases, rows, nth)
    clicks = _trails(rng, shop, cases, rows, baskets, first_visit)
    return Frauds(cases, Payments(rows, baskets), clicks)


def _plan(rng: Generator, shop: Shop, honest: list[Payments], first_device: int) -> Rows:
    kind = np.repeat(np.arange(len(KINDS)), case_counts(shop.settings))
    count = len(kind)
    cases = np.zeros(count, CASE_ROW)
    cases["kind"] = kind
    cases["variant"] = (np.arange(count) - np.searchsorted(kind, kind)) % 2
    # Not in the first days, when nobody has a history yet, and early enough to end in time.
    earliest = np.array([0.1, 0.4, 0.15])[kind]
    share = earliest + rng.random(count) * (0.96 - earliest)
    span = shop.settings.days * DAY_US
    latest = shop.settings.end_us - np.minimum(span // 2, DAY_US // 2)
    start = shop.settings.start_us + (share * span).astype(np.int64)
    cases["start_us"] = np.minimum(start, latest)
    least, most = np.array(_PAYMENTS)[kind].T
    cases["payments"] = rng.integers(least, most + 1)
    cases["user"] = _victims(rng, shop, honest, count)
    at_terminal = (kind == DEVICE) & (cases["variant"] == 1)
    cases["user"][kind == DEVICE] = -1
    cases["device"] = np.where(at_terminal, -1, first_device + np.arange(count))
    cases["terminal"] = np.where(at_terminal, rng.integers(0, TERMINALS, count), -1)
    cases["place"] = _abroad(rng, shop, cases["user"])
    return cases


def _victims(rng: Generator, shop: Shop, honest: list[Payments], count: int) -> Ints:
    """Different customers who had paid a few times before the first takeovers begin."""
    settings = shop.settings
    before = settings.start_us + int(0.4 * settings.days * DAY_US)
    users = np.concatenate([part.rows["user"][part.rows["event_us"] < before] for part in honest])
    times = np.bincount(users.astype(np.int64), minlength=len(shop.customers))
    known = np.arange(shop.customers.existing)
    ranked = known[np.argsort(times[known] < _ORDINARY_HISTORY, kind="stable")]
    regular = max(count, int(np.sum(times[known] >= _ORDINARY_HISTORY)))
    pool = ranked[:regular]
    return rng.choice(pool, count, replace=len(pool) < count).astype(np.int64)


def _abroad(rng: Generator, shop: Shop, user: Ints) -> Ints:
    """A place in another country than the victim's."""
    home = shop.places.country[shop.customers.place[user]]
    step = rng.integers(1, len(COUNTRIES), len(user))
    country = (home + step) % len(COUNTRIES)
    places: Ints = np.array([of[0] for of in shop.places.of_country])[country]
    return places


def _times(rng: Generator, cases: Rows, case: Ints, nth: Ints) -> Ints:
    least, most = np.array(_GAPS)[cases["kind"][case]].T * 1_000_000
    gaps = rng.integers(least, most)
    gaps[nth == 0] = 0
    passed = np.cumsum(gaps)
    times: Ints = cases["start_us"][case] + passed - passed[nth == 0][case]
    return times


def _charge(rng: Generator, shop: Shop, cases: Rows, nth: Ints, rows: Rows) -> None:
    """Whose account, which card, from where; `cases` holds each payment's case."""
    count, kind = len(rows), cases["kind"]
    # A skimmed terminal or a rooted device sees another customer with every payment.
    strangers = rng.permutation(shop.customers.existing)
    crowd = strangers[(rows["case"] * _CROWD + nth) % len(strangers)]
    user = np.where(kind == DEVICE, crowd, cases["user"])
    home = shop.places.country[shop.customers.place[user]]
    foreign = shop.places.country[cases["place"]]
    rows["user"], rows["device"], rows["terminal"] = user, cases["device"], cases["terminal"]
    rows["method"] = CARD
    # A burst tries one stolen card after another, or one card with ever higher amounts.
    stolen = shop.settings.customers * CARDS_A_CUSTOMER + rows["case"] * _CROWD
    stolen = stolen + np.where(cases["variant"] == 0, nth, 0)
    rows["card"] = np.where(kind == BURST, stolen, user * CARDS_A_CUSTOMER)
    rows["card_country"] = np.where(kind == BURST, foreign, home)
    shipped = np.where(kind == DEVICE, home, foreign)
    rows["ship_country"] = np.where(cases["terminal"] >= 0, -1, shipped)
    refused = rng.random(count) < np.where(kind == BURST, 0.35, 0.08)
    settled = np.where(rng.random(count) < 0.5, AUTHORIZED, CAPTURED)
    rows["status"] = np.where(refused, DECLINED, settled)


def _loot(rng: Generator, shop: Shop, cases: Rows, rows: Rows, nth: Ints) -> Baskets:
    """One article a payment: dear ones; a burst with one card climbs the price list."""
    case = rows["case"]
    kind, variant = cases["kind"][case], cases["variant"][case]
    by_price = np.argsort(shop.products.base_price, kind="stable")
    low = np.array([0.35, 0.9, 0.55])[kind]
    rank = low + rng.random(len(rows)) * (0.999 - low)
    climb = (nth + rng.random(len(rows)) * 0.5) / (cases["payments"][case] + 0.5)
    rank = np.where((kind == BURST) & (variant == 1), 0.2 + 0.79 * climb, rank)
    items = np.zeros(len(rows), ITEM_ROW)
    product = by_price[(rank * len(by_price)).astype(np.int64)]
    items["product"] = product
    items["quantity"] = np.where(kind == TAKEOVER, rng.integers(1, 4, len(rows)), 1)
    items["cents"] = shop.prices.at(product, rows["event_us"])
    return Baskets(items, np.ones(len(rows), np.int64))


_TRAIL: Final = (
    # type, page, seconds before the payment
    (funnel.PAGE_VIEW, pages.ACCOUNT, 170.0),
    (funnel.PRODUCT_VIEW, -1, 120.0),
    (funnel.ADD_TO_CART, -1, 80.0),
    (funnel.CHECKOUT_START, pages.CHECKOUT, 45.0),
    (funnel.PURCHASE, pages.THANKS, 1.5),
)


def _trails(
    rng: Generator, shop: Shop, cases: Rows, payments: Rows, baskets: Baskets, first_visit: int
) -> Rows:
    """The clicks of account takeovers: change the address, find something dear, buy it."""
    taken = np.flatnonzero(cases["kind"][payments["case"]] == TAKEOVER)
    payment = np.repeat(taken, len(_TRAIL))
    step = np.tile(np.arange(len(_TRAIL)), len(taken))
    case = payments["case"][payment]
    kind = np.array([kind for kind, _, _ in _TRAIL])[step]
    page = np.array([page for _, page, _ in _TRAIL])[step]
    ahead = np.array([seconds for _, _, seconds in _TRAIL])[step]
    ahead = ahead * (0.85 + 0.15 * rng.random(len(step)))
    rows = click_rows(len(payment))
    rows["event_us"] = payments["event_us"][payment] - (ahead * 1e6).astype(np.int64)
    rows["visit"] = first_visit + case
    rows["user"], rows["device"] = cases["user"][case], cases["device"][case]
    rows["place"] = cases["place"][case]
    rows["type"] = kind
    item = baskets.items[payment]
    shown = (kind == funnel.PRODUCT_VIEW) | (kind == funnel.ADD_TO_CART)
    rows["product"] = np.where(shown, item["product"], -1)
    rows["category"] = np.where(shown, shop.products.category[item["product"]], -1)
    rows["page"] = np.where(page < 0, shop.pages.first_product + item["product"], page)
    rows["quantity"] = np.where(kind == funnel.ADD_TO_CART, item["quantity"], 0)
    filled = kind >= funnel.ADD_TO_CART
    rows["cart_items"] = np.where(filled, 1, -1)
    rows["cart_cents"] = np.where(filled, item["quantity"] * item["cents"], 0)
    rows["order"] = np.where(kind == funnel.PURCHASE, payments["order"][payment], -1)
    return rows
