"""Stands in for dbt's `adapter`: something of the right kind for each macro that is dispatched."""

from __future__ import annotations

from collections.abc import Callable

_KINDS = {
    "bronze": "bronze",
    "instant_type": "timestamp",
    "each_item": "cross join item",
    "item_number": "item_number",
    "every_day_of_years": "select event_date as date_day from events",
    "json_text": "json_text",
}


def dispatch(name: str, package: str) -> Callable[..., str]:
    return lambda *arguments: _KINDS.get(name) or f"{name}({', '.join(arguments[:2])})"
