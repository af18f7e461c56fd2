"""What an amount costs, against fractions and a count of hours."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cost.pricing import by_age, cost_of_day, day_of_month, gib_months, month_of_days, tib

DAY = date(2026, 5, 1)
AMOUNTS = st.decimals(0, 10**9, places=9)
PRICES = st.decimals(0, 10**4, places=7)
STEP = Fraction(1, 10**6)


@given(AMOUNTS, PRICES, AMOUNTS)
def test_a_day_pays_for_what_is_beyond_its_share_of_what_is_free(
    amount: Decimal, price: Decimal, free: Decimal
) -> None:
    """As if each of the month's 730 hours used a 24th of the day, and the bill came at its end."""
    hourly = Fraction(amount) / 24
    bill = max(hourly * 730 - Fraction(free), Fraction(0)) * Fraction(price)
    exact = bill / 730 * 24
    assert abs(Fraction(cost_of_day(amount, price, free)) - exact) <= STEP / 2


@pytest.mark.parametrize(
    ("amount", "costs"),
    [("24", "0.000000"), ("24.01", "0.010000"), ("0", "0.000000"), ("25", "1.000000")],
)
def test_what_is_free_of_730_is_24_a_day(amount: str, costs: str) -> None:
    assert str(cost_of_day(Decimal(amount), Decimal(1), Decimal(730))) == costs


def test_half_a_millionth_goes_to_the_even_neighbour() -> None:
    halves = [cost_of_day(Decimal(n), Decimal("0.0000005"), Decimal(0)) for n in (1, 3)]
    assert [str(money) for money in halves] == ["0.000000", "0.000002"]


@given(AMOUNTS)
def test_a_month_of_the_days_of_a_month_is_that_month(amount: Decimal) -> None:
    there_and_back = month_of_days(day_of_month(amount))
    assert abs(Fraction(there_and_back) - Fraction(amount)) < Fraction(1, 10**40)


def test_units() -> None:
    assert tib(Decimal(2**40)) == 1
    assert gib_months(Decimal(2**30) * 730) == 24


@pytest.mark.parametrize(
    ("age_days", "active", "long_term"),
    [(0, 7, 0), (89, 7, 0), (90, 0, 7), (91, 0, 7), (-1, 0, 0)],
)
def test_what_has_not_changed_for_90_days_is_long_term(
    age_days: int, active: int, long_term: int
) -> None:
    changed = DAY - timedelta(age_days)
    assert by_age({changed: Decimal(7)}, DAY) == (active, long_term)


@given(st.dictionaries(st.dates(DAY - timedelta(200), DAY + timedelta(9)), AMOUNTS))
def test_each_partition_is_one_or_the_other_or_not_there_yet(sizes: dict[date, Decimal]) -> None:
    active, long_term = by_age(sizes, DAY)
    last_90 = {DAY - timedelta(n) for n in range(90)}
    assert active == sum(size for at, size in sizes.items() if at in last_90)
    assert active + long_term == sum(size for at, size in sizes.items() if at <= DAY)
