"""Event times from the first to the last instant there is, in any order, through every flow."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from flow_bench import Bench

from services.status.slots import flow_totals, slot_statuses

INSTANTS = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "1900-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999999Z",
    "2026-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "9999-12-31T23:59:59-23:59",
    -62_135_596_800_001,
    -62_135_596_800_000,
    -1,
    0,
    1.5,
    253_402_300_799_999,
    9.9e15,
    1e308,
    2**63,
    2**64,
    -(2**63),
]
EVENTS: dict[str, dict[str, object]] = {
    "clickstream": {"event_type": "page_view", "user_id": "u"},
    "transactions": {"user_id": "u", "total_amount": "999999999999.99", "currency": "EUR"},
    "product_catalog": {
        "product_id": "p",
        "name": "n",
        "category": "c",
        "price": "1.00",
        "currency": "EUR",
    },
    "customer_profiles": {"user_id": "u"},
}
IDS = {"transactions": "transaction_id"}


def events(source: str, instants: Sequence[object]) -> list[bytes | None]:
    return [
        json.dumps(
            {**EVENTS[source], IDS.get(source, "event_id"): f"{n}", "event_timestamp": instant}
        ).encode()
        for n, instant in enumerate(instants)
    ]


@pytest.mark.parametrize("instants", [INSTANTS, INSTANTS[::-1]], ids=["upwards", "downwards"])
def test_every_instant_is_good_late_or_refused_and_no_flow_stumbles(
    instants: Sequence[object], bench: Callable[..., Bench]
) -> None:
    shop = bench(slots__batch_records=4)
    for source in EVENTS:
        shop.publish(f"raw.{source}", events(source, instants))
    shop.run("ingest", "sessionize", "features", "score", "measure", "detect", "late", "watch")
    shop.run("watch", topic="logins")
    shop.run("load")
    totals = {total.flow: total for total in flow_totals(slot_statuses(shop.shop))}
    assert not any(total.difference or total.lag_records for total in totals.values())
    ingested = totals["ingest"]
    assert ingested.records_in == len(EVENTS) * len(INSTANTS)
    assert min(ingested.good, ingested.failed, ingested.late) > 0
    for source in EVENTS:
        kept = [r for r in shop.records(f"events.{source}") if r.value is not None]
        refused = shop.records(f"dlq.{source}")
        late = [r for r in shop.records(f"late.{source}") if r.value is not None]
        assert len(kept) + len(refused) + len(late) == len(INSTANTS)
