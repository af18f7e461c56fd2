"""The features of customers and devices, and every column that a rule may name.

Two entities mean two hops through the log: customers' features are computed where payments are
keyed by user and travel with the payment, devices' features are added where it is keyed by device.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataflows.features.columns import Column, ColumnSpec, Kind, Unit, from_list, full
from dataflows.features.rolling import CENTS, Aggregate, Feature, FeatureSet

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

CUSTOMER = FeatureSet(
    entity="user_id",
    features=(
        Feature(
            "customer_count_10m", Aggregate.COUNT, 10 * MINUTE_US,
            "payments of the customer within 10 minutes, this one included",
        ),
        Feature(
            "customer_count_1h", Aggregate.COUNT, HOUR_US,
            "payments of the customer within 1 hour, this one included",
        ),
        Feature(
            "customer_count_24h", Aggregate.COUNT, DAY_US,
            "payments of the customer within 24 hours, this one included",
        ),
        Feature(
            "customer_count_30d", Aggregate.COUNT, 30 * DAY_US,
            "payments of the customer within 30 days, this one included",
        ),
        Feature(
            "customer_amount_1h", Aggregate.SUM, HOUR_US,
            "what the customer paid within 1 hour, this payment included",
        ),
        Feature(
            "customer_amount_24h", Aggregate.SUM, DAY_US,
            "what the customer paid within 24 hours, this payment included",
        ),
        Feature(
            "customer_max_amount_30d", Aggregate.MAX, 30 * DAY_US,
            "the customer's largest payment within 30 days, this one included",
        ),
        Feature(
            "customer_mean_amount_30d", Aggregate.EARLIER_MEAN, 30 * DAY_US,
            "mean of the customer's earlier payments of 30 days; null without one",
        ),
        Feature(
            "customer_amount_to_mean", Aggregate.RATIO_TO_EARLIER_MEAN, 30 * DAY_US,
            "this amount over that mean; null with fewer than 3 earlier payments",
        ),
        Feature(
            "customer_seconds_since_previous", Aggregate.SECONDS_SINCE_EARLIER, 30 * DAY_US,
            "seconds since the customer's previous payment; null if none within 30 days",
        ),
        Feature(
            "customer_distinct_cards_1h", Aggregate.DISTINCT, HOUR_US,
            "different cards the customer used within 1 hour", of="card_id",
        ),
        Feature(
            "customer_new_device", Aggregate.NEW, DAY_US,
            "the customer paid in the 30 days before the last 24 hours, but never from this "
            "device; null without a device",
            of="device_id",
        ),
        Feature(
            "customer_new_shipping_country", Aggregate.NEW, DAY_US,
            "the customer paid in the 30 days before the last 24 hours, but never for delivery "
            "to this country; null without delivery",
            of="shipping_country",
        ),
    ),
)  # fmt: skip

DEVICE = FeatureSet(
    entity="device_id",
    features=(
        Feature(
            "device_count_1h", Aggregate.COUNT, HOUR_US,
            "payments from the device within 1 hour, this one included",
        ),
        Feature(
            "device_amount_24h", Aggregate.SUM, DAY_US,
            "what was paid from the device within 24 hours, this payment included",
        ),
        Feature(
            "device_customers_24h", Aggregate.DISTINCT, DAY_US,
            "different customers who paid from the device within 24 hours", of="user_id",
        ),
    ),
)  # fmt: skip

PAYMENT = (
    ColumnSpec(
        "total_amount", Kind.NUMBER, "what is paid, in the currency's main unit", Unit.MONEY
    ),
    ColumnSpec("items_count", Kind.NUMBER, "lines of the order", Unit.COUNT),
    ColumnSpec("hour_of_day", Kind.NUMBER, "hour of the event time, 0..23 UTC", Unit.HOUR),
    ColumnSpec("currency", Kind.TEXT, "ISO 4217 code"),
    ColumnSpec("status", Kind.TEXT, "authorized, captured or declined"),
    ColumnSpec("payment_method", Kind.TEXT, "card, paypal, bank_transfer or gift_card"),
    ColumnSpec("card_country", Kind.TEXT, "where the card was issued"),
    ColumnSpec("shipping_country", Kind.TEXT, "where the order is delivered"),
    ColumnSpec("customer_country", Kind.TEXT, "the country of the customer's profile"),
    ColumnSpec("customer_segment", Kind.TEXT, "new, regular, loyal or vip, from the profile"),
)

MODEL_SCORE = ColumnSpec(
    "model_score", Kind.NUMBER, "what the champion model thinks, 0..1; null without a champion"
)

OBSERVED: dict[str, ColumnSpec] = {
    **{spec.name: spec for spec in PAYMENT},
    **CUSTOMER.specs,
    **DEVICE.specs,
}
CATALOGUE: dict[str, ColumnSpec] = {**OBSERVED, MODEL_SCORE.name: MODEL_SCORE}


def payment_columns(
    amounts_cents: NDArray[np.int64],
    times_us: NDArray[np.int64],
    values: Callable[[str], Sequence[Any]],
) -> dict[str, Callable[[], Column]]:
    """How to make each of the payment's own columns (PAYMENT) for n payments.

    `values` gives the n values of a column that is as the payment says it, None for null.
    """
    as_said = {
        spec.name: partial(_as_said, spec, values)
        for spec in PAYMENT
        if spec.name not in ("total_amount", "hour_of_day")
    }
    return {
        "total_amount": lambda: full(amounts_cents / CENTS),
        "hour_of_day": lambda: full(times_us // HOUR_US % 24),
        **as_said,
    }


def _as_said(spec: ColumnSpec, values: Callable[[str], Sequence[Any]]) -> Column:
    return from_list(spec.kind, values(spec.name))
