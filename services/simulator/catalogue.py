"""What is sold: products, their popularity, and their prices and stock through the month."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from services.simulator.rhythm import OFFICE_DAYS, OFFICE_HOURS, Floats, Ints, instants, pick
from services.simulator.settings import HOUR_US, SimulationSettings
from services.simulator.vocabulary import (
    BRANDS,
    CATEGORIES,
    COLORS,
    MATERIALS,
    MODELS,
    TAGS,
)

CATALOGUE_ROW = np.dtype(
    [("event_us", "i8"), ("product", "i8"), ("price", "i8"), ("stock", "i8"), ("active", "?")]
)
Rows = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Products:
    """Columns over products, grouped by category.

    Category c holds the rows first[c] .. first[c + 1]; `popularity` is the running total of
    Zipf weights (1 / rank within the category), one cumulative scale over all rows.
    """

    ids: list[str]
    names: list[str]
    brands: list[str]
    category: Ints
    tags: list[list[str]]
    attributes: list[dict[str, str]]
    base_price: Ints
    first: Ints
    popularity: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def draw(self, rng: Generator, categories: Ints) -> Ints:
        """A product of each given category, by popularity."""
        below = np.concatenate(([0.0], self.popularity))
        low, high = below[self.first[categories]], below[self.first[categories + 1]]
        drawn = np.searchsorted(
            self.popularity, low + rng.random(len(categories)) * (high - low), side="right"
        )
        last: Ints = self.first[categories + 1] - 1
        chosen: Ints = np.minimum(drawn, last)
        return chosen


@dataclass(frozen=True, slots=True)
class Prices:
    """Every product's price in cents over time, from the catalogue's own events."""

    keys: Ints
    cents: Ints
    start_us: int
    span_us: int

    def at(self, products: Ints, times_us: Ints) -> Ints:
        """The price of each product at each instant; before its first event, the first price."""
        offset = np.clip(times_us - self.start_us, 0, self.span_us - 1)
        found = np.searchsorted(self.keys, products * self.span_us + offset, side="right") - 1
        cents: Ints = self.cents[found]
        return cents


def make_products(rng: Generator, settings: SimulationSettings) -> Products:
    """Every category gets products, the popular ones more."""
    count = settings.products
    weights = np.array([category.weight for category in CATEGORIES])
    spread = np.arange(count) % len(CATEGORIES)
    spread[len(CATEGORIES) :] = pick(rng, weights, count - len(CATEGORIES))
    category = np.sort(spread)
    first = np.searchsorted(category, np.arange(len(CATEGORIES) + 1))
    rank = np.arange(count) - first[category] + 1
    share = weights[category] / rank
    low = np.array([c.low for c in CATEGORIES])[category]
    high = np.array([c.high for c in CATEGORIES])[category]
    raw = low * (high / low) ** (rng.random(count) ** 1.5)
    choices = rng.integers(0, 1 << 30, (count, 6))
    return Products(
        ids=[f"P{10_000 + index}" for index in range(count)],
        names=_names(category, choices),
        brands=[BRANDS[index % len(BRANDS)] for index in choices[:, 0].tolist()],
        category=category,
        tags=[
            [TAGS[(pair + step) % len(TAGS)] for step in range(pair % 4)]
            for pair in choices[:, 3].tolist()
        ],
        attributes=_attributes(choices),
        base_price=_shelf_price(raw),
        first=first,
        popularity=np.cumsum(share),
    )


def make_catalogue(
    rng: Generator, settings: SimulationSettings, products: Products
) -> tuple[Rows, Prices]:
    """The catalogue's events: every product in the hour before the start, then changes.

    Two in three changes are stock movements, the others new prices.
    """
    count = len(products)
    changes = max(0, settings.records_of("product_catalog") - count)
    rows = np.zeros(count + changes, CATALOGUE_ROW)
    product = np.concatenate((np.arange(count), rng.integers(0, count, changes)))
    rows["product"] = product
    rows["event_us"][:count] = settings.start_us - HOUR_US + np.arange(count) * HOUR_US // count
    rows["event_us"][count:] = np.sort(instants(rng, settings, changes, OFFICE_HOURS, OFFICE_DAYS))
    rows["stock"] = np.minimum(rng.geometric(0.02, count + changes) - 1, 500)
    rows["active"] = (np.arange(count + changes) < count) | (rng.random(count + changes) < 0.985)

    priced = np.flatnonzero((np.arange(count + changes) < count) | (rng.random(len(rows)) < 1 / 3))
    factor = rng.choice([0.7, 0.8, 0.9, 0.95, 1.0, 1.05], len(priced))
    factor[:count] = 1.0
    cents = _shelf_price(products.base_price[product[priced]] * factor)
    prices = _prices(settings, product[priced], rows["event_us"][priced], cents)
    rows["price"] = prices.at(product, rows["event_us"])
    return rows, prices


def _prices(settings: SimulationSettings, product: Ints, event_us: Ints, cents: Ints) -> Prices:
    start = settings.start_us - HOUR_US
    span = settings.end_us - start + 1
    # A product's first price holds from the start, so that no look-up falls before it.
    offset = event_us - start
    offset[: settings.products] = 0
    keys = product * span + offset
    order = np.argsort(keys, kind="stable")
    return Prices(keys[order], cents[order], start, span)


def _shelf_price(cents: NDArray[np.float64] | Ints) -> Ints:
    """Prices end in 9: 17.49, 239.99."""
    prices: Ints = np.rint(np.asarray(cents) / 10).astype(np.int64) * 10 - 1
    return np.maximum(prices, 99)


def _names(category: Ints, choices: NDArray[np.int64]) -> list[str]:
    names = []
    for shelf, (maker, model, kind) in zip(category.tolist(), choices[:, :3].tolist(), strict=True):
        nouns = CATEGORIES[shelf].nouns
        brand, noun = BRANDS[maker % len(BRANDS)], nouns[kind % len(nouns)]
        names.append(f"{brand} {MODELS[model % len(MODELS)]} {noun}")
    return names


def _attributes(choices: NDArray[np.int64]) -> list[dict[str, str]]:
    return [
        {
            "color": COLORS[color % len(COLORS)],
            "material": MATERIALS[material % len(MATERIALS)],
            "weight_g": str(50 + color % 4_000),
        }
        for color, material in choices[:, 4:6].tolist()
    ]
