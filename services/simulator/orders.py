"""Orders and their payments: from the web shop's visits, from the app, from stores' terminals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator

from services.simulator.rhythm import (
    STORE_DAYS,
    STORE_HOURS,
    Ints,
    instants,
    pick,
    shifted,
)
from services.simulator.settings import DAY_US
from services.simulator.visits import ITEM_ROW, Baskets, Purchases, Rows, Shop
from services.simulator.vocabulary import CATEGORIES, COUNTRIES

METHODS: Final = ("card", "paypal", "bank_transfer", "gift_card")
STATUSES: Final = ("authorized", "captured", "declined", "refunded")
AUTHORIZED, CAPTURED, DECLINED, REFUNDED = range(4)
CARD, PAYPAL, BANK_TRANSFER, GIFT_CARD = range(4)
TERMINALS: Final = 40
CARDS_A_CUSTOMER: Final = 4
_REFUND_SHARE: Final = 0.02
_STORE_SHARE: Final = 0.45

# `card` counts the customers' cards first (CARDS_A_CUSTOMER each), then stolen ones.
# Items lie at first_item .. first_item + items of the flat item list; refunds share them.
PAYMENT_ROW = np.dtype(
    [
        ("event_us", "i8"),
        ("user", "i4"),
        ("order", "i8"),
        ("device", "i4"),
        ("terminal", "i4"),
        ("method", "i1"),
        ("card", "i8"),
        ("card_country", "i2"),
        ("ship_country", "i2"),
        ("status", "i1"),
        ("first_item", "i8"),
        ("items", "i4"),
        ("cents", "i8"),
        ("case", "i4"),
    ]
)


@dataclass(frozen=True, slots=True)
class Payments:
    """Payments without amounts yet, and the basket each one pays for."""

    rows: Rows
    baskets: Baskets


@dataclass(frozen=True, slots=True)
class Ledger:
    """All payments with their items; amounts in cents add up exactly."""

    rows: Rows
    items: Rows


def payment_rows(count: int) -> Rows:
    rows = np.zeros(count, PAYMENT_ROW)
    for column in ("device", "terminal", "card", "card_country", "ship_country", "case"):
        rows[column] = -1
    return rows


def pay_for_purchases(rng: Generator, shop: Shop, clicks: Rows, purchases: Purchases) -> Payments:
    """Every purchase click gets an order number and, within seconds, its payment."""
    bought = clicks[purchases.clicks]
    rows = payment_rows(len(bought))
    rows["event_us"] = bought["event_us"] + rng.integers(150_000, 3_000_000, len(bought))
    rows["user"], rows["device"] = bought["user"], bought["device"]
    rows["order"] = np.arange(len(bought))
    clicks["order"][purchases.clicks] = rows["order"]
    _settle(rng, shop, rows)
    return Payments(rows, purchases.baskets)


def order_elsewhere(rng: Generator, shop: Shop, count: int, first_order: int) -> Payments:
    """`count` orders without clicks: in the app on one's own device, or at a store's terminal."""
    customers = shop.customers
    rows = payment_rows(count)
    user = pick(rng, customers.activity, count)
    at_store = rng.random(count) < _STORE_SHARE
    offset = np.array([c.hours for c in COUNTRIES])[shop.places.country[customers.place[user]]]
    online_us = shifted(shop.settings, instants(rng, shop.settings, count), offset)
    store_us = instants(rng, shop.settings, count, STORE_HOURS, STORE_DAYS)
    rows["event_us"] = np.where(at_store, store_us, online_us)
    user = customers.known_at(user, rows["event_us"])
    rows["user"] = user
    rows["order"] = first_order + np.arange(count)
    device = (rng.random(count) ** 1.7 * customers.devices[user]).astype(np.int64)
    rows["device"] = np.where(at_store, -1, customers.first_device[user] + device)
    # People go to the store around the corner.
    terminal = (shop.customers.place[user] + rng.integers(0, 3, count)) % TERMINALS
    rows["terminal"] = np.where(at_store, terminal, -1)
    _settle(rng, shop, rows)
    return Payments(rows, _baskets(rng, shop, user, rows["event_us"]))


def close_books(rng: Generator, shop: Shop, parts: list[Payments]) -> Ledger:
    """Amounts for all payments, and refunds of a few captured ones some days later."""
    rows = np.concatenate([part.rows for part in parts])
    baskets = Baskets.joined([part.baskets for part in parts])
    rows["items"] = baskets.counts
    rows["first_item"] = np.cumsum(baskets.counts) - baskets.counts
    amounts = baskets.items["cents"] * baskets.items["quantity"]
    if len(rows):
        rows["cents"] = np.add.reduceat(amounts, rows["first_item"])
    honest = np.flatnonzero((rows["case"] < 0) & (rows["status"] == CAPTURED))
    back = rows[honest[rng.random(len(honest)) < _REFUND_SHARE]]
    back["event_us"] += rng.integers(DAY_US // 2, 12 * DAY_US, len(back))
    back["status"] = REFUNDED
    back = back[back["event_us"] < shop.settings.end_us]
    return Ledger(np.concatenate((rows, back)), baskets.items)


def _settle(rng: Generator, shop: Shop, rows: Rows) -> None:
    """How honest people pay: mostly by their own card, rarely declined."""
    count, user = len(rows), rows["user"].astype(np.int64)
    home = shop.places.country[shop.customers.place[user]]
    # People stick to a way to pay: it is a property of the customer, with exceptions.
    habit = np.array([CARD, CARD, PAYPAL, CARD, BANK_TRANSFER, PAYPAL, CARD, GIFT_CARD])[user % 8]
    method = np.where(rng.random(count) < 0.1, CARD, habit)
    method[rows["terminal"] >= 0] = CARD
    which = (rng.random(count) * shop.customers.cards[user]).astype(np.int64)
    by_card = method == CARD
    rows["method"] = method
    rows["card"] = np.where(by_card, user * CARDS_A_CUSTOMER + which, -1)
    rows["card_country"] = np.where(by_card, home, -1)
    gift = rng.random(count) < 0.02
    elsewhere = pick(rng, np.array([country.weight for country in COUNTRIES]), count)
    shipped = np.where(gift, elsewhere, home)
    rows["ship_country"] = np.where(rows["terminal"] >= 0, -1, shipped)
    rows["status"] = pick(rng, np.array([0.25, 0.72, 0.03]), count)


def _baskets(rng: Generator, shop: Shop, user: Ints, event_us: Ints) -> Baskets:
    customers = shop.customers
    counts = np.minimum(1 + rng.poisson(customers.basket[user]), 12)
    buyer = np.repeat(np.arange(len(user)), counts)
    own = customers.favourites[user[buyer], pick(rng, np.array([0.6, 0.27, 0.13]), len(buyer))]
    common = pick(rng, np.array([c.weight for c in CATEGORIES]), len(buyer))
    shelf = np.where(rng.random(len(buyer)) < 0.75, own, common)
    items = np.zeros(len(buyer), ITEM_ROW)
    items["product"] = shop.products.draw(rng, shelf)
    items["quantity"] = 1 + (rng.random(len(buyer)) < 0.12)
    items["cents"] = shop.prices.at(items["product"].astype(np.int64), event_us[buyer])
    return Baskets(items, counts)
