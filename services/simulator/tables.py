"""The six sources as tables: columns in, JSON out, any rows at any time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from dataflows.contracts.timestamps import format_timestamps
from services.simulator import funnel, labels, orders, profiles, tickets
from services.simulator.bots import ACCOUNTS
from services.simulator.customers import Devices
from services.simulator.identifiers import money, uuids
from services.simulator.orders import CARDS_A_CUSTOMER, Ledger
from services.simulator.payloads import (
    Address,
    Cart,
    Click,
    Item,
    LabelEvent,
    PaidBy,
    ProductEvent,
    ProfileEvent,
    TicketEvent,
    Transaction,
)
from services.simulator.rhythm import Ints
from services.simulator.visits import Rows, Shop
from services.simulator.vocabulary import (
    AGENT_BODIES,
    CAMPAIGNS,
    CATEGORIES,
    COUNTRIES,
    CUSTOMER_BODIES,
    LABEL_NOTES,
    TICKET_SUBJECTS,
)

_encode = msgspec.json.Encoder().encode
Words = NDArray[np.object_]


class Table(Protocol):
    """The events of one source, as they would be if nothing ever went wrong.

    Row r has the event time `event_us[r]`, the key `keys[key[r]]` and the bytes `encode([r])[0]`.
    """

    source: str
    event_us: Ints
    key: Ints
    keys: list[bytes]

    def encode(self, rows: Ints) -> list[bytes]: ...


class Clickstream:
    """Clicks as `raw.clickstream` carries them."""

    source = "clickstream"

    def __init__(self, shop: Shop, devices: Devices, rows: Rows, salt: int) -> None:
        self.event_us = rows["event_us"].copy()
        self.key = rows["user"].astype(np.int64)
        users = user_ids(shop)
        self.keys = [user.encode() for user in users]
        self._rows, self._salt = rows, salt
        self._users = _words(users)
        self._types = _words(funnel.EVENT_TYPES)
        self._urls, self._titles = _optional(shop.pages.urls), _words(shop.pages.titles)
        self._products = _optional(shop.products.ids)
        self._categories = _optional([category.slug for category in CATEGORIES])
        self._queries = _optional(shop.pages.queries)
        self._campaigns = _optional(CAMPAIGNS)
        self._devices = _words([Raw(_encode(device)) for device in devices.records])
        self._addresses = _words(devices.addresses)
        self._geos = _words([Raw(_encode(geo)) for geo in shop.places.geos])

    def encode(self, rows: Ints) -> list[bytes]:
        part = self._rows[rows]
        clicks = map(
            Click,
            uuids(rows, self._salt),
            self._types[part["type"]].tolist(),
            format_timestamps(part["event_us"]),
            self._users[part["user"]].tolist(),
            self._urls[part["page"]].tolist(),
            self._titles[part["page"]].tolist(),
            self._urls[part["referrer"]].tolist(),
            self._products[part["product"]].tolist(),
            self._categories[part["category"]].tolist(),
            self._queries[part["query"]].tolist(),
            _numbers(part["quantity"]),
            _order_ids(part["order"]),
            _carts(part),
            self._devices[part["device"]].tolist(),
            self._addresses[part["device"]].tolist(),
            self._geos[part["place"]].tolist(),
            self._campaigns[part["campaign"]].tolist(),
        )
        return [_encode(click) for click in clicks]


class Transactions:
    """Payments as `raw.transactions` carries them."""

    source = "transactions"

    def __init__(self, shop: Shop, devices: Devices, ledger: Ledger, salt: int) -> None:
        self.event_us = ledger.rows["event_us"].copy()
        self.key = ledger.rows["user"].astype(np.int64)
        users = user_ids(shop)
        self.keys = [user.encode() for user in users]
        self.salt = salt
        self._ledger = ledger
        self._users = _words(users)
        self._products = _words(shop.products.ids)
        self._statuses, self._methods = _words(orders.STATUSES), _words(orders.METHODS)
        self._countries = _optional([country.code for country in COUNTRIES])
        self._devices = _optional([Raw(_encode(device)) for device in devices.records])
        self._addresses = _optional(devices.addresses)
        self._terminals = _optional(terminal_ids())

    def encode(self, rows: Ints) -> list[bytes]:
        part = self._ledger.rows[rows]
        payments = map(
            PaidBy,
            self._methods[part["method"]].tolist(),
            _card_ids(part["card"]),
            self._countries[part["card_country"]].tolist(),
        )
        transactions = map(
            Transaction,
            uuids(rows, self.salt),
            self._users[part["user"]].tolist(),
            format_timestamps(part["event_us"]),
            money(part["cents"]),
            ["EUR"] * len(rows),
            self._items(part),
            self._statuses[part["status"]].tolist(),
            payments,
            self._devices[part["device"]].tolist(),
            self._terminals[part["terminal"]].tolist(),
            self._addresses[part["device"]].tolist(),
            self._countries[part["ship_country"]].tolist(),
            _order_ids(part["order"]),
        )
        return [_encode(transaction) for transaction in transactions]

    def _items(self, part: Rows) -> list[list[Item]]:
        counts = part["items"].astype(np.int64)
        ends = np.cumsum(counts)
        shift = np.repeat(part["first_item"] - (ends - counts), counts)
        items = self._ledger.items[np.arange(len(shift)) + shift]
        flat = list(
            map(
                Item,
                self._products[items["product"]].tolist(),
                items["quantity"].tolist(),
                money(items["cents"]),
                money(items["cents"] * items["quantity"]),
            )
        )
        bounds = [0, *ends.tolist()]
        return [flat[low:high] for low, high in pairwise(bounds)]


class CustomerSupport:
    """Ticket events as `raw.customer_support` carries them."""

    source = "customer_support"

    def __init__(self, shop: Shop, rows: Rows, salt: int) -> None:
        self.event_us = rows["event_us"].copy()
        self.key = rows["user"].astype(np.int64)
        users = user_ids(shop)
        self.keys = [user.encode() for user in users]
        self._rows, self._salt = rows, salt
        self._users, self._types = _words(users), _words(tickets.TYPES)
        self._channels, self._categories = _words(tickets.CHANNELS), _words(tickets.CATEGORIES)
        self._priorities, self._bodies = (
            _words(tickets.PRIORITIES),
            _optional(CUSTOMER_BODIES + AGENT_BODIES),
        )

    def encode(self, rows: Ints) -> list[bytes]:
        part = self._rows[rows]
        opened = part["type"] == tickets.OPENED
        events = map(
            TicketEvent,
            uuids(rows, self._salt),
            [f"T-{ticket + 20_000}" for ticket in part["ticket"].tolist()],
            self._types[part["type"]].tolist(),
            format_timestamps(part["event_us"]),
            self._users[part["user"]].tolist(),
            self._channels[part["channel"]].tolist(),
            self._categories[part["category"]].tolist(),
            self._priorities[part["priority"]].tolist(),
            _subjects(part, opened),
            self._bodies[part["body"]].tolist(),
            _order_ids(part["order"]),
            _numbers(part["satisfaction"]),
            [UNSET if agent < 0 else f"agent-{agent + 1:02d}" for agent in part["agent"].tolist()],
        )
        return [_encode(event) for event in events]


class ProductCatalog:
    """Catalogue events as `raw.product_catalog` carries them."""

    source = "product_catalog"

    def __init__(self, shop: Shop, rows: Rows, salt: int) -> None:
        products = shop.products
        self.event_us = rows["event_us"].copy()
        self.key = rows["product"].astype(np.int64)
        self.keys = [product.encode() for product in products.ids]
        self._rows, self._salt = rows, salt
        self._ids, self._names = _words(products.ids), _words(products.names)
        self._brands = _words(products.brands)
        slugs = [category.slug for category in CATEGORIES]
        self._categories = _words([slugs[index] for index in products.category.tolist()])
        self._tags = _words([Raw(_encode(tags)) for tags in products.tags])
        self._attributes = _words([Raw(_encode(values)) for values in products.attributes])

    def encode(self, rows: Ints) -> list[bytes]:
        part = self._rows[rows]
        product = part["product"]
        events = map(
            ProductEvent,
            uuids(rows, self._salt),
            self._ids[product].tolist(),
            format_timestamps(part["event_us"]),
            self._names[product].tolist(),
            self._categories[product].tolist(),
            self._brands[product].tolist(),
            money(part["price"]),
            ["EUR"] * len(rows),
            part["stock"].tolist(),
            part["active"].tolist(),
            self._tags[product].tolist(),
            self._attributes[product].tolist(),
        )
        return [_encode(event) for event in events]


class CustomerProfiles:
    """Profile events as `raw.customer_profiles` carries them."""

    source = "customer_profiles"

    def __init__(self, shop: Shop, rows: Rows, salt: int) -> None:
        self.event_us = rows["event_us"].copy()
        self.key = rows["user"].astype(np.int64)
        self.keys = [user.encode() for user in shop.customers.ids]
        self._rows, self._salt, self._shop = rows, salt, shop
        self._segments = _words(profiles.SEGMENTS)

    def encode(self, rows: Ints) -> list[bytes]:
        part, customers = self._rows[rows], self._shop.customers
        users = part["user"].astype(np.int64)
        events = map(
            ProfileEvent,
            uuids(rows, self._salt),
            [customers.ids[user] for user in users.tolist()],
            format_timestamps(part["event_us"]),
            [customers.emails[user] for user in users.tolist()],
            [f"{customers.given[user]} {customers.family[user]}" for user in users.tolist()],
            [customers.phones[user] for user in users.tolist()],
            [customers.births[user] for user in users.tolist()],
            self._addresses(part),
            self._segments[part["segment"]].tolist(),
            part["opted_in"].tolist(),
            format_timestamps(customers.signed_up_us[users]),
            [None] * len(rows),
        )
        return [_encode(event) for event in events]

    def _addresses(self, part: Rows) -> list[Address]:
        places = self._shop.places
        found = []
        for place, house in zip(part["place"].tolist(), part["house"].tolist(), strict=True):
            geo, country = places.geos[place], COUNTRIES[places.country[place]]
            street = country.streets[house % len(country.streets)]
            code = f"{10_000 + place * 997 + house * 31 % 900:05d}"
            found.append(Address(f"{street} {house}", geo.city, code, geo.country))
        return found


class Labels:
    """Verdicts as `raw.labels` carries them, stamped in epoch milliseconds."""

    source = "labels"

    def __init__(self, shop: Shop, ledger: Ledger, rows: Rows, salt: int, paid_salt: int) -> None:
        self.event_us = rows["event_us"].copy()
        self.key = ledger.rows["user"][rows["payment"]].astype(np.int64)
        users = user_ids(shop)
        self.keys = [user.encode() for user in users]
        self._rows, self._salt, self._paid_salt = rows, salt, paid_salt
        self._users, self._notes = _words(users), _words(LABEL_NOTES)
        self._verdicts, self._origins = _words(labels.VERDICTS), _words(labels.ORIGINS)

    def encode(self, rows: Ints) -> list[bytes]:
        part = self._rows[rows]
        events = map(
            LabelEvent,
            uuids(rows, self._salt),
            uuids(part["payment"], self._paid_salt),
            self._users[self.key[rows]].tolist(),
            (part["event_us"] // 1_000).tolist(),
            self._verdicts[part["verdict"]].tolist(),
            self._origins[part["origin"]].tolist(),
            self._notes[part["note"]].tolist(),
        )
        return [_encode(event) for event in events]


def terminal_ids() -> list[str]:
    return [f"POS-{index + 1:03d}" for index in range(orders.TERMINALS)]


def user_ids(shop: Shop) -> list[str]:
    """Customers, then the accounts that bots use."""
    return shop.customers.ids + [f"C{900_000 + index}" for index in range(ACCOUNTS)]


def _words(values: Sequence[Any]) -> Words:
    """An array of objects to index with columns."""
    words = np.empty(len(values), dtype=object)
    words[:] = values
    return words


def _optional(values: Sequence[Any]) -> Words:
    """Like `_words`, where the index -1 means that the field is absent."""
    return _words([*values, UNSET])


def _numbers(column: Ints) -> list[int | UnsetType]:
    """Positive numbers; 0 means that the field is absent."""
    return [value or UNSET for value in column.tolist()]


def _order_ids(column: Ints) -> list[Any]:
    return [UNSET if order < 0 else f"O-{order + 1_000_000}" for order in column.tolist()]


def _card_ids(column: Ints) -> list[Any]:
    return [
        UNSET if card < 0 else f"card-{card // CARDS_A_CUSTOMER:06d}-{card % CARDS_A_CUSTOMER}"
        for card in column.tolist()
    ]


def _carts(part: Rows) -> list[Cart | UnsetType]:
    carts: list[Cart | UnsetType] = [UNSET] * len(part)
    filled = np.flatnonzero(part["cart_items"] >= 0)
    some = part[filled]
    for at, visit, items, value in zip(
        filled.tolist(),
        some["visit"].tolist(),
        some["cart_items"].tolist(),
        money(some["cart_cents"]),
        strict=True,
    ):
        carts[at] = Cart(f"cart-{visit}", items, value)
    return carts


def _subjects(part: Rows, opened: NDArray[np.bool_]) -> list[Any]:
    return [
        TICKET_SUBJECTS[tickets.CATEGORIES[category]][subject] if first else UNSET
        for category, subject, first in zip(
            part["category"].tolist(), part["subject"].tolist(), opened.tolist(), strict=True
        )
    ]
