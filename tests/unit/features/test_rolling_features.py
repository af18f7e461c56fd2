"""Customers' and devices' features equal their definitions, read naively, payment by payment."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.eventtime.snapshots import SnapshotError
from dataflows.features.catalogue import CATALOGUE, CUSTOMER, DAY_US, DEVICE, HOUR_US, MINUTE_US
from dataflows.features.columns import Column, Scalar
from dataflows.features.rolling import (
    Aggregate,
    Feature,
    FeatureSet,
    Payments,
    RollingFeatures,
)

LATENESS_US = 2 * DAY_US
FIELDS = ("user_id", "device_id", "card_id", "shipping_country")


@dataclass(frozen=True)
class Payment:
    user_id: str | None
    device_id: str | None
    card_id: str | None
    shipping_country: str | None
    cents: int
    time: int
    counts: bool
    watermark: int = 0


Naive: TypeAlias = Callable[[list[Payment], Payment], dict[str, Scalar | None]]

maybe = st.sampled_from
payments = st.lists(
    st.tuples(
        maybe([None, "u1", "u2", "u3"]),
        maybe([None, "d1", "d2", "d3"]),
        maybe([None, "c1", "c2", "c3", "c4"]),
        maybe([None, "DE", "FR"]),
        st.integers(0, 500_00),
        maybe([0, 1, MINUTE_US, 10 * MINUTE_US, HOUR_US, DAY_US // 2, DAY_US, 9 * DAY_US]),
        maybe([0, 0, 1, 5 * MINUTE_US, DAY_US]),
        st.booleans() | st.just(True),
    ),
    max_size=60,
)


def arrive(drawn: list[tuple]) -> list[Payment]:
    arrived, now = [], 100 * DAY_US
    for user, device, card, country, cents, step, behind, counts in drawn:
        now += step
        arrived.append(
            Payment(user, device, card, country, cents, now - behind, counts, now - MINUTE_US)
        )
    return arrived


def process(features: RollingFeatures, batch: list[Payment]) -> dict[str, list[Scalar | None]]:
    """One answer a record; those that are no payments only move the watermark, and have none."""
    counted = [p for p in batch if p.counts]
    columns = features.process(
        Payments(
            fields={name: [getattr(p, name) for p in counted] for name in FIELDS},
            amounts_cents=np.array([p.cents for p in counted], np.int64),
            times_us=np.array([p.time for p in counted], np.int64),
            watermarks_us=np.array([p.watermark for p in [*counted, batch[-1]]], np.int64),
        )
    )
    rows = np.cumsum([p.counts for p in batch]) - 1
    answers = {name: in_python(column) for name, column in columns.items()}
    return {
        name: [answer[row] if p.counts else None for p, row in zip(batch, rows, strict=True)]
        for name, answer in answers.items()
    }


def in_python(column: Column) -> list[Scalar | None]:
    return [
        value if valid else None
        for value, valid in zip(column.values.tolist(), column.valid.tolist(), strict=True)
    ]


def within(past: list[Payment], now: Payment, entity: str, window: int) -> list[Payment]:
    """The entity's payments in (t - window, t], this one last."""
    mine = [p for p in past if p.counts and getattr(p, entity) == getattr(now, entity)]
    return [p for p in mine if now.time - window < p.time <= now.time] + [now]


def customer(past: list[Payment], now: Payment) -> dict[str, Scalar | None]:
    if now.user_id is None or not now.counts:
        return dict.fromkeys(CUSTOMER.specs)
    month = within(past, now, "user_id", 30 * DAY_US)
    day = within(past, now, "user_id", DAY_US)
    hour = within(past, now, "user_id", HOUR_US)
    earlier = month[:-1]
    total = sum(p.cents for p in earlier)
    settled = [p for p in earlier if p.time <= now.time - DAY_US]

    def new(field: str) -> bool | None:
        value = getattr(now, field)
        if value is None:
            return None
        return bool(settled) and value not in {getattr(p, field) for p in settled}

    return {
        "customer_count_10m": len(within(past, now, "user_id", 10 * MINUTE_US)),
        "customer_count_1h": len(hour),
        "customer_count_24h": len(day),
        "customer_count_30d": len(month),
        "customer_amount_1h": sum(p.cents for p in hour) / 100,
        "customer_amount_24h": sum(p.cents for p in day) / 100,
        "customer_max_amount_30d": max(p.cents for p in month) / 100,
        "customer_mean_amount_30d": total / len(earlier) / 100 if earlier else None,
        "customer_amount_to_mean": (
            now.cents / (total / len(earlier)) if len(earlier) >= 3 and total else None
        ),
        "customer_seconds_since_previous": (
            (now.time - max(p.time for p in earlier)) / 1e6 if earlier else None
        ),
        "customer_distinct_cards_1h": len({p.card_id for p in hour} - {None}),
        "customer_new_device": new("device_id"),
        "customer_new_shipping_country": new("shipping_country"),
    }


