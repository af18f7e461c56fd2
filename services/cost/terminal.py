"""What a person reads of a cost."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from textwrap import wrap

from services.cost.pricing import Part
from services.cost.report import Budget, PartCost, Report
from services.cost.volumes import Volume

_NAMES = {
    Part.PUBSUB: "Pub/Sub throughput",
    Part.STORAGE_ACTIVE: "BigQuery storage, active",
    Part.STORAGE_LONG_TERM: "BigQuery storage, long-term",
    Part.QUERIES: "BigQuery queries",
    Part.GKE_VCPU: "GKE vCPU",
    Part.GKE_MEMORY: "GKE memory",
    Part.GKE_CLUSTER: "GKE cluster",
}
_SMALLER = {"TiB": "GiB", "GiB": "MiB", "MiB": "KiB", "GiB-month": "MiB-month"}
_LARGEST = 3
_ROW = "{:<27}{:>18}{:>19}{:>11}{:>13}{:>12}"
_WIDTH = 100


def lines(report: Report) -> list[str]:
    scaled = "" if report.scale == 1 else f"{report.scale} times "
    total = (report.a_day, report.a_month, report.a_million_events)
    return [
        f"A day of {scaled}the traffic of {report.first} to {report.last} on Google Cloud, "
        f"{report.region}:",
        f"{report.events:,.0f} events a day, in {report.currency} by {report.prices}",
        "",
        _ROW.format("", "used a day", "free a day", "a day", "a month", "a million"),
        *(_part(part) for part in report.parts),
        _ROW.format("In all", "", "", *map(_money, total)),
        "",
        *_days(report),
        *(_budget(report.budget, report.currency) if report.budget else ()),
        "",
        "Where it comes from, the largest of each:",
        *(line for part in report.parts for line in _origins(part, report)),
        *(f"! {note}" for note in report.notes),
    ]


def _part(part: PartCost) -> str:
    money = (part.a_day, part.a_month, part.a_million_events)
    free = _amount(part.free, part.unit) if part.free else ""
    return _ROW.format(
        _NAMES[part.part], _amount(part.amount, part.unit), free, *map(_money, money)
    )


def _days(report: Report) -> list[str]:
    return [
        f"{each.day}{each.events:>16,.0f} events{_money(each.cost):>14} {report.currency}"
        for each in report.days
    ]


def _budget(budget: Budget, currency: str) -> list[str]:
    allowed = f"the budget of {budget.a_day} {currency} a day"
    if not budget.alerts:
        lowest = f"{_percent(budget.alert_at[0])} of " if budget.alert_at else ""
        return ["", f"✓ No day is above {lowest}{allowed}."]
    return [
        "",
        *(
            f"✗ {each.day}: {_money(each.cost)} {currency} is above {_percent(each.share)} of "
            f"{allowed}"
            for each in budget.alerts
        ),
    ]


def _origins(part: PartCost, report: Report) -> list[str]:
    """The largest volumes of a part, and how many more there are."""
    own = [volume for volume in report.volumes if volume.part is part.part]
    own.sort(key=lambda volume: (-volume.amount, volume.of))
    if not own:
        return []
    price = f"{part.price:f} {report.currency} per {part.unit} since {part.valid_from}"
    more = len(own) - _LARGEST
    return [
        f"{_NAMES[part.part]}, {price}",
        *_aligned(own[:_LARGEST]),
        *([f"  and {more} more (--json)"] if more > 0 else []),
    ]


def _aligned(volumes: Sequence[Volume]) -> list[str]:
    width = max(len(volume.of) for volume in volumes)
    texts = (
        f"  {volume.of:<{width}}  {_amount(volume.amount, volume.unit)}: {volume.source}"
        for volume in volumes
    )
    return [
        line
        for text in texts
        for line in wrap(text, _WIDTH, subsequent_indent=" " * 6, break_on_hyphens=False)
    ]


def _money(amount: Decimal | None) -> str:
    if amount is None:
        return "-"
    return f"{amount:,.2f}" if amount >= 100 else f"{amount:,.4f}"


def _amount(amount: Decimal, unit: str) -> str:
    """Four digits that count, in a unit in which it is 1 or more, if there is one."""
    while 0 < amount < 1 and unit in _SMALLER:
        amount, unit = amount * 1024, _SMALLER[unit]
    if not amount:
        return f"0 {unit}"
    return f"{amount:,.{max(0, 3 - amount.adjusted())}f} {unit}"


def _percent(share: Decimal) -> str:
    text = f"{share * 100:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + " %"
