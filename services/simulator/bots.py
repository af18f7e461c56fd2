"""Bots: accounts that click too regularly and, some of them, never stop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from services.simulator import funnel
from services.simulator.rhythm import Ints
from services.simulator.settings import DAY_US, SimulationSettings
from services.simulator.visits import Rows, Shop, click_rows

SHARE_OF_CLICKS = 0.06
ACCOUNTS = 6
# One account walks through more pages than a session may hold, another outlives a session's day.
_CRAWLER_CLICKS = 10_400
_CRAWLER_PAUSE_US = 4_000_000
_MONITOR_PAUSE_US = 20 * 60_000_000
_SCRAPE_CLICKS = 120
_SCRAPE_PAUSE_US = 10_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """Regular clicking: `clicks` of them from `start_us` on, one every `pause_us`."""

    account: int
    start_us: int
    clicks: int
    pause_us: int


def plan_runs(rng: Generator, settings: SimulationSettings, budget: int) -> list[Run]:
    """What the bots do with `budget` clicks; the two endless ones only where it is large enough."""
    runs = []
    monitor_clicks = settings.days * DAY_US // _MONITOR_PAUSE_US
    if settings.days >= 2 and budget >= _CRAWLER_CLICKS * 1.2:
        length = _CRAWLER_CLICKS * _CRAWLER_PAUSE_US
        start = settings.start_us + int(rng.integers(0, settings.days * DAY_US - length))
        runs.append(Run(0, start, _CRAWLER_CLICKS, _CRAWLER_PAUSE_US))
        budget -= _CRAWLER_CLICKS
    if settings.days >= 2 and budget >= monitor_clicks:
        runs.append(Run(1, settings.start_us, monitor_clicks, _MONITOR_PAUSE_US))
        budget -= monitor_clicks
    for number in range(budget // _SCRAPE_CLICKS):
        latest = settings.days * DAY_US - _SCRAPE_CLICKS * _SCRAPE_PAUSE_US
        start = settings.start_us + int(rng.integers(0, latest))
        runs.append(Run(2 + number % (ACCOUNTS - 2), start, _SCRAPE_CLICKS, _SCRAPE_PAUSE_US))
    return runs


def click_runs(
    rng: Generator, shop: Shop, runs: list[Run], first_visit: int, first_device: int
) -> Rows:
    """The runs' clicks: product after product, with a category page now and then.

    Bot accounts are users numbered after the customers; every run is a visit of its own.
    """
    clicks = np.array([run.clicks for run in runs], dtype=np.int64)
    run = np.repeat(np.arange(len(runs)), clicks)
    nth: Ints = np.arange(len(run)) - np.repeat(np.cumsum(clicks) - clicks, clicks)
    account = np.array([run.account for run in runs], dtype=np.int64)[run]
    pause = np.array([run.pause_us for run in runs], dtype=np.int64)[run]
    start = np.array([run.start_us for run in runs], dtype=np.int64)[run]
    rows = click_rows(len(run))
    rows["event_us"] = start + nth * pause + (rng.random(len(run)) * 0.03 * pause).astype(np.int64)
    rows["visit"] = first_visit + run
    rows["user"] = len(shop.customers) + account
    rows["device"] = first_device + account
    rows["place"] = account % len(shop.places.geos)
    product = nth % len(shop.products)
    category = shop.products.category[product]
    shelf = nth % 25 == 0
    rows["type"] = np.where(shelf, funnel.CATEGORY_VIEW, funnel.PRODUCT_VIEW)
    rows["category"] = category
    rows["product"] = np.where(shelf, -1, product)
    rows["page"] = np.where(
        shelf, shop.pages.first_category + category, shop.pages.first_product + product
    )
    return rows
