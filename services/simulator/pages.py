"""The shop's pages: every URL and title that a click can show, under one index."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote_plus

import numpy as np

from services.simulator.catalogue import Products
from services.simulator.rhythm import Floats, Ints
from services.simulator.vocabulary import CATEGORIES, EXTERNAL_REFERRERS, SHOP

HOME, CART, CHECKOUT, THANKS, ACCOUNT, HELP = range(6)
_STATIC = (
    ("/", "Tide & Gate – everything for outside and home"),
    ("/cart", "Your cart"),
    ("/checkout", "Checkout"),
    ("/checkout/thank-you", "Thank you!"),
    ("/account/address", "Your address"),
    ("/help/returns", "Returns & refunds"),
)


@dataclass(frozen=True, slots=True)
class Pages:
    """URLs and titles: static pages, categories, searches, products; then external referrers.

    `queries` are all search texts; `query_first[c]` is the first one of category c.
    """

    urls: list[str]
    titles: list[str]
    queries: list[str]
    query_first: Ints
    first_category: int
    first_query: int
    first_product: int
    first_external: int
    external_weights: Floats


def make_pages(products: Products) -> Pages:
    queries = [query for category in CATEGORIES for query in category.searches]
    urls = [SHOP + path for path, _ in _STATIC]
    titles = [title for _, title in _STATIC]
    urls += [f"{SHOP}/c/{category.slug}" for category in CATEGORIES]
    titles += [category.slug.capitalize() for category in CATEGORIES]
    urls += [f"{SHOP}/search?q={quote_plus(query)}" for query in queries]
    titles += [f"Results for “{query}”" for query in queries]
    urls += [f"{SHOP}/p/{identity.lower()}" for identity in products.ids]
    titles += products.names
    first_query = len(_STATIC) + len(CATEGORIES)
    return Pages(
        urls=urls + [url for url, _ in EXTERNAL_REFERRERS],
        titles=titles,
        queries=queries,
        query_first=np.cumsum([0, *(len(category.searches) for category in CATEGORIES)]),
        first_category=len(_STATIC),
        first_query=first_query,
        first_product=first_query + len(queries),
        first_external=len(urls),
        external_weights=np.array([weight for _, weight in EXTERNAL_REFERRERS], dtype=np.float64),
    )
