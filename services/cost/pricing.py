"""What an amount costs: exact decimals, months of 730 hours.

A day is priced as if the whole month were like it. So a day has its share of what is free in a
month, and what is stored for a day is the share of a month.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from enum import StrEnum

HOURS_A_MONTH = 730
HOURS_A_DAY = 24
LONG_TERM_AFTER_DAYS = 90
GIB = 2**30
TIB = 2**40

_EXACT = Context(prec=60)
_SHOWN = Decimal("0.000001")  # of the currency


class Part(StrEnum):
    """What a bill has a line for; `unit` is what its price is for."""

    unit: str

    PUBSUB = "pubsub", "TiB"
    STORAGE_ACTIVE = "storage_active", "GiB-month"
    STORAGE_LONG_TERM = "storage_long_term", "GiB-month"
    QUERIES = "queries", "TiB"
    GKE_VCPU = "gke_vcpu", "vCPU-hour"
    GKE_MEMORY = "gke_memory", "GiB-hour"
    GKE_CLUSTER = "gke_cluster", "cluster-hour"

    def __new__(cls, value: str, unit: str) -> Part:
        part = str.__new__(cls, value)
        part._value_ = value
        part.unit = unit
        return part


def day_of_month(amount_a_month: Decimal) -> Decimal:
    """A day's share of what there is in a month."""
    with localcontext(_EXACT):
        return amount_a_month * HOURS_A_DAY / HOURS_A_MONTH


def month_of_days(amount_a_day: Decimal) -> Decimal:
    """A month of such days."""
    with localcontext(_EXACT):
        return amount_a_day * HOURS_A_MONTH / HOURS_A_DAY


def gib_months(stored_bytes: Decimal) -> Decimal:
    """What storing so many bytes for a day comes to."""
    with localcontext(_EXACT):
        return day_of_month(stored_bytes / GIB)


def tib(moved_bytes: Decimal) -> Decimal:
    with localcontext(_EXACT):
        return moved_bytes / TIB


def cost_of_day(amount: Decimal, price: Decimal, free_a_month: Decimal) -> Decimal:
    """What a day's amount costs at a price per unit, beyond the day's share of what is free."""
    with localcontext(_EXACT):
        return rounded(max(amount - day_of_month(free_a_month), Decimal(0)) * price)


def rounded(money: Decimal) -> Decimal:
    """To a millionth of the currency, half to even."""
    with localcontext(_EXACT):
        return money.quantize(_SHOWN, ROUND_HALF_EVEN)


def by_age(partitions: Mapping[date, Decimal], day: date) -> tuple[Decimal, Decimal]:
    """Bytes that are active on a day, and long-term: in partitions that have not changed for 90
    days. Those of later days are not there yet.

    Args:
        partitions: bytes by the date of the last change.
    """
    with localcontext(_EXACT):
        active = long_term = Decimal(0)
        for changed, stored in partitions.items():
            age_days = (day - changed).days
            if age_days >= LONG_TERM_AFTER_DAYS:
                long_term += stored
            elif age_days >= 0:
                active += stored
        return active, long_term
