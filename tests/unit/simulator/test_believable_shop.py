"""Is it a shop? Figures that a person who runs one would recognise."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from simulated import Seen, small

from dataflows.contracts import Contract
from services.simulator.settings import FaultRates, SimulationSettings
from services.simulator.simulate import Simulation, simulate
from services.simulator.truth import DayTruth, GroundTruth

CALM = FaultRates(0, 0, 0, 0, 0, 0, 0)

Events = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def events(
    month: Simulation, seen: list[Seen], contracts: dict[str, Contract]
) -> dict[str, list[dict[str, Any]]]:
    """Every valid event once, by source, in the order of arrival; `at` is its event time (us)."""
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for source, contract in contracts.items():
        values = [r.value for r in seen if r.source == source and r.value is not None]
        decoded = contract.decode(values)
        for event, time in zip(decoded.events, decoded.times_us.tolist(), strict=True):
            if event is not None and time < month.settings.end_us:
                plain = json.loads(msgspec.json.encode(event))
                plain["at"] = time
                found[source].setdefault(plain[contract.dedup_key], plain)
    return {source: list(held.values()) for source, held in found.items()}


@pytest.fixture(scope="module")
def usual() -> GroundTruth:
    """What the defaults hold."""
    return simulate(SimulationSettings(start=small().start)).truth


def test_visits_buy_as_often_as_in_real_shops(usual: GroundTruth) -> None:
    assert 0.01 < usual.purchases / usual.visits < 0.05


def test_fraud_is_rare(usual: GroundTruth) -> None:
    assert 0 < usual.fraudulent_transactions / usual.transactions < 0.01


def test_amounts_add_up_to_the_cent(events: Events) -> None:
    for payment in events["transactions"]:
        for item in payment["items"]:
            assert Decimal(item["unit_price"]) * item["quantity"] == Decimal(item["amount"])
        assert sum(Decimal(item["amount"]) for item in payment["items"]) == Decimal(
            payment["total_amount"]
        )


def test_revenue_is_what_was_settled(month: Simulation, events: Events) -> None:
    settled = sum(
        Decimal(payment["total_amount"])
        for payment in events["transactions"]
        if payment["status"] in ("authorized", "captured")
    )

    assert Decimal(month.truth.revenue) == settled
    assert Decimal(month.truth.revenue_in_time) <= settled
    assert month.truth.transactions == len(events["transactions"])


def test_days_hold_what_happened_on_them() -> None:
    simulation = simulate(small(faults=CALM))
    found: dict[str, DayTruth] = {}
    for chunk in simulation.chunks():
        for part in chunk.parts:
            if part.source not in ("clickstream", "transactions"):
                continue
            for value in part.values[:-1]:
                event = json.loads(value or b"")
                date = event["event_timestamp"][:10]
                found[date] = with_event(found.get(date, DayTruth()), part.source, event)
    assert simulation.truth.daily == found
    assert len(found) > 1


def with_event(day: DayTruth, source: str, event: dict[str, Any]) -> DayTruth:
    if source == "clickstream":
        return msgspec.structs.replace(day, clicks=day.clicks + 1)
    settled = event["status"] in ("authorized", "captured")
    return msgspec.structs.replace(
        day,
        payments=day.payments + 1,
        purchases=day.purchases + settled,
        revenue=str(Decimal(day.revenue) + settled * Decimal(event["total_amount"])),
    )


def test_every_purchase_is_paid_a_moment_later() -> None:
    simulation = simulate(small(faults=CALM, target_events=60_000))
    clicks, paid = {}, {}
    for chunk in simulation.chunks():
        for part in chunk.parts:
            for value in part.values[:-1]:
                event = json.loads(value or b"{}")
                if part.source == "clickstream" and event["event_type"] == "purchase":
                    clicks[event["order_id"]] = event
                elif part.source == "transactions" and event["status"] != "refunded":
                    paid[event["order_id"]] = event

    assert len(clicks) >= simulation.truth.purchases > 100
    for order, click in clicks.items():
        payment = paid[order]
        clicked, charged = (
            datetime.fromisoformat(event["event_timestamp"]) for event in (click, payment)
        )
        assert 0 < (charged - clicked).total_seconds() < 5
        assert payment["user_id"] == click["user_id"]
        assert payment["device"]["device_id"] == click["device"]["device_id"]
        assert payment["total_amount"] == click["cart"]["value"]
        assert len(payment["items"]) == click["cart"]["item_count"]


def test_people_shop_in_the_evening_and_at_the_weekend(events: Events) -> None:
    clicks = [click for click in events["clickstream"] if not is_bot(click)]
    times = [datetime.fromtimestamp(click["at"] / 1e6, tz=UTC) for click in clicks]
    hours = Counter(time.hour for time in times)
    weekdays = Counter(time.weekday() for time in times)
    days = Counter(datetime(2026, 3, 2 + day, tzinfo=UTC).weekday() for day in range(30))

    assert hours[19] + hours[20] > 3 * (hours[3] + hours[4])
    weekend = sum(weekdays[day] for day in (5, 6)) / sum(days[day] for day in (5, 6))
    working = sum(weekdays[day] for day in range(5)) / sum(days[day] for day in range(5))
    assert weekend > 1.15 * working


def test_customers_keep_to_their_devices(events: Events, month: Simulation) -> None:
    stolen = {device for case in month.truth.frauds for device in case.device_ids}
    stolen |= {device for case in month.truth.misuse for device in case.device_ids}
    devices = defaultdict(set)
    for click in events["clickstream"]:
        if click.get("user_id") and click["device"]["device_id"] not in stolen:
            devices[click["user_id"]].add(click["device"]["device_id"])

    assert {len(used) for used in devices.values()} == {1, 2, 3}


def test_a_few_products_sell_most(events: Events) -> None:
    viewed = Counter(
        click["product_id"] for click in events["clickstream"] if click.get("product_id")
    )
    top = sum(count for _, count in viewed.most_common(len(viewed) // 5))

    assert top > 0.4 * sum(viewed.values())


def test_a_funnel_narrows(events: Events) -> None:
    steps = Counter(click["event_type"] for click in events["clickstream"])

    assert (
        steps["product_view"] > steps["add_to_cart"] > steps["checkout_start"] > steps["purchase"]
    )


def test_chargebacks_come_a_week_after_the_fraud(events: Events, month: Simulation) -> None:
    paid = {payment["transaction_id"]: payment for payment in events["transactions"]}
    fraudulent = {one for case in month.truth.frauds for one in case.transaction_ids}
    waits = []
    for label in events["labels"]:
        payment = paid.get(label["transaction_id"])
        if payment is not None:
            assert label["user_id"] == payment["user_id"]
            assert (label["verdict"] == "fraud") == (label["transaction_id"] in fraudulent)
            if label["verdict"] == "fraud":
                waits.append((label["at"] - payment["at"]) / 86_400e6)

    assert len(waits) > 5
    assert min(waits) >= 2.9
    assert 6 < np.median(waits) < 8
    assert any(label["verdict"] == "legitimate" for label in events["labels"])


def test_each_kind_of_fraud_has_its_shape(usual: GroundTruth) -> None:
    cases = defaultdict(list)
    for case in usual.frauds:
        cases[case.kind].append(case)

    assert set(cases) == {"card_burst", "account_takeover", "compromised_device"}
    for case in cases["card_burst"]:
        assert (len(case.user_ids), len(case.device_ids)) == (1, 1)
        assert len(case.transaction_ids) >= 8
        assert hours_of(case.first_at, case.last_at) < 0.25
    for case in cases["account_takeover"]:
        assert (len(case.user_ids), len(case.device_ids)) == (1, 1)
        assert len(case.transaction_ids) >= 2
    for case in cases["compromised_device"]:
        assert len(case.user_ids) >= 15
        assert len(case.device_ids) + len(case.terminal_ids) == 1
        assert hours_of(case.first_at, case.last_at) < 24
    assert {bool(case.terminal_ids) for case in cases["compromised_device"]} == {True, False}


def test_a_takeover_comes_from_elsewhere_and_is_dear(events: Events, month: Simulation) -> None:
    paid = {payment["transaction_id"]: payment for payment in events["transactions"]}
    usual_amount = np.median([float(payment["total_amount"]) for payment in paid.values()])
    home = {
        profile["user_id"]: profile["address"]["country"] for profile in events["customer_profiles"]
    }
    for case in month.truth.frauds:
        if case.kind == "account_takeover":
            (user,), (device,) = case.user_ids, case.device_ids
            before = [p for p in paid.values() if p["user_id"] == user and p["at"] < micros(case)]
            assert len(before) >= 3
            assert all(p.get("device", {}).get("device_id") != device for p in before)
            amounts = [float(paid[one]["total_amount"]) for one in case.transaction_ids]
            assert np.median(amounts) > 2 * usual_amount
            assert all(paid[one]["shipping_country"] != home[user] for one in case.transaction_ids)
            trail = [c for c in events["clickstream"] if c["device"]["device_id"] == device]
            assert trail
            assert all(click["geo"]["country"] != home[user] for click in trail)


def test_bots_click_regularly_and_break_both_caps(usual: GroundTruth) -> None:
    assert any(bot.longest_run_clicks > 10_000 for bot in usual.bots)
    assert any(bot.longest_run_hours > 24 for bot in usual.bots)
    assert all("Mozilla/5.0 (Windows" not in bot.user_agent for bot in usual.bots)


def test_pauses_of_a_bot_are_all_alike(events: Events) -> None:
    times = defaultdict(list)
    for click in events["clickstream"]:
        if is_bot(click):
            times[click["user_id"]].append(click["at"])
    for clicked in times.values():
        pauses = np.diff(np.sort(clicked))
        within = pauses[pauses < 25 * 60_000_000]
        assert np.std(within) < 0.2 * np.mean(within)


def test_prices_are_the_catalogues(events: Events) -> None:
    offered = defaultdict(set)
    for product in events["product_catalog"]:
        offered[product["product_id"]].add(product["price"])
    for payment in events["transactions"]:
        for item in payment["items"]:
            assert item["unit_price"] in offered[item["product_id"]]


def test_names_come_from_many_scripts(events: Events) -> None:
    names = "".join(profile["full_name"] for profile in events["customer_profiles"])

    for letters in ("üß", "éë", "łż", "şı", "αο", "ко", "佐鈴", "سم"):
        assert any(letter in names for letter in letters)


def is_bot(click: dict[str, Any]) -> bool:
    return bool(click.get("user_id")) and click["user_id"] >= "C900000"


def hours_of(first: str, last: str) -> float:
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() / 3600


def micros(case: Any) -> float:
    return datetime.fromisoformat(case.first_at).timestamp() * 1e6
