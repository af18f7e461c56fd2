"""Who shops: places, customers with habits, and the devices they use."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from services.simulator.payloads import Device, Geo
from services.simulator.rhythm import Floats, Ints, pick
from services.simulator.settings import DAY_US, SimulationSettings
from services.simulator.vocabulary import BOT_AGENTS, BROWSERS, CATEGORIES, COUNTRIES

FAVOURITES = 3
_FIRST_OCTETS = np.array([5, 31, 46, 62, 77, 79, 80, 84, 87, 89, 91, 93, 109, 176, 188, 212])


@dataclass(frozen=True, slots=True)
class Places:
    """Cities of the world the shop knows; `country[i]` indexes COUNTRIES."""

    geos: list[Geo]
    country: Ints
    of_country: list[Ints]


@dataclass(frozen=True, slots=True)
class Customers:
    """Columns over customers, those of the first day first (`existing` of them).

    `activity` weighs how often one comes, `favourites` (n, 3) are categories by preference,
    `basket` is the mean number of further articles in a basket, `devices` how many one uses,
    starting at row `first_device` of the devices.
    """

    ids: list[str]
    place: Ints
    activity: Floats
    favourites: NDArray[np.int64]
    basket: Floats
    devices: Ints
    first_device: Ints
    cards: Ints
    segment: Ints
    given: list[str]
    family: list[str]
    emails: list[str]
    phones: list[str]
    births: list[str]
    signed_up_us: Ints
    existing: int

    def __len__(self) -> int:
        return len(self.ids)

    def known_at(self, customers: Ints, times_us: Ints) -> Ints:
        """The given customers, each who had not signed up by then replaced by one who had."""
        early = times_us < self.signed_up_us[customers]
        return np.where(early, customers % self.existing, customers)


@dataclass(frozen=True, slots=True)
class Devices:
    """The customers' devices, then the attackers', then the bots'."""

    records: list[Device]
    addresses: list[str]
    first_attacker: int
    first_bot: int


def make_places() -> Places:
    geos = [Geo(country.code, city) for country in COUNTRIES for city in country.cities]
    country = np.repeat(np.arange(len(COUNTRIES)), [len(c.cities) for c in COUNTRIES])
    of_country = [np.flatnonzero(country == index) for index in range(len(COUNTRIES))]
    return Places(geos, country, of_country)


