"""Events too late for the stream: buffered, asked for once their date is quiet, or too late."""

from __future__ import annotations

import json
from typing import Any


def view(time: str, number: int = 0) -> bytes:
    event = {"event_id": f"{time} {number}", "event_type": "page_view", "user_id": "ada"}
    return json.dumps(event | {"event_timestamp": f"{time}Z"}).encode()


def test_a_date_is_asked_for_once_it_has_been_quiet(bench: Any) -> None:
    shop = bench()
    now = "2026-05-01T12:00:00"
    shop.publish(
        "raw.clickstream",
        [
            view(now),
            view("2026-05-01T10:30:00"),
            view("2026-04-30T23:00:00"),
            view("2026-05-01T12:08:00"),
            view("2026-05-01T09:15:00"),  # eight minutes later: this date waits on
            view("2026-05-01T12:12:00"),
            view("2026-05-01T08:30:00"),
            view("2026-05-01T12:30:00"),
            view("2026-05-01T08:00:00"),  # asked for once already
            view("2026-05-01T12:50:00"),
        ],
    )
    shop.run("ingest", topic="raw.clickstream")
    shop.run("late", topic="late.clickstream")
    requests = [json.loads(record.value) for record in shop.records("reprocess.requests")]
    assert [(r["source"], r["event_date"], r["late_events"]) for r in requests] == [
        ("clickstream", "2026-04-30", 1),
        ("clickstream", "2026-05-01", 3),
        ("clickstream", "2026-05-01", 1),
    ]
    assert requests[1]["first_event_at"] == "2026-05-01T08:30:00.000000Z"
    assert requests[1]["last_event_at"] == "2026-05-01T10:30:00.000000Z"
    buffered = [json.loads(r.value) for r in shop.records("buffered.clickstream") if r.value]
    assert [event["lateness"] for event in buffered] == ["buffered"] * 5
    assert sum(request["late_events"] for request in requests) == len(buffered)


def test_what_is_older_than_the_horizon_is_a_dead_letter_as_it_came(bench: Any) -> None:
    shop = bench()
    old = view("2026-04-20T12:00:00")
    shop.publish("raw.clickstream", [view("2026-05-01T12:00:00"), old])
    shop.run("ingest", topic="raw.clickstream")
    shop.run("late", topic="late.clickstream")
    (letter,) = shop.records("dlq.late")
    headers = dict(letter.headers)
    assert letter.value == old
    assert headers["dlq-reason"] == b"too_late"
    assert (headers["dlq-topic"], headers["dlq-offset"]) == (b"raw.clickstream", b"1")
    assert not shop.records("reprocess.requests")
