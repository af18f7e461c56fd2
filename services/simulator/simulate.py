"""The composition: a seeded shop, its month, what goes wrong with it, and the truth about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from services.simulator import bots, frauds, funnel
from services.simulator.bots import Run
from services.simulator.casebook import (
    describe_bots,
    describe_frauds,
    describe_misuse,
    instant,
)
from services.simulator.catalogue import make_catalogue, make_products
from services.simulator.customers import (
    Devices,
    make_customers,
    make_devices,
    make_places,
    with_more,
)
from services.simulator.deliveries import deliver, in_order, promptly
from services.simulator.frauds import Frauds
from services.simulator.identifiers import money
from services.simulator.labels import make_labels
from services.simulator.misuse import KINDS as MISUSES
from services.simulator.misuse import Misuse, case_count, misuse
from services.simulator.orders import (
    AUTHORIZED,
    CAPTURED,
    Ledger,
    close_books,
    order_elsewhere,
    pay_for_purchases,
)
from services.simulator.pages import make_pages
from services.simulator.profiles import make_profiles
from services.simulator.reckoning import BUFFERED, FAILED, LATE, Verdicts
from services.simulator.rhythm import Ints
from services.simulator.settings import DAY_US, SOURCES, SimulationSettings
from services.simulator.stream import (
    Chunk,
    Partition,
    Timeline,
    chunks,
    count_source,
    make_timeline,
    split,
    verdicts,
)
from services.simulator.tables import (
    Clickstream,
    CustomerProfiles,
    CustomerSupport,
    Labels,
    ProductCatalog,
    Table,
    Transactions,
)
from services.simulator.tickets import make_tickets
from services.simulator.truth import DayTruth, GroundTruth
from services.simulator.visits import Rows, Shop, plan_visits, walk

# The mean of the funnel's Markov chain: how many visits give the clicks that are wanted.
CLICKS_A_VISIT = 4.8
_CURRENCY = "EUR"


@dataclass(frozen=True, slots=True)
class _Randomness:
    """Independent generators, one a subject: what one draws does not change the others."""

    customers: Generator
    products: Generator
    catalogue: Generator
    profiles: Generator
    visits: Generator
    bots: Generator
    orders: Generator
    frauds: Generator
    tickets: Generator
    labels: Generator
    misuse: Generator
    deliveries: tuple[Generator, ...]
    salts: tuple[int, ...]

    @staticmethod
    def seeded(seed: int) -> _Randomness:
        root = Generator(PCG64(seed))
        salts = tuple(root.integers(0, 1 << 62, len(SOURCES)).tolist())
        deliveries = tuple(root.spawn(len(SOURCES)))
        generators = iter(root.spawn(11))
        return _Randomness(
            customers=next(generators),
            products=next(generators),
            catalogue=next(generators),
            profiles=next(generators),
            visits=next(generators),
            bots=next(generators),
            orders=next(generators),
            frauds=next(generators),
            tickets=next(generators),
            labels=next(generators),
            misuse=next(generators),
            deliveries=deliveries,
            salts=salts,
        )


@dataclass(frozen=True, slots=True)
class _Month:
    """Everything that happens, before anything is delivered.

    Visits below `shoppers` are shoppers', the others takeovers', bots' and, last, misuse.
    """

    shop: Shop
    devices: Devices
    shoppers: int
    clicks: Rows
    ledger: Ledger
    frauds: Frauds
    runs: list[Run]
    misuse: Misuse


class Simulation:
    """A simulated month: iterate `chunks()` as often as needed, `truth` is what they hold."""

    def __init__(
        self,
        settings: SimulationSettings,
        timeline: Timeline,
        partitions: list[Partition],
        truth: GroundTruth,
    ) -> None:
        self.settings = settings
        self.truth = truth
        self._timeline = timeline
        self._partitions = partitions

    @property
    def records(self) -> int:
        """Records of all sources, heartbeats aside."""
        return sum(source.total for source in self.truth.sources.values())

    def chunks(self) -> Iterator[Chunk]:
        """The stream in order of arrival; the same every time."""
        return chunks(self.settings, self._timeline, self._partitions)


def simulate(settings: SimulationSettings) -> Simulation:
    """Let a month happen in columns; bytes are made while `chunks()` is read."""
    rng = _Randomness.seeded(settings.seed)
    month, tables = _live(rng, settings)
    timeline = make_timeline(settings)
    partitions: dict[str, list[Partition]] = {}
    for table, own_rng in zip(tables, rng.deliveries, strict=True):
        carrier, spared = _carriers(month, table)
        delivered = deliver(own_rng, settings, table, carrier, spared)
        if isinstance(table, Clickstream):
            prompt = promptly(rng.misuse, settings, table, len(carrier))
            delivered = in_order(delivered, prompt)
        partitions[table.source] = split(settings, timeline, table, delivered)
    judged = {
        source: [verdicts(timeline, partition) for partition in parts]
        for source, parts in partitions.items()
    }
    truth = _truth(settings, timeline, month, partitions, judged, rng.salts[1])
    everything = [partition for parts in partitions.values() for partition in parts]
    return Simulation(settings, timeline, everything, truth)


def _live(rng: _Randomness, settings: SimulationSettings) -> tuple[_Month, list[Table]]:
    places = make_places()
    customers = make_customers(rng.customers, settings, places)
    cases = sum(frauds.case_counts(settings))
    devices = make_devices(rng.customers, customers, places, cases, bots.ACCOUNTS)
    first_misused = len(devices.records)
    devices = with_more(rng.misuse, devices, len(MISUSES) * case_count(settings))
    products = make_products(rng.products, settings)
    catalogue, prices = make_catalogue(rng.catalogue, settings, products)
    shop = Shop(settings, places, customers, products, prices, make_pages(products))
    profiles = make_profiles(rng.profiles, settings, customers, places)
    budget = _click_budget(settings, len(catalogue) + len(profiles))
    month = _trade(rng, shop, devices, budget, first_misused)
    tickets = make_tickets(rng.tickets, settings, customers, month.ledger)
    labels = make_labels(rng.labels, settings, month.ledger)
    salts = rng.salts
    return month, [
        Clickstream(shop, devices, month.clicks, salts[0]),
        Transactions(shop, devices, month.ledger, salts[1]),
        CustomerSupport(shop, tickets, salts[2]),
        ProductCatalog(shop, catalogue, salts[3]),
        CustomerProfiles(shop, profiles, salts[4]),
        Labels(shop, month.ledger, labels, salts[5], salts[1]),
    ]


def _click_budget(settings: SimulationSettings, reference: int) -> int:
    """Clicks that the other sources leave."""
    others = ("transactions", "customer_support", "labels")
    taken = reference + sum(settings.records_of(source) for source in others)
    return max(0, settings.valid_events - taken)


def _trade(
    rng: _Randomness, shop: Shop, devices: Devices, click_budget: int, first_misused: int
) -> _Month:
    """Visits and orders, then what thieves, bots and misuse add to them."""
    settings = shop.settings
    runs = bots.plan_runs(rng.bots, settings, int(click_budget * bots.SHARE_OF_CLICKS))
    by_bots = sum(run.clicks for run in runs)
    shoppers = round((click_budget - by_bots) / CLICKS_A_VISIT)
    clicks, purchases = walk(rng.visits, shop, plan_visits(rng.visits, shop, shoppers))
    online = pay_for_purchases(rng.orders, shop, clicks, purchases)
    orders = len(online.rows)
    elsewhere = order_elsewhere(
        rng.orders, shop, max(0, settings.records_of("transactions") - orders), orders
    )
    orders += len(elsewhere.rows)
    theft = frauds.commit(
        rng.frauds, shop, [online, elsewhere], orders, shoppers, devices.first_attacker
    )
    ledger = close_books(rng.orders, shop, [online, elsewhere, theft.payments])
    first_run = shoppers + len(theft.cases)
    crawled = bots.click_runs(rng.bots, shop, runs, first_run, devices.first_bot)
    misused = misuse(rng.misuse, shop, devices, first_misused, first_run + len(runs))
    everything = np.concatenate((clicks, theft.clicks, crawled, misused.clicks))
    return _Month(shop, devices, shoppers, everything, ledger, theft, runs, misused)


def _carriers(month: _Month, table: Table) -> tuple[Ints, NDArray[np.bool_]]:
    """What loses its connection together, and what never does: bots and frauds keep their shape."""
    if isinstance(table, Clickstream):
        visit: Ints = month.clicks["visit"][: -len(month.misuse.clicks) or None].copy()
        return visit, visit >= month.shoppers
    alone = np.arange(len(table.event_us))
    if isinstance(table, Transactions):
        return alone, month.ledger.rows["case"] >= 0
    return alone, np.zeros(len(alone), dtype=bool)


def _truth(
    settings: SimulationSettings,
    timeline: Timeline,
    month: _Month,
    partitions: dict[str, list[Partition]],
    judged: dict[str, list[Verdicts]],
    payment_salt: int,
) -> GroundTruth:
    clicks = month.clicks[_valid(partitions["clickstream"], judged["clickstream"], FAILED - 1)]
    shopping = clicks[clicks["visit"] < month.shoppers]
    paid = _valid(partitions["transactions"], judged["transactions"], FAILED - 1)
    in_time = _valid(partitions["transactions"], judged["transactions"], LATE)
    return GroundTruth(
        seed=settings.seed,
        days=settings.days,
        start=instant(settings.start_us),
        end=instant(settings.end_us),
        final_heartbeat=instant(int(timeline.reached_us[-1])),
        partitions={source: len(parts) for source, parts in partitions.items()},
        sources={
            source: count_source(parts, judged[source]) for source, parts in partitions.items()
        },
        visits=int(np.count_nonzero(np.bincount(shopping["visit"]))),
        purchases=int(np.sum(shopping["type"] == funnel.PURCHASE)),
        transactions=len(paid),
        fraudulent_transactions=int(np.sum(month.ledger.rows["case"][paid] >= 0)),
        revenue=_revenue(month.ledger, paid),
        revenue_in_time=_revenue(month.ledger, in_time),
        currency=_CURRENCY,
        daily=_daily(
            month.ledger,
            _valid(partitions["transactions"], judged["transactions"], BUFFERED),
            _days(partitions["clickstream"], judged["clickstream"]),
        ),
        frauds=describe_frauds(
            month.shop, month.devices, month.frauds.cases, month.ledger, paid, payment_salt
        ),
        bots=describe_bots(month.shop, month.devices, month.runs),
        misuse=describe_misuse(month.shop, month.devices, month.misuse),
    )


def _valid(partitions: list[Partition], judged: list[Verdicts], worst: int) -> Ints:
    """Table rows delivered in a valid record at least once, with a fate no worse than `worst`."""
    rows = [
        partition.deliveries["row"][verdict.fate <= worst]
        for partition, verdict in zip(partitions, judged, strict=True)
    ]
    chosen = np.zeros(len(partitions[0].table.event_us), dtype=bool)
    chosen[np.concatenate(rows)] = True
    return np.flatnonzero(chosen)


def _days(partitions: list[Partition], judged: list[Verdicts]) -> Ints:
    """The day, since 1970, of each row that came within the horizon."""
    event_us = partitions[0].table.event_us
    return event_us[_valid(partitions, judged, BUFFERED)] // DAY_US


def _daily(ledger: Ledger, paid: Ints, click_days: Ints) -> dict[str, DayTruth]:
    paid_days = ledger.rows["event_us"][paid] // DAY_US
    settled = _settled(ledger, paid)
    found = {}
    for day in np.union1d(click_days, paid_days).tolist():
        of_day = paid[paid_days == day]
        found[str(np.datetime64(day, "D"))] = DayTruth(
            clicks=int(np.sum(click_days == day)),
            payments=len(of_day),
            purchases=int(np.sum(settled[paid_days == day])),
            revenue=_revenue(ledger, of_day),
        )
    return found


def _settled(ledger: Ledger, rows: Ints) -> NDArray[np.bool_]:
    return np.isin(ledger.rows["status"][rows], (AUTHORIZED, CAPTURED))


def _revenue(ledger: Ledger, rows: Ints) -> str:
    cents = ledger.rows["cents"][rows][_settled(ledger, rows)]
    return money(np.array([cents.sum()]))[0]