def make_customers(rng: Generator, settings: SimulationSettings, places: Places) -> Customers:
    """A few come often, most seldom; one in twenty signs up during the simulation."""
    count = settings.customers
    existing = count - count // 20
    home = pick(rng, np.array([country.weight for country in COUNTRIES]), count)
    sizes = np.array([len(of) for of in places.of_country])
    starts = np.array([of[0] for of in places.of_country])
    place = starts[home] + (rng.random(count) ** 2 * sizes[home]).astype(np.int64)
    given, family = _names(rng, home)
    age_days = rng.integers(1, 1_500, count)
    signed_up = settings.start_us - age_days * DAY_US + rng.integers(0, DAY_US, count)
    signed_up[existing:] = settings.start_us + rng.integers(
        0, settings.days * DAY_US, count - existing
    )
    devices = 1 + pick(rng, np.array([0.45, 0.38, 0.17]), count)
    return Customers(
        ids=[f"C{100_000 + index}" for index in range(count)],
        place=place,
        activity=np.minimum(rng.pareto(1.6, count) + 0.15, 40.0),
        favourites=_favourites(rng, count),
        basket=rng.gamma(2.0, 0.45, count),
        devices=devices,
        first_device=np.cumsum(devices) - devices,
        cards=1 + (rng.random(count) < 0.25),
        segment=np.minimum(age_days // 250, 3) * (np.arange(count) < existing),
        given=given,
        family=family,
        emails=_emails(given, family),
        phones=_phones(rng, home),
        births=np.datetime_as_string(
            np.datetime64("1940-01-01") + rng.integers(0, 24_500, count)
        ).tolist(),
        signed_up_us=signed_up,
        existing=existing,
    )


def make_devices(
    rng: Generator, customers: Customers, places: Places, attackers: int, bots: int
) -> Devices:
    """One device record for every customer's device, attacker and bot."""
    owner = np.repeat(np.arange(len(customers)), customers.devices)
    weights = np.array([weight for _, weight in BROWSERS], dtype=np.float64)
    browser = pick(rng, weights, len(owner) + attackers)
    agents = [BROWSERS[index][0] for index in browser.tolist()]
    agents += [BOT_AGENTS[index % len(BOT_AGENTS)] for index in range(bots)]
    languages = [
        COUNTRIES[index].language for index in places.country[customers.place[owner]].tolist()
    ]
    languages += ["en-US"] * (attackers + bots)
    total = len(agents)
    tokens = rng.integers(0, 1 << 63, total, dtype=np.int64)
    records = [
        Device(f"d-{token:016x}", agent, language)
        for token, agent, language in zip(tokens.tolist(), agents, languages, strict=True)
    ]
    return Devices(records, _addresses(rng, total), len(owner), len(owner) + attackers)


def with_more(rng: Generator, devices: Devices, count: int) -> Devices:
    """Behind the others so many more devices, of nobody known."""
    weights = np.array([weight for _, weight in BROWSERS], dtype=np.float64)
    agents = [BROWSERS[index][0] for index in pick(rng, weights, count).tolist()]
    tokens = rng.integers(0, 1 << 63, count, dtype=np.int64).tolist()
    records = [
        Device(f"d-{token:016x}", agent, "en-US")
        for token, agent in zip(tokens, agents, strict=True)
    ]
    return replace(
        devices,
        records=[*devices.records, *records],
        addresses=[*devices.addresses, *_addresses(rng, count)],
    )


def _favourites(rng: Generator, count: int) -> NDArray[np.int64]:
    weights = np.array([category.weight for category in CATEGORIES])
    # Gumbel's trick: the three largest of log weight + noise are a draw without repetition.
    noise = np.log(weights) + rng.gumbel(0.0, 1.0, (count, len(weights)))
    return np.argsort(-noise, axis=1)[:, :FAVOURITES].astype(np.int64)


def _names(rng: Generator, home: Ints) -> tuple[list[str], list[str]]:
    first, second = rng.random(len(home)).tolist(), rng.random(len(home)).tolist()
    given, family = [], []
    for index, one, two in zip(home.tolist(), first, second, strict=True):
        country = COUNTRIES[index]
        given.append(country.given[int(one * len(country.given))])
        family.append(country.family[int(two * len(country.family))])
    return given, family


def _latin(name: str) -> str:
    """The ASCII letters of a name, lower case: 'Zoë' -> 'zoe', '陽斗' -> ''."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    return "".join(letter for letter in plain.lower() if letter.isalnum())


def _emails(given: list[str], family: list[str]) -> list[str]:
    return [
        f"{_latin(one) or 'customer'}.{_latin(two) or 'shop'}{index}@mail.example"
        for index, (one, two) in enumerate(zip(given, family, strict=True))
    ]


def _phones(rng: Generator, home: Ints) -> list[str]:
    numbers = rng.integers(100_000_000, 999_999_999, len(home)).tolist()
    return [
        f"{COUNTRIES[index].phone}{number}"
        for index, number in zip(home.tolist(), numbers, strict=True)
    ]


def _addresses(rng: Generator, count: int) -> list[str]:
    """IPv4 for most, IPv6 (documentation prefix) for a fifth."""
    first = _FIRST_OCTETS[rng.integers(0, len(_FIRST_OCTETS), count)].tolist()
    rest = rng.integers(0, 1 << 24, count).tolist()
    six = (rng.random(count) < 0.2).tolist()
    return [
        f"2001:db8:{low >> 12:x}:{low & 0xFFF:x}::{high:x}"
        if modern
        else f"{high}.{low >> 16}.{low >> 8 & 255}.{low & 255}"
        for high, low, modern in zip(first, rest, six, strict=True)
    ]
