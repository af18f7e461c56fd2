"""Visits to the online shop: clicks along the funnel, carts, and the orders they end in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from services.simulator import funnel, pages
from services.simulator.catalogue import Prices, Products
from services.simulator.customers import FAVOURITES, Customers, Places
from services.simulator.pages import Pages
from services.simulator.rhythm import Ints, instants, pick, shifted
from services.simulator.settings import HOUR_US, SimulationSettings
from services.simulator.vocabulary import CAMPAIGNS, CATEGORIES, COUNTRIES

Rows = NDArray[np.void]

VISIT_ROW = np.dtype(
    [
        ("start_us", "i8"),
        ("user", "i8"),
        ("device", "i8"),
        ("place", "i8"),
        ("referrer", "i8"),
        ("campaign", "i8"),
    ]
)
# -1 stands for "none" in every index column.
CLICK_ROW = np.dtype(
    [
        ("event_us", "i8"),
        ("visit", "i8"),
        ("user", "i4"),
        ("device", "i4"),
        ("place", "i2"),
        ("type", "i1"),
        ("page", "i4"),
        ("referrer", "i4"),
        ("campaign", "i1"),
        ("product", "i4"),
        ("category", "i2"),
        ("query", "i2"),
        ("quantity", "i2"),
        ("order", "i8"),
        ("cart_items", "i2"),
        ("cart_cents", "i8"),
    ]
)
ITEM_ROW = np.dtype([("product", "i4"), ("quantity", "i4"), ("cents", "i8")])
# The page of a click by its type, where the click itself does not lead to another one.
_STATIC_PAGE = np.full(len(funnel.EVENT_TYPES), pages.HOME)
_STATIC_PAGE[[funnel.REMOVE_FROM_CART, funnel.VIEW_CART]] = pages.CART
_STATIC_PAGE[funnel.CHECKOUT_START] = pages.CHECKOUT
_STATIC_PAGE[funnel.PURCHASE] = pages.THANKS
_CART_SLOTS = 12
_MOST_CLICKS = 100
_DAY_OF_TRAVEL_US = 26 * HOUR_US  # the longest visit included


@dataclass(frozen=True, slots=True)
class Baskets:
    """Baskets over a flat list of items: basket b holds `counts[b]` consecutive items."""

    items: Rows
    counts: Ints

    @staticmethod
    def joined(parts: list[Baskets]) -> Baskets:
        return Baskets(
            np.concatenate([part.items for part in parts]),
            np.concatenate([part.counts for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Purchases:
    """The clicks (row numbers) that bought something, and what: one basket each."""

    clicks: Ints
    baskets: Baskets


@dataclass(frozen=True, slots=True)
class Shop:
    """Everything that stands still while customers walk through."""

    settings: SimulationSettings
    places: Places
    customers: Customers
    products: Products
    prices: Prices
    pages: Pages


def click_rows(count: int) -> Rows:
    """Clicks on nothing in particular, to be filled in."""
    rows = np.zeros(count, CLICK_ROW)
    for column in ("referrer", "campaign", "product", "category", "query", "order", "cart_items"):
        rows[column] = -1
    return rows


def plan_visits(rng: Generator, shop: Shop, count: int) -> Rows:
    """Who comes when, on which device, from where, led by what. Numbered from 0."""
    customers = shop.customers
    visits = np.zeros(count, VISIT_ROW)
    user = pick(rng, customers.activity, count)
    country = shop.places.country[customers.place[user]]
    offset = np.array([c.hours for c in COUNTRIES])[country]
    start = shifted(shop.settings, instants(rng, shop.settings, count), offset)
    user = customers.known_at(user, start)
    device = (rng.random(count) ** 1.7 * customers.devices[user]).astype(np.int64)
    # One visit in fifty happens on a journey, unless nobody could have come there in time.
    away = (rng.random(count) < 0.02) & _has_time_to_travel(user, start)
    abroad = rng.integers(0, len(shop.places.geos), count)
    external = shop.pages.first_external + pick(rng, shop.pages.external_weights, count)
    visits["start_us"] = start
    visits["user"] = user
    visits["device"] = customers.first_device[user] + device
    visits["place"] = np.where(away, abroad, customers.place[user])
    visits["referrer"] = np.where(rng.random(count) < 0.6, external, -1)
    visits["campaign"] = np.where(
        rng.random(count) < 0.12, rng.integers(0, len(CAMPAIGNS), count), -1
    )
    return visits


def _has_time_to_travel(user: Ints, start_us: Ints) -> NDArray[np.bool_]:
    """Which visits are more than a day from the others of their user."""
    order = np.lexsort((start_us, user))
    alone = np.ones(len(order) + 1, np.bool_)
    alone[1:-1] = (np.diff(user[order]) != 0) | (np.diff(start_us[order]) > _DAY_OF_TRAVEL_US)
    found = np.empty(len(order), np.bool_)
    found[order] = alone[:-1] & alone[1:]
    return found


def walk(rng: Generator, shop: Shop, visits: Rows) -> tuple[Rows, Purchases]:
    """Every visit's clicks, step by step for all visits at once.

    Carts are stacks: what is removed is what came in last. A purchase buys the whole cart.
    """
    walker = _Walker(rng, shop, visits)
    while len(walker.active) and walker.step < _MOST_CLICKS:
        walker.click()
        walker.move_on()
    return walker.result()


class _Walker:
    """All visits under way: one position, clock and cart each."""

    def __init__(self, rng: Generator, shop: Shop, visits: Rows) -> None:
        count = len(visits)
        self.rng = rng
        self.shop = shop
        self.visits = visits
        self.step = 0
        self.active: Ints = np.arange(count)
        self.type = funnel.first_clicks(rng, count)
        self.now = visits["start_us"].copy()
        self.page = visits["referrer"].copy()
        self.category = self._favourite(self.active)
        self.product = np.full(count, -1, np.int64)
        self.held = np.zeros(count, np.int64)
        self.cart = np.zeros((count, _CART_SLOTS), ITEM_ROW)
        self.cart_cents = np.zeros(count, np.int64)
        self.steps: list[Rows] = []
        self.bought: list[Ints] = []
        self.baskets: list[Baskets] = []
        self.clicks_so_far = 0

    def click(self) -> None:
        """Record one click of every active visit, and what it does to the cart."""
        active, kind = self.active, self.type[self.active]
        rows = click_rows(len(active))
        visits = self.visits[active]
        for column in ("user", "device", "place", "campaign"):
            rows[column] = visits[column]
        rows["event_us"], rows["visit"], rows["type"] = self.now[active], active, kind
        rows["referrer"] = self.page[active]
        rows["page"] = _STATIC_PAGE[kind]
        self._browse(rows, kind)
        self._fill_cart(rows, kind)
        self.page[active] = rows["page"]
        self._buy(rows, kind)
        self.steps.append(rows)
        self.clicks_so_far += len(rows)

    def move_on(self) -> None:
        """Let time pass and every visit choose its next click, or leave."""
        active = self.active
        self.now[active] += funnel.pauses_us(self.rng, self.type[active])
        filled = (self.held[active] > 0).astype(np.int64)
        following = funnel.next_clicks(self.rng, self.type[active], filled)
        full = (following == funnel.ADD_TO_CART) & (self.held[active] == _CART_SLOTS)
        following[full] = funnel.VIEW_CART
        self.type[active] = following
        self.active = active[following != funnel.LEAVE]
        self.step += 1

    def result(self) -> tuple[Rows, Purchases]:
        empty = Baskets(np.zeros(0, ITEM_ROW), np.zeros(0, np.int64))
        clicks = np.concatenate([np.zeros(0, CLICK_ROW), *self.steps])
        bought = np.concatenate([np.zeros(0, np.int64), *self.bought])
        return clicks, Purchases(bought, Baskets.joined([empty, *self.baskets]))

    def _browse(self, rows: Rows, kind: Ints) -> None:
        shop, active, page = self.shop, self.active, rows["page"]
        on = np.flatnonzero(kind == funnel.PAGE_VIEW)
        page[on[self.rng.random(len(on)) < 0.15]] = pages.HELP

        on = np.flatnonzero((kind == funnel.CATEGORY_VIEW) | (kind == funnel.SEARCH))
        self.category[active[on]] = self._favourite(active[on])
        shelf = self.category[active]

        on = np.flatnonzero(kind == funnel.CATEGORY_VIEW)
        rows["category"][on] = shelf[on]
        page[on] = shop.pages.first_category + shelf[on]

        on = np.flatnonzero(kind == funnel.SEARCH)
        first = shop.pages.query_first
        width = first[shelf[on] + 1] - first[shelf[on]]
        query = first[shelf[on]] + (self.rng.random(len(on)) ** 2 * width).astype(np.int64)
        rows["query"][on] = query
        page[on] = shop.pages.first_query + query

        on = np.flatnonzero(kind == funnel.PRODUCT_VIEW)
        product = shop.products.draw(self.rng, shelf[on])
        self.product[active[on]] = product
        rows["product"][on], rows["category"][on] = product, shelf[on]
        page[on] = shop.pages.first_product + product

    def _fill_cart(self, rows: Rows, kind: Ints) -> None:
        active = self.active
        on = np.flatnonzero(kind == funnel.ADD_TO_CART)
        visit = active[on]
        product = self.product[visit]
        quantity = 1 + (self.rng.random(len(on)) < 0.15) + (self.rng.random(len(on)) < 0.03)
        item = np.zeros(len(on), ITEM_ROW)
        item["product"], item["quantity"] = product, quantity
        item["cents"] = self.shop.prices.at(product, self.visits["start_us"][visit])
        self.cart[visit, self.held[visit]] = item
        self.held[visit] += 1
        self.cart_cents[visit] += item["cents"] * quantity
        rows["product"][on], rows["quantity"][on] = product, quantity
        rows["page"][on] = self.shop.pages.first_product + product

        on = np.flatnonzero(kind == funnel.REMOVE_FROM_CART)
        visit = active[on]
        self.held[visit] -= 1
        item = self.cart[visit, self.held[visit]]
        self.cart_cents[visit] -= item["cents"] * item["quantity"]
        rows["product"][on], rows["quantity"][on] = item["product"], item["quantity"]

        on = np.flatnonzero(kind >= funnel.ADD_TO_CART)
        rows["cart_items"][on] = self.held[active[on]]
        rows["cart_cents"][on] = self.cart_cents[active[on]]
        on = np.flatnonzero((kind == funnel.ADD_TO_CART) | (kind == funnel.REMOVE_FROM_CART))
        rows["category"][on] = self.shop.products.category[rows["product"][on]]

    def _buy(self, rows: Rows, kind: Ints) -> None:
        on = np.flatnonzero(kind == funnel.PURCHASE)
        visit = self.active[on]
        counts = self.held[visit]
        items = self.cart[visit][np.arange(_CART_SLOTS) < counts[:, None]]
        self.bought.append(self.clicks_so_far + on)
        self.baskets.append(Baskets(items, counts.copy()))
        self.held[visit] = 0
        self.cart_cents[visit] = 0

    def _favourite(self, visits: Ints) -> Ints:
        """A category for each: mostly one of the customer's three, else what everybody likes."""
        count = len(visits)
        favourites = self.shop.customers.favourites[self.visits["user"][visits]]
        place = pick(self.rng, np.array([0.6, 0.27, 0.13]), count)
        own = favourites[np.arange(count), np.minimum(place, FAVOURITES - 1)]
        common = pick(self.rng, np.array([c.weight for c in CATEGORIES]), count)
        return np.where(self.rng.random(count) < 0.75, own, common)
