"""The cost of some days: by part, by day, against a budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal, localcontext

import msgspec

from dataflows.runtime.config import Cost
from services.cost.prices import PriceList
from services.cost.pricing import (
    Part,
    cost_of_day,
    day_of_month,
    month_of_days,
    rounded,
)
from services.cost.volumes import Measured, Volume, volumes_of_day

_MILLION = 1_000_000


class PartCost(msgspec.Struct, frozen=True, kw_only=True):
    """A part on a mean day. `amount` and `free` in `unit`; the price is that of the last day."""

    part: Part
    unit: str
    amount: Decimal
    free: Decimal
    price: Decimal
    valid_from: date
    price_source: str
    a_day: Decimal
    a_month: Decimal
    a_million_events: Decimal | None


class DayCost(msgspec.Struct, frozen=True):
    """A day by itself, of all parts."""

    day: date
    events: Decimal
    cost: Decimal
    parts: dict[str, Decimal]


class Alert(msgspec.Struct, frozen=True):
    """The largest share of the budget that a day's cost is above."""

    day: date
    cost: Decimal
    share: Decimal


class Budget(msgspec.Struct, frozen=True):
    """What a day may cost, the shares of it that are watched, and the days above one."""

    a_day: Decimal
    alert_at: list[Decimal]
    alerts: list[Alert]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What days cost. Money is in `currency`, and text in JSON, so that it stays exact.

    `a_day` is of the mean day, `a_month` of 730 hours like it. `volumes` are of the mean day, too.
    """

    currency: str
    region: str
    prices: str
    first: date
    last: date
    scale: Decimal
    events: Decimal
    a_day: Decimal
    a_month: Decimal
    a_million_events: Decimal | None
    parts: list[PartCost]
    days: list[DayCost]
    budget: Budget | None
    volumes: list[Volume]
    notes: list[str]

    @property
    def dearest(self) -> DayCost:
        return max(self.days, key=lambda each: each.cost)


def cost_report(
    measured: Measured,
    days: Sequence[date],
    prices: PriceList,
    settings: Cost,
    scale: Decimal,
    budget_a_day: Decimal,
) -> Report:
    """
    Args:
        days: in order, at least one.
        budget_a_day: 0 is no budget.

    Raises:
        CostError: a part has no price on one of the days.
    """
    prices.require(days)
    with localcontext(prec=60):
        volumes = {day: list(volumes_of_day(measured, day, settings, scale)) for day in days}
        costs = [_day(day, measured.events(day) * scale, volumes[day], prices) for day in days]
        events = sum((each.events for each in costs), Decimal(0)) / len(days)
        mean = _mean(volumes.values())
        parts = [_part(part, mean, costs, prices, days[-1], events) for part in Part]
        a_day = sum((each.a_day for each in parts), Decimal(0))
        return Report(
            currency=prices.currency,
            region=prices.region,
            prices=prices.file,
            first=days[0],
            last=days[-1],
            scale=scale,
            events=rounded(events),
            a_day=a_day,
            a_month=rounded(month_of_days(a_day)),
            a_million_events=_of_a_million(a_day, events),
            parts=parts,
            days=costs,
            budget=_budget(budget_a_day, settings.alert_at, costs) if budget_a_day else None,
            volumes=mean,
            notes=list(measured.notes),
        )


def _day(day: date, events: Decimal, volumes: Iterable[Volume], prices: PriceList) -> DayCost:
    used = dict.fromkeys(Part, Decimal(0))
    for volume in volumes:
        used[volume.part] += volume.amount
    costs = {}
    for part, amount in used.items():
        price = prices.on(part, day)
        costs[str(part)] = cost_of_day(amount, price.price, price.free_a_month)
    return DayCost(day, rounded(events), sum(costs.values(), Decimal(0)), costs)


def _mean(days: Iterable[Sequence[Volume]]) -> list[Volume]:
    """Of each volume, its mean over the days; those of nothing are left out."""
    of_days = list(days)
    sums: dict[tuple[Part, str], Decimal] = {}
    last: dict[tuple[Part, str], Volume] = {}
    for volumes in of_days:
        for each in volumes:
            key = each.part, each.of
            sums[key] = sums.get(key, Decimal(0)) + each.amount
            last[key] = each
    return [
        msgspec.structs.replace(last[key], amount=total / len(of_days))
        for key, total in sums.items()
        if total
    ]


def _part(
    part: Part,
    volumes: Sequence[Volume],
    costs: Sequence[DayCost],
    prices: PriceList,
    last: date,
    events: Decimal,
) -> PartCost:
    price = prices.on(part, last)
    a_day = rounded(sum((day.parts[part] for day in costs), Decimal(0)) / len(costs))
    return PartCost(
        part=part,
        unit=part.unit,
        amount=sum((each.amount for each in volumes if each.part is part), Decimal(0)),
        free=day_of_month(price.free_a_month),
        price=price.price,
        valid_from=price.valid_from,
        price_source=price.source,
        a_day=a_day,
        a_month=rounded(month_of_days(a_day)),
        a_million_events=_of_a_million(a_day, events),
    )


def _of_a_million(a_day: Decimal, events: Decimal) -> Decimal | None:
    return rounded(a_day * _MILLION / events) if events else None


def _budget(a_day: Decimal, alert_at: Iterable[float], costs: Iterable[DayCost]) -> Budget:
    shares = sorted({Decimal(str(share)) for share in alert_at})
    alerts = []
    for each in costs:
        above = [share for share in shares if each.cost > a_day * share]
        if above:
            alerts.append(Alert(each.day, each.cost, above[-1]))
    return Budget(a_day, shares, alerts)
