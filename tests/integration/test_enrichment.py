"""What ingest adds to an event: its device, and product and customer as of its event time."""

from __future__ import annotations

import json
from typing import Any

import pytest

DAY = "2026-05-01T"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1"
PERSONAL = ("ada@shop.example", "Ada Lovelace", "Analytical Street")


def product(time: str, price: str) -> bytes:
    return json.dumps(
        {
            "event_id": f"p {time}",
            "product_id": "shoe",
            "event_timestamp": f"{DAY}{time}Z",
            "name": "Trail Runner",
            "category": "shoes",
            "price": price,
            "currency": "EUR",
        }
    ).encode()


def profile(time: str, segment: str, country: str) -> bytes:
    email, name, street = PERSONAL
    return json.dumps(
        {
            "event_id": f"c {time}",
            "user_id": "ada",
            "event_timestamp": f"{DAY}{time}Z",
            "email": email,
            "full_name": name,
            "segment": segment,
            "address": {"street": street, "country": country},
        }
    ).encode()


def view(time: str, **fields: object) -> bytes:
    event: dict[str, object] = {
        "event_id": f"v {time}",
        "event_type": "product_view",
        "user_id": "ada",
    }
    event |= {"event_timestamp": f"{DAY}{time}Z", "product_id": "shoe"} | fields
    return json.dumps(event).encode()


@pytest.fixture
def enriched(bench: Any) -> Any:
    """The events of the given views, by the time of day."""

    def run(*views: bytes) -> dict[str, dict[str, Any]]:
        shop = bench()
        shop.publish(
            "raw.product_catalog", [product("08:00:00", "99.90"), product("10:00:00", "79.00")]
        )
        shop.publish(
            "raw.customer_profiles",
            [profile("08:00:00", "new", "DE"), profile("10:00:00", "vip", "FR")],
        )
        shop.run("ingest", topic="raw.product_catalog")
        shop.run("ingest", topic="raw.customer_profiles")
        shop.publish("raw.clickstream", list(views))
        shop.run("ingest", topic="raw.clickstream")
        assert not [
            r
            for source in ("product_catalog", "customer_profiles", "clickstream")
            for r in shop.records(f"dlq.{source}")
        ]
        found = [json.loads(record.value) for record in shop.records("events.clickstream")]
        assert not any(word in json.dumps(found) for word in PERSONAL)
        return {event["event_timestamp"][11:16]: event for event in found}

    return run


def test_product_and_customer_are_those_of_the_events_time(enriched: Any) -> None:
    events = enriched(view("07:00:00"), view("10:00:00"), view("09:59:59"), view("11:00:00"))
    assert [events[at]["product"]["price"] for at in ("09:59", "10:00", "11:00")] == [
        "99.90",
        "79.00",
        "79.00",
    ]
    assert events["09:59"]["customer"] == {"segment": "new", "address": {"country": "DE"}}
    assert events["11:00"]["customer"] == {"segment": "vip", "address": {"country": "FR"}}
    assert "product" not in events["07:00"]
    assert "customer" not in events["07:00"]


def test_what_is_not_known_is_left_out(enriched: Any) -> None:
    events = enriched(view("11:00:00", product_id="no such thing", user_id="nobody we know"))
    assert "product" not in events["11:00"]
    assert "customer" not in events["11:00"]
    assert "device_class" not in events["11:00"]


@pytest.mark.parametrize(
    ("agent", "kind"),
    [
        (PHONE, "mobile"),
        ("Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) AppleWebKit/605.1.15", "tablet"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0", "desktop"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot"),
        ("a toaster", "other"),
    ],
)
def test_the_class_of_a_device(agent: str, kind: str, enriched: Any) -> None:
    device = {"device_id": "d", "user_agent": agent}
    assert enriched(view("11:00:00", device=device))["11:00"]["device_class"] == kind
