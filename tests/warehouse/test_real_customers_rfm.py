"""CDNOW: 69,659 real purchases of 23,570 customers; the figures of each are those of pandas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from built_warehouse import config_of
from warehouse_shop import Delivery, put

from services.warehouse.build import build
from services.warehouse.database import open_database


def deliveries(table: pd.DataFrame) -> list[Delivery]:
    """Each line as a payment; what happened on a day happened at noon."""
    made = []
    for number, line in enumerate(table.itertuples(index=False)):
        day = datetime.strptime(line.day, "%Y%m%d").replace(hour=12, tzinfo=UTC)
        arrived = day + timedelta(seconds=1)
        payment = {
            "transaction_id": f"t{number}",
            "user_id": line.customer,
            "event_timestamp": day.isoformat(),
            "total_amount": line.dollars,
            "currency": "USD",
            "lateness": "on_time",
            "arrived_at": arrived.isoformat(),
            "raw_offset": number,
        }
        made.append(Delivery("events.transactions", payment, arrived))
    return made


def fifths(values: pd.Series) -> pd.Series:
    below = values.rank(method="min") - 1
    return np.minimum(5, 1 + np.floor(5 * below / (len(values) - 1))).astype(int)


def customers_of(table: pd.DataFrame) -> pd.DataFrame:
    """Of each customer what fct_user_purchases says, in cents and days."""
    days = pd.to_datetime(table.day, format="%Y%m%d")
    cents = table.dollars.str.replace(".", "").astype(int)
    lines = pd.DataFrame({"customer": table.customer, "day": days, "cents": cents})
    by_customer = lines.groupby("customer")
    figures = pd.DataFrame(
        {
            "frequency": by_customer.size(),
            "cents": by_customer.cents.sum(),
            "first": by_customer.day.min(),
            "last": by_customer.day.max(),
        }
    )
    figures["recency"] = (lines.day.max() - figures["last"]).dt.days
    figures["active"] = (figures["last"] - figures["first"]).dt.days
    figures["r"] = fifths(-figures.recency)
    figures["f"] = fifths(figures.frequency)
    figures["m"] = fifths(figures.cents)
    return figures


def test_every_customers_figures_are_those_of_pandas(
    purchases: Path, tmp_path: Path, in_this_process: None
) -> None:
    columns = ["customer", "day", "discs", "dollars"]
    table = pd.read_csv(purchases, sep=r"\s+", names=columns, skiprows=1, dtype=str)
    assert len(table) == 69_659
    put(tmp_path / "lake", deliveries(table))
    build(config_of(tmp_path))
    expected = customers_of(table)
    with open_database(tmp_path / "warehouse" / "warehouse.duckdb") as database:
        found = database.execute(
            "SELECT user_id, frequency, CAST(monetary * 100 AS BIGINT), recency_days, active_days, "
            "recency_score, frequency_score, monetary_score FROM gold.fct_user_purchases"
        ).fetchall()
    names = ["frequency", "cents", "recency", "active", "r", "f", "m"]
    assert len(found) == len(expected) == 23_570
    assert sorted(found) == sorted(expected[names].itertuples(name=None))
    assert {row[-1] for row in found} == {1, 2, 3, 4, 5}
