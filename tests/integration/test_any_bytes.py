"""Whatever bytes arrive: each is a dead letter, byte for byte, and its neighbours are unharmed."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from payments_to_score import request_of

from dataflows.features.catalogue import CUSTOMER
from dataflows.flows.logins import LOGINS
from dataflows.flows.metric_parts import PARTS
from dataflows.flows.payments import Request
from dataflows.flows.topology import SESSIONS

GOOD = {"event_id": "g", "event_type": "page_view", "user_id": "u1"}
TIME = "2026-05-01T12:00:00Z"


def event(**changes: object) -> bytes:
    return json.dumps({**GOOD, "event_timestamp": TIME, **changes}).encode()


TROUBLE: dict[str, tuple[bytes | None, str]] = {
    "tombstone": (None, "empty"),
    "nothing": (b"", "empty"),
    "white space": (b" \n", "not_json"),
    "invalid UTF-8": (b'{"event_id":"\xff\xfe"}', "not_utf8"),
    "invalid UTF-8 in an unknown field": (event()[:-1] + b',"x":"\xc3\x28"}', "not_utf8"),
    "NaN": (event()[:-1] + b',"quantity":NaN}', "not_json"),
    "huge number": (event(quantity=10**400), "invalid"),
    "open brackets": (b"[" * 100_000, "too_deep"),
    "open brackets in an unknown field": (event()[:-1] + b',"x":' + b"[" * 100_000, "too_deep"),
    "10 MB": (b'{"x":"' + b"a" * 10_000_000 + b'"}', "too_large"),
    "wrong type": (event(user_id=7), "invalid"),
    "year 0": (event(event_timestamp="0000-01-01T00:00:00Z"), "bad_timestamp"),
    "year 9999": (event(event_timestamp="9999-12-31T23:59:59Z"), "future_timestamp"),
    "lone surrogate": (b'{"event_id":"\\ud800"}', "not_json"),
    "NUL bytes": (b"\x00" * 100, "not_json"),
    "two documents": (event() + event(), "not_json"),
    "truncated": (event()[:-7], "not_json"),
    "no user": (event(user_id=None), "missing_user"),
    "bad enum": (event(event_type="teleport"), "invalid"),
    "array": (b"[1,2]", "invalid"),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_is_kept_byte_for_byte_and_neighbours_pass(name: str, bench: Any) -> None:
    value, reason = TROUBLE[name]
    shop = bench()
    shop.publish("raw.clickstream", [event(event_id="a"), value, event(event_id="b")])
    shop.run("ingest", topic="raw.clickstream")
    (letter,) = shop.records("dlq.clickstream")
    headers = dict(letter.headers)
    assert letter.value == value
    assert headers["dlq-reason"] == reason.encode(), headers["dlq-message"]
    assert (headers["dlq-topic"], headers["dlq-offset"]) == (b"raw.clickstream", b"1")
    good = [json.loads(r.value) for r in shop.records("events.clickstream")]
    assert [document["event_id"] for document in good] == ["a", "b"]


def test_naughty_strings_as_records_all_become_dead_letters(shared_data: Path, bench: Any) -> None:
    naughty = json.loads((shared_data / "naughty_strings.json").read_text("utf-8"))
    values: list[bytes | None] = [text.encode("utf-8", "surrogatepass") for text in naughty]
    shop = bench()
    shop.publish("raw.clickstream", values)
    shop.run("ingest", topic="raw.clickstream")
    assert [letter.value for letter in shop.records("dlq.clickstream")] == values


def test_naughty_strings_inside_events_pass_untouched(shared_data: Path, bench: Any) -> None:
    naughty = json.loads((shared_data / "naughty_strings.json").read_text("utf-8"))
    shop = bench()
    sent = [event(event_id=str(i), page_title=text[:300]) for i, text in enumerate(naughty)]
    shop.publish("raw.clickstream", sent)
    shop.run("ingest", topic="raw.clickstream")
    titles = [json.loads(r.value)["page_title"] for r in shop.records("events.clickstream")]
    assert titles == [text[:300] for text in naughty]
    assert not shop.records("dlq.clickstream")


def test_unknown_fields_are_kept_and_cannot_pose_as_enrichment(bench: Any) -> None:
    shop = bench()
    shop.publish(
        "raw.clickstream",
        [event(colour="red", lateness="forged", cart={"value": "1.00", "gift": 1})],
    )
    shop.run("ingest", topic="raw.clickstream")
    (document,) = [json.loads(r.value) for r in shop.records("events.clickstream")]
    assert document["lateness"] == "on_time"
    assert document["extras"] == {"colour": "red", "lateness": "forged", "cart": {"gift": 1}}


def payment(**changes: object) -> bytes:
    fields = {"transaction_id": "t", "user_id": "u", "event_timestamp": TIME}
    return json.dumps({**fields, "total_amount": "1.00", **changes}).encode()


def request(**changes: object) -> bytes:
    """A scoring request of one payment as its array; `layout` comes first."""
    payment = {"transaction_id": "t", "user_id": "u", "cents": 1}
    found = json.loads(request_of(payment | {"time": datetime.fromisoformat(TIME)}))
    given = dict(zip(("layout", *Request.__struct_fields__), found, strict=True))
    return json.dumps(list((given | changes).values())).encode()


def whole(number: int) -> str:
    return b64encode(number.to_bytes(8, "little", signed=True)).decode()


def part(**changes: object) -> bytes:
    fields: dict[str, object] = {"event_timestamp": TIME, "metric": "m", "version": "v"}
    fields |= {"aggregate": "count"}
    fields |= {"window_us": 60_000_000, "scale": 1, "at_least": 1, "signed": False, "segments": []}
    fields |= {"since_us": None, "partition": 0, "partitions": 1, "windows": [[0, [[1, 0]]]]}
    return json.dumps(fields | changes).encode()


def session(**changes: object) -> bytes:
    said = {"session_id": "s", "user_id": "u1", "started_at": TIME, "ended_at": TIME}
    own = {"event_count": 1, "funnel_stage": "visit", "superseded_by": None}
    return json.dumps({**said, **own, **changes}).encode()


def login(**changes: object) -> bytes:
    fields: dict[str, object] = {"event_timestamp": TIME, "event_type": "login", "user_id": "u"}
    fields |= {"device_id": "d", "watermark_us": 0, "partition": 0, "partitions": 1}
    return json.dumps(fields | changes).encode()


@pytest.mark.parametrize(
    ("flow", "topic", "poison", "reason"),
    [
        ("sessionize", "events.clickstream", b'{"user_id":"\xff"}', "not_utf8"),
        ("sessionize", "events.clickstream", b"{", "not_json"),
        ("sessionize", "events.clickstream", b'{"user_id":"u"}', "invalid"),
        ("sessionize", "events.clickstream", event(user_id=""), "missing_user"),
        ("sessionize", "events.clickstream", event(event_timestamp="noon"), "bad_timestamp"),
        ("features", "events.transactions", payment(total_amount="9" * 400 + ".00"), "invalid"),
        ("features", "events.transactions", payment(total_amount="-1.00"), "invalid"),
        ("score", "scoring.requests", request(cents=1), "invalid"),
        ("score", "scoring.requests", request(cents=whole(10**14)), "invalid"),
        ("score", "scoring.requests", request(cents=whole(-1)), "invalid"),
        ("score", "scoring.requests", request(times_us=whole(2**62)), "invalid"),
        ("score", "scoring.requests", request(user_id=["u", "v"]), "invalid"),
        ("score", "scoring.requests", request(device_id=[]), "invalid"),
        ("score", "scoring.requests", request(features=[None] * len(CUSTOMER.specs)), "invalid"),
        ("score", "scoring.requests", request(features="AAAA"), "invalid"),
        ("score", "scoring.requests", request(features="no base64!"), "invalid"),
        ("score", "scoring.requests", request(features=None), "invalid"),
        ("score", "scoring.requests", request(layout="0-of-another-version"), "invalid"),
        ("score", "scoring.requests", payment(cents=1), "invalid"),
        ("measure", "events.transactions", payment(status=1), "invalid"),
        ("measure", "events.transactions", payment(payment={"method": []}), "invalid"),
        ("measure", "events.transactions", b"{", "not_json"),
        ("detect", PARTS, part(event_timestamp="10000-01-01T00:00:00Z"), "bad_timestamp"),
        ("detect", PARTS, part(windows=[[2**62, [[1, 0]]]]), "invalid"),
        ("detect", PARTS, part(windows=[[0, [[10**400, 0]]]]), "invalid"),
        ("detect", PARTS, part(windows=[[0, [[1, 0], [1, 0]]]]), "invalid"),
        ("detect", PARTS, part(window_us=0), "invalid"),
        ("detect", PARTS, part(aggregate="median"), "invalid"),
        ("detect", PARTS, part(partitions=0), "invalid"),
        ("watch", "events.clickstream", b"{", "not_json"),
        ("watch", "events.clickstream", event(user_id=""), "missing_user"),
        ("watch", "events.clickstream", event(geo=None), "invalid"),
        ("watch", "events.clickstream", event(quantity=2**63), "invalid"),
        ("watch", LOGINS, login(watermark_us=2**63), "invalid"),
        ("watch", LOGINS, login(partitions=2**20), "invalid"),
        ("watch", LOGINS, login(partition=1), "invalid"),
        ("watch", SESSIONS, b"{", "not_json"),
        ("watch", SESSIONS, session(event_count=0), "invalid"),
        ("watch", SESSIONS, session(event_count=2**40), "invalid"),
        ("watch", SESSIONS, session(funnel_stage="home"), "invalid"),
        ("watch", SESSIONS, session(started_at="soon"), "bad_timestamp"),
        ("watch", SESSIONS, session(ended_at="10000-01-01T00:00:00Z"), "bad_timestamp"),
    ],
)
def test_flows_further_on_survive_what_no_ingest_would_let_through(
    flow: str, topic: str, poison: bytes, reason: str, bench: Any
) -> None:
    shop = bench()
    made = {"sessionize": event, "features": payment, "score": request}
    made |= {"measure": payment, "detect": part}
    made["watch"] = {LOGINS: login, SESSIONS: session}.get(topic, event)
    good = made[flow]()
    shop.publish(topic, [good, poison, good])
    shop.run(flow)
    (letter,) = shop.records(f"dlq.{flow}")
    headers = dict(letter.headers)
    assert (letter.value, headers["dlq-offset"]) == (poison, b"1")
    assert headers["dlq-reason"] == reason.encode(), headers["dlq-message"]
