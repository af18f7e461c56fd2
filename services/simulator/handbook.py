"""Card payments as the Fraud Detection Handbook describes them, with its three kinds of fraud.

The book is Le Borgne, Siblini, Lebichot, Bontempi: Reproducible Machine Learning for Credit Card
Fraud Detection (https://fraud-detection-handbook.github.io), chapter 3, "Transaction data
simulator". Customers and terminals lie on a square of 100 by 100; a customer pays at terminals less
than 5 away.

1. A payment of more than 220 is fraud.
2. Two terminals a day are compromised: all their payments of the next 28 days are fraud.
3. Three customers a day are compromised: of their payments of the next 14 days, a third are fraud
   and cost five times as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_SIDE = 100.0
_RADIUS = 5.0
_SECONDS = 86_400
_LARGE = 220.0
_TERMINALS_A_DAY, _TERMINAL_DAYS = 2, 28
_CUSTOMERS_A_DAY, _CUSTOMER_DAYS, _SHARE, _FACTOR = 3, 14, 3, 5
_AT_ONCE = 500  # customers whose distances are worked out at once


@dataclass(frozen=True, slots=True)
class HandbookSettings:
    """The book's draw has 5,000 customers, 10,000 terminals, and 183 days from 1 April 2018."""

    customers: int = 5_000
    terminals: int = 10_000
    days: int = 183
    start: date = date(2018, 4, 1)
    seed: int = 0


def simulate_handbook(settings: HandbookSettings) -> pa.Table:
    """All payments in order of time; the same settings give the same payments.

    Columns: transaction_id, tx_datetime (microseconds, UTC), customer_id, terminal_id (text),
    tx_amount, tx_fraud (0 or 1), tx_fraud_scenario (0 to 3). A customer with no terminal near does
    not pay.
    """
    rng = np.random.default_rng(settings.seed)
    customer, day, second, amount = _payments(settings, rng)
    terminal = _terminals(settings, rng, customer)
    order = np.lexsort((customer, second, day))
    order = order[terminal[order] >= 0]
    customer, day, second, terminal = (
        column[order] for column in (customer, day, second, terminal)
    )
    amount = amount[order]
    scenario = np.where(amount > _LARGE, 1, 0)
    for begins in range(settings.days):
        for each in _drawn(rng, settings.terminals, _TERMINALS_A_DAY):
            scenario[(terminal == each) & _within(day, begins, _TERMINAL_DAYS)] = 2
    by_customer = np.argsort(customer, kind="stable")
    ends = np.searchsorted(customer[by_customer], np.arange(settings.customers + 1))
    for begins in range(settings.days):
        for each in _drawn(rng, settings.customers, _CUSTOMERS_A_DAY):
            mine = by_customer[ends[each] : ends[each + 1]]
            mine = mine[_within(day[mine], begins, _CUSTOMER_DAYS)]
            hit = rng.choice(mine, len(mine) // _SHARE, replace=False)
            amount[hit] *= _FACTOR
            scenario[hit] = 3
    first_us = int(np.datetime64(settings.start, "us").astype(np.int64))
    times_us = first_us + (day * _SECONDS + second) * 1_000_000
    return pa.table(
        {
            "transaction_id": _texts(np.arange(len(day))),
            "tx_datetime": pa.array(times_us, pa.timestamp("us", "UTC")),
            "customer_id": _texts(customer),
            "terminal_id": _texts(terminal),
            "tx_amount": np.round(amount, 2),
            "tx_fraud": (scenario > 0).astype(np.int8),
            "tx_fraud_scenario": scenario.astype(np.int8),
        }
    )


def _texts(numbers: NDArray[np.int64]) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _drawn(rng: np.random.Generator, of: int, few: int) -> list[int]:
    return rng.choice(of, min(few, of), replace=False).tolist()


def _within(day: NDArray[np.int64], begins: int, days: int) -> NDArray[np.bool_]:
    return (day >= begins) & (day < begins + days)


def _payments(
    settings: HandbookSettings, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Customer, day, second of the day and amount of every payment, in no order of time."""
    means = rng.uniform(5, 100, settings.customers)
    rates = rng.uniform(0, 4, settings.customers)
    counts = rng.poisson(rates[:, None], (settings.customers, settings.days))
    customer = np.repeat(np.arange(settings.customers), counts.sum(axis=1))
    day = np.repeat(np.tile(np.arange(settings.days), settings.customers), counts.reshape(-1))
    second = rng.normal(_SECONDS / 2, 20_000, len(day)).astype(np.int64)
    mean = means[customer]
    amount = rng.normal(mean, mean / 2)
    amount = np.where(amount < 0, rng.uniform(0, 2 * mean), amount)
    within = (second > 0) & (second < _SECONDS)
    return customer[within], day[within], second[within], np.round(amount[within], 2)


def _terminals(
    settings: HandbookSettings, rng: np.random.Generator, customer: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The terminal of every payment, one of those near its customer; -1 where none is."""
    homes = rng.uniform(0, _SIDE, (settings.customers, 2))
    places = rng.uniform(0, _SIDE, (settings.terminals, 2))
    near, counts = [np.zeros(1, np.int64)], []
    for first in range(0, settings.customers, _AT_ONCE):
        apart = homes[first : first + _AT_ONCE, None] - places[None]
        reachable = (apart**2).sum(axis=2) < _RADIUS**2
        near.append(np.nonzero(reachable)[1])
        counts.append(reachable.sum(axis=1))
    terminals, count = np.concatenate(near), np.concatenate(counts)
    begins = 1 + np.cumsum(count) - count
    has_any = count[customer] > 0
    chosen = begins[customer] + rng.integers(0, np.maximum(count[customer], 1))
    found: NDArray[np.int64] = np.where(has_any, terminals[np.where(has_any, chosen, 0)], -1)
    return found