def device(past: list[Payment], now: Payment) -> dict[str, Scalar | None]:
    if now.device_id is None or not now.counts:
        return dict.fromkeys(DEVICE.specs)
    day = within(past, now, "device_id", DAY_US)
    return {
        "device_count_1h": len(within(past, now, "device_id", HOUR_US)),
        "device_amount_24h": sum(p.cents for p in day) / 100,
        "device_customers_24h": len({p.user_id for p in day} - {None}),
    }


@settings(deadline=None, max_examples=120)
@given(payments, st.lists(st.integers(0, 60)), st.booleans())
@pytest.mark.parametrize(("declared", "naive"), [(CUSTOMER, customer), (DEVICE, device)])
def test_features_equal_their_definitions(
    declared: FeatureSet, naive: Naive, drawn: list[tuple], cuts: list[int], restore: bool
) -> None:
    arrived = arrive(drawn)
    expected = [naive(arrived[:i], now) for i, now in enumerate(arrived)]
    features, got = RollingFeatures(declared, LATENESS_US), []
    edges = sorted({0, len(arrived), *(c for c in cuts if c < len(arrived))})
    for begin, end in pairwise(edges):
        columns = process(features, arrived[begin:end])
        got += [{name: column[i] for name, column in columns.items()} for i in range(end - begin)]
        if restore:
            saved = features.snapshot()
            features = RollingFeatures(declared, LATENESS_US)
            features.restore([saved])
    assert got == expected


def pay(minute: int, **fields: str | int) -> Payment:
    given = {"user_id": "u", "device_id": "phone", "card_id": "c", "shipping_country": "DE"}
    cents = int(fields.pop("cents", 1_000))
    time = 100 * DAY_US + minute * MINUTE_US
    return Payment(**{**given, **fields}, cents=cents, time=time, counts=True, watermark=0)  # type: ignore[arg-type]


def test_a_stolen_card_burst_shows_in_counts_and_cards() -> None:
    burst = [pay(minute, card_id=f"stolen-{minute}") for minute in range(6)]
    columns = process(RollingFeatures(CUSTOMER, HOUR_US), burst)
    assert columns["customer_count_10m"] == [1, 2, 3, 4, 5, 6]
    assert columns["customer_distinct_cards_1h"] == [1, 2, 3, 4, 5, 6]


def test_a_device_stays_new_for_a_day() -> None:
    day = 24 * 60
    history = [pay(0), pay(day), pay(2 * day)]
    taken = [pay(10 * day + m, device_id="thief", cents=9_000) for m in (0, 30, day - 1, day)]
    columns = process(RollingFeatures(CUSTOMER, HOUR_US), history + taken)
    assert columns["customer_new_device"] == [False, False, False, True, True, True, False]
    assert columns["customer_amount_to_mean"][3] == 9.0


def test_a_newcomer_has_no_new_device() -> None:
    columns = process(RollingFeatures(CUSTOMER, HOUR_US), [pay(0), pay(5, device_id="tablet")])
    assert columns["customer_new_device"] == [False, False]


def test_many_customers_on_one_device_are_counted_once_each() -> None:
    crowd = [pay(minute, user_id=f"u{minute % 4}") for minute in range(8)]
    columns = process(RollingFeatures(DEVICE, HOUR_US), crowd)
    assert columns["device_customers_24h"] == [1, 2, 3, 4, 4, 4, 4, 4]


def test_a_snapshot_of_another_feature_set_is_refused() -> None:
    saved = RollingFeatures(DEVICE, HOUR_US).snapshot()
    with pytest.raises(SnapshotError, match="another configuration"):
        RollingFeatures(CUSTOMER, HOUR_US).restore([saved])


@pytest.mark.parametrize(
    "features",
    [
        (
            Feature("a", Aggregate.COUNT, DAY_US, ""),
            Feature("b", Aggregate.SECONDS_SINCE_EARLIER, HOUR_US, ""),
        ),
        (
            Feature("a", Aggregate.NEW, DAY_US, "", of="device_id"),
            Feature("b", Aggregate.NEW, HOUR_US, "", of="card_id"),
        ),
        (Feature("a", Aggregate.DISTINCT, DAY_US, ""),),
    ],
)
def test_declarations_that_cannot_be_computed_are_refused(features: tuple[Feature, ...]) -> None:
    with pytest.raises(ValueError, match=r"window must be|say what it is of"):
        FeatureSet("user_id", features)


def test_every_column_has_a_meaning() -> None:
    assert all(name == spec.name and spec.description for name, spec in CATALOGUE.items())
