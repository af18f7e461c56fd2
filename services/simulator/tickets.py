"""Support tickets: opened, answered, resolved, now and then escalated, reopened, rated."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from services.simulator.customers import Customers
from services.simulator.orders import Ledger
from services.simulator.rhythm import OFFICE_DAYS, Ints, instants, pick
from services.simulator.settings import SimulationSettings
from services.simulator.visits import Rows
from services.simulator.vocabulary import (
    AGENT_BODIES,
    AGENTS,
    CUSTOMER_BODIES,
    TICKET_SUBJECTS,
)

# `body` counts what customers say first, then what agents say; -1 is nothing.
TICKET_ROW = np.dtype(
    [
        ("event_us", "i8"),
        ("ticket", "i8"),
        ("user", "i4"),
        ("type", "i1"),
        ("channel", "i1"),
        ("category", "i1"),
        ("priority", "i1"),
        ("subject", "i2"),
        ("body", "i2"),
        ("order", "i8"),
        ("satisfaction", "i1"),
        ("agent", "i2"),
    ]
)
TYPES = ("opened", "message", "escalated", "resolved", "reopened", "rated")
OPENED, MESSAGE, ESCALATED, RESOLVED, REOPENED, RATED = range(6)
CHANNELS = ("email", "chat", "phone", "web")
CATEGORIES = tuple(TICKET_SUBJECTS)
PRIORITIES = ("low", "normal", "high", "urgent")
_FRAUD = CATEGORIES.index("fraud")
_MESSAGES = 8

# A ticket's possible life, step by step, and how likely each step is.
_LIFE = np.array([OPENED, *[MESSAGE] * _MESSAGES, ESCALATED, RESOLVED, REOPENED, RESOLVED, RATED])
_LIKELY = np.array([1.0, *np.full(_MESSAGES, 0.3), 0.08, 0.93, 0.07, 0.07, 0.3])
EVENTS_A_TICKET = float(_LIKELY.sum())


def make_tickets(
    rng: Generator, settings: SimulationSettings, customers: Customers, ledger: Ledger
) -> Rows:
    """Rows in time order. Victims of fraud write first; most others ask about an order."""
    count = round(settings.records_of("customer_support") / EVENTS_A_TICKET)
    tickets = _open(rng, settings, customers, ledger, count)
    happens = rng.random((count, len(_LIFE))) < _LIKELY
    happens[:, -2] = happens[:, -3]
    pause = rng.lognormal(np.log(35 * 60e6), 1.1, (count, len(_LIFE))) * happens
    pause[:, 0] = 0
    after = np.cumsum(pause, axis=1).astype(np.int64)
    ticket, step = np.nonzero(happens)
    rows = tickets[ticket]
    rows["event_us"] += after[ticket, step]
    rows["type"] = _LIFE[step]
    total = len(rows)
    rows["satisfaction"] = np.where(
        rows["type"] == RATED, 1 + pick(rng, np.array([0.1, 0.08, 0.12, 0.3, 0.4]), total), 0
    )
    rows["priority"] = np.where(rows["type"] == ESCALATED, 3, rows["priority"])
    answers = (rows["type"] == MESSAGE) & (step % 2 == 1)
    by_agent = answers | np.isin(rows["type"], (ESCALATED, RESOLVED))
    rows["agent"] = np.where(by_agent, rng.integers(0, AGENTS, total), -1)
    asked = rng.integers(0, len(CUSTOMER_BODIES), total)
    answered = len(CUSTOMER_BODIES) + rng.integers(0, len(AGENT_BODIES), total)
    spoken = np.isin(rows["type"], (OPENED, MESSAGE))
    rows["body"] = np.where(spoken, np.where(answers, answered, asked), -1)
    rows = rows[rows["event_us"] < settings.end_us]
    return rows[np.argsort(rows["event_us"], kind="stable")]


def _open(
    rng: Generator, settings: SimulationSettings, customers: Customers, ledger: Ledger, count: int
) -> Rows:
    tickets = np.zeros(count, TICKET_ROW)
    tickets["ticket"] = np.arange(count)
    start = instants(rng, settings, count, days=OFFICE_DAYS)
    user = customers.known_at(pick(rng, customers.activity, count), start)
    category = pick(rng, np.array([0.38, 0.16, 0.22, 0.12, 0.01, 0.11]), count)
    order = np.full(count, -1, dtype=np.int64)
    about = np.flatnonzero(rng.random(count) < 0.6)
    paid = _paid(rng, ledger, len(about))
    about = about[: len(paid)]
    user[about], order[about] = ledger.rows["user"][paid], ledger.rows["order"][paid]
    start[about] = ledger.rows["event_us"][paid] + (
        rng.gamma(2.0, 36 * 3.6e9, len(paid)).astype(np.int64)
    )
    # Some victims notice within days, long before the chargeback arrives.
    robbed = np.flatnonzero((ledger.rows["case"] >= 0) & (rng.random(len(ledger.rows)) < 0.2))
    robbed = robbed[:count]
    victims = np.arange(len(robbed))
    category[victims] = _FRAUD
    user[victims], order[victims] = ledger.rows["user"][robbed], ledger.rows["order"][robbed]
    start[victims] = ledger.rows["event_us"][robbed] + (
        rng.gamma(2.0, 12 * 3.6e9, len(robbed)).astype(np.int64)
    )
    tickets["event_us"], tickets["user"] = start, user
    tickets["category"], tickets["order"] = category, order
    tickets["channel"] = pick(rng, np.array([0.4, 0.3, 0.1, 0.2]), count)
    tickets["priority"] = np.where(
        category == _FRAUD, 2, pick(rng, np.array([0.2, 0.65, 0.15]), count)
    )
    subjects = np.array([len(TICKET_SUBJECTS[name]) for name in CATEGORIES])
    tickets["subject"] = (rng.random(count) * subjects[category]).astype(np.int64)
    return tickets


def _paid(rng: Generator, ledger: Ledger, count: int) -> Ints:
    """`count` payments to ask about; none if there is none."""
    if len(ledger.rows) == 0:
        return np.zeros(0, np.int64)
    return rng.integers(0, len(ledger.rows), count)
