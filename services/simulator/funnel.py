"""The Markov chain behind a visit: which click follows which, and after how long.

Logins are no part of it: misuse and mistyped passwords bring their own.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.random import Generator

from services.simulator.rhythm import Floats, Ints

(
    PAGE_VIEW,
    CATEGORY_VIEW,
    SEARCH,
    PRODUCT_VIEW,
    ADD_TO_CART,
    REMOVE_FROM_CART,
    VIEW_CART,
    CHECKOUT_START,
    PURCHASE,
    LEAVE,
    LOGIN,
    LOGIN_FAILED,
) = range(12)

EVENT_TYPES: Final = (
    "page_view",
    "category_view",
    "search",
    "product_view",
    "add_to_cart",
    "remove_from_cart",
    "view_cart",
    "checkout_start",
    "purchase",
    "",  # nobody clicks to leave
    "login",
    "login_failed",
)

ARRIVAL: Final[Floats] = np.array([0.34, 0.22, 0.14, 0.30, 0, 0, 0, 0, 0, 0])

# Rows: the click that was; columns: the click that follows, in the order above.
EMPTY_CART: Final[Floats] = np.array(
    [
        [0.07, 0.38, 0.20, 0.13, 0, 0, 0, 0, 0, 0.22],
        [0.03, 0.16, 0.07, 0.57, 0, 0, 0, 0, 0, 0.17],
        [0.01, 0.09, 0.18, 0.56, 0, 0, 0, 0, 0, 0.16],
        [0.03, 0.18, 0.09, 0.37, 0.09, 0, 0, 0, 0, 0.24],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [0.05, 0.25, 0.10, 0.25, 0, 0, 0, 0, 0, 0.35],
        [0.05, 0.25, 0.10, 0.25, 0, 0, 0, 0, 0, 0.35],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [0.10, 0.05, 0, 0.05, 0, 0, 0, 0, 0, 0.80],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ]
)
FILLED_CART: Final[Floats] = np.array(
    [
        [0.04, 0.28, 0.15, 0.15, 0, 0, 0.20, 0, 0, 0.18],
        [0.02, 0.13, 0.06, 0.52, 0, 0, 0.11, 0, 0, 0.16],
        [0.01, 0.09, 0.15, 0.50, 0, 0, 0.09, 0, 0, 0.16],
        [0.02, 0.14, 0.08, 0.30, 0.12, 0, 0.14, 0, 0, 0.20],
        [0.01, 0.14, 0.07, 0.27, 0, 0, 0.38, 0.04, 0, 0.09],
        [0.02, 0.14, 0.06, 0.20, 0, 0, 0.40, 0, 0, 0.18],
        [0.02, 0.11, 0.05, 0.16, 0, 0.12, 0, 0.31, 0, 0.23],
        [0.01, 0, 0, 0.02, 0, 0, 0.10, 0, 0.60, 0.27],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ]
)

_STEPS: Final[Floats] = np.cumsum(np.stack((EMPTY_CART, FILLED_CART)), axis=2)
# Median seconds between a click and the next.
_DWELL: Final[Floats] = np.array([11.0, 18, 14, 32, 5, 8, 15, 75, 40])
_DWELL_SPREAD: Final = 1.0
# A visit stays one visit: no pause reaches the half hour that separates sessions.
_DWELL_MOST: Final = 1_500.0


def first_clicks(rng: Generator, count: int) -> Ints:
    """How `count` visits begin."""
    return np.searchsorted(np.cumsum(ARRIVAL), rng.random(count), side="right").astype(np.int64)


def next_clicks(rng: Generator, clicks: Ints, filled: Ints) -> Ints:
    """What (or LEAVE) follows each of `clicks`; `filled` is 1 where the cart holds something."""
    steps = _STEPS[filled, clicks]
    drawn = rng.random(len(clicks)) * steps[:, -1]
    following: Ints = np.sum(drawn[:, None] >= steps, axis=1).astype(np.int64)
    return following


def pauses_us(rng: Generator, clicks: Ints) -> Ints:
    """Microseconds that pass after each click, if another one follows."""
    seconds = _DWELL[clicks] * rng.lognormal(0.0, _DWELL_SPREAD, len(clicks))
    return (np.clip(seconds, 0.8, _DWELL_MOST) * 1e6).astype(np.int64)
