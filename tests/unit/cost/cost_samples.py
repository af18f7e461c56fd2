"""A measured shop and its prices, to be priced."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from dataflows.runtime.config import HOUSE, Config, Cost
from services.cost.prices import parse_prices
from services.cost.volumes import Builds, Flow, Measured, Query, Table, Topic, Worker

DAYS = [date(2026, 5, day) for day in (1, 2, 3)]
_DEARER = """
  - part: queries
    region: us-central1
    valid_from: 2026-05-03
    unit: TiB
    price: 12.5
    free_a_month: 1
    source: https://example.org/dearer
"""
_SHIPPED = (HOUSE / "config" / "prices.yaml").read_text("utf-8")
PRICES = parse_prices(_SHIPPED + _DEARER, "prices.yaml", Config().cost.region)


def settings_of(**changes: Any) -> Cost:
    return Cost(**changes)


def measured() -> Measured:
    """A hundred million clicks a day, 200 days of them in the lake."""
    clicks = {day: Decimal(100_000_000 + n * 10_000_000) for n, day in enumerate(DAYS)}
    days = [DAYS[-1] - timedelta(n) for n in range(200)]
    rows: dict[date | None, int] = dict.fromkeys(days, 100_000_000)
    widths = {
        "event_id": Decimal(38),
        "user_id": Decimal("9.5"),
        "page_url": Decimal(60),
        "event_date": Decimal(8),
    }
    users: dict[date | None, int] = {None: 2_000_000}
    how = "1.010 for each event of clickstream in the lake, by the flows' counts"
    return Measured(
        topics=[
            Topic(
                "raw.clickstream", clicks, Decimal(240), 1, f"{how}; mean size of 10,000 in the log"
            ),
            Topic("events.clickstream", clicks, Decimal(300), 2, "rows in the lake; mean size"),
            Topic("alerts", {DAYS[0]: Decimal(12)}, Decimal(500), 1, "rows in the lake"),
            Topic("sessions", dict.fromkeys(DAYS, Decimal(9_000_000)), Decimal(90), 1, "rows"),
        ],
        tables=[
            Table(("bronze", "clickstream"), rows, widths, "rows in the lake", "event_id"),
            Table(("gold", "dim_users"), users, widths, "rows in the warehouse"),
        ],
        workers=[
            Worker(
                "ingest",
                [Flow("ingest", ("raw.clickstream",), Decimal("5.4"), "5.4 µs a record (given)")],
            ),
            Worker(
                "light",
                [
                    Flow("sessionize", ("events.clickstream",), Decimal(250), "250 µs (measured)"),
                    Flow("load", ("events.clickstream", "sessions"), Decimal(55), "55 µs (given)"),
                ],
            ),
        ],
        builds=Builds(
            [
                Query(
                    "stg_clickstream",
                    [("bronze", "clickstream")],
                    frozenset({"event_id", "user_id", "event_date", "select"}),
                    True,
                ),
                Query(
                    "not_null_dim_users_user_id",
                    [("gold", "dim_users")],
                    frozenset({"user_id"}),
                    False,
                ),
            ],
            Decimal("1.5"),
            "columns that models and tests name; 1.5 dates anew, mean of 4",
        ),
        notes=["something to know"],
    )
