"""Records of any bytes: what becomes an event, what is kept beside it, and why others fail."""

import json
from typing import Any

import msgspec
import pytest
from contract_folders import CONTRACTS, SOURCES
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.contracts import Decoded, parse_timestamps
from dataflows.contracts.nesting import MAX_DEPTH, nesting_depth
from dataflows.contracts.refusal import REASONS

CLICKS = CONTRACTS["clickstream"]
PAYMENTS = CONTRACTS["transactions"]

VIEW: dict[str, Any] = {
    "event_id": "e-1",
    "event_type": "page_view",
    "event_timestamp": "2026-11-23T06:40:54.123456Z",
    "user_id": "u-1",
}
VIEW_US = 1_795_416_054_123_456
PAYMENT: dict[str, Any] = {
    "transaction_id": "t-1",
    "user_id": "u-1",
    "event_timestamp": 1_795_416_054_123,
    "total_amount": "30.00",
    "currency": "EUR",
    "items": [
        {"product_id": "p-1", "quantity": 2, "unit_price": "10.00", "amount": "20.00"},
        {"product_id": "p-2", "quantity": 1, "unit_price": "10.00", "amount": "10.00"},
    ],
}


def text(document: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**document, **changes}).encode()


def only_failure(decoded: Decoded) -> tuple[str, str]:
    assert decoded.events == [None]
    assert decoded.times_us.tolist() == [0]
    assert decoded.extras is None
    assert len(decoded.failures) == 1
    return decoded.failures[0].reason, decoded.failures[0].message


def with_member(raw: bytes, document: dict[str, Any] = VIEW) -> bytes:
    """A document with one more member, given as it stands."""
    return text(document)[:-1] + b"," + raw + b"}"


@pytest.mark.parametrize(
    ("value", "reason", "message"),
    [
        (None, "empty", "no value"),
        (b"", "empty", "no value"),
        (b"   ", "not_json", "byte 3"),
        (b"null", "invalid", "`$`"),
        (b"[]", "invalid", "`$`"),
        (b'"text"', "invalid", "`$`"),
        (b"{}", "invalid", "`$`: object missing required field `event_id`"),
        (b"{", "not_json", "byte 1"),
        (b'{"event_id": NaN}', "not_json", "byte 13"),
        (b'{"event_id": Infinity}', "not_json", "byte 13"),
        (b"{'event_id': 1}", "not_json", "byte 1"),
        (b"\xef\xbb\xbf{}", "not_json", "byte 0"),
        (text(VIEW) + b" x", "not_json", "trailing"),
        (text(VIEW) + text(VIEW), "not_json", "trailing"),
        (b"[" * 100_000, "too_deep", "100000 levels"),
        (b'{"a":' * 100_000, "too_deep", "100000 levels"),
        (with_member(b'"deep":' + b"[" * 65 + b"]" * 65), "too_deep", "66 levels"),
        (b"\xff\xfe", "not_utf8", "byte 0"),
        (with_member(b'"unknown":"\xff"'), "not_utf8", "byte 12"),
        (with_member(b'"page_url":"\xed\xa0\x80"'), "not_utf8", "byte 12"),
        (with_member(b'"page_url":"\\ud800"'), "not_json", "surrogate"),
        (with_member(b'"unknown":"\\ud800"'), "not_json", "surrogate"),
        (with_member(b'"unknown":"\\udc00"'), "not_json", "surrogate"),
        (with_member(b'"unknown":[{"n":1e999}]'), "invalid", "`$.unknown[0].n`"),
        (with_member(b'"quantity":1e999'), "invalid", "`$.quantity`"),
        (with_member(b'"quantity":' + b"9" * 5000), "invalid", "`$.quantity`"),
        (text(VIEW, quantity=1.5), "invalid", "`$.quantity`"),
        (text(VIEW, quantity=True), "invalid", "`$.quantity`"),
        (text(VIEW, event_type="hover"), "invalid", "`$.event_type`: invalid enum value 'hover'"),
        (text(VIEW, device={"language": 7}), "invalid", "`$.device.language`"),
        (text(VIEW, cart={"value": "12.5"}), "invalid", "`$.cart.value`"),
        (text(VIEW, cart={"value": "1e3.00"}), "invalid", "`$.cart.value`"),
        (text(VIEW, user_id=""), "invalid", "`$.user_id`"),
        (text(VIEW, event_timestamp="0000-01-01T00:00:00Z"), "bad_timestamp", "event_timestamp"),
        (text(VIEW, event_timestamp="2026-11-23 06:40:54Z"), "bad_timestamp", "event_timestamp"),
        (text(VIEW, event_timestamp=-1), "bad_timestamp", "event_timestamp"),
        (text(VIEW, event_timestamp=1.5), "bad_timestamp", "event_timestamp"),
        (text(VIEW, event_timestamp=None), "bad_timestamp", "event_timestamp"),
        (text(VIEW, event_timestamp=10**30), "bad_timestamp", "event_timestamp"),
    ],
)
def test_a_refused_record_says_why_and_where(
    value: bytes | None, reason: str, message: str
) -> None:
    found_reason, found_message = only_failure(CLICKS.decode([value]))
    assert found_reason == reason
    assert message in found_message
    assert found_message.isprintable()


def test_a_record_may_be_as_large_as_allowed_and_no_larger() -> None:
    def padded(size: int) -> bytes:
        return text(VIEW)[:-1] + b" " * (size - len(text(VIEW))) + b"}"

    assert not CLICKS.decode([padded(2**20)]).failures
    assert only_failure(CLICKS.decode([padded(2**20 + 1)]))[0] == "too_large"
    assert only_failure(CLICKS.decode([b"\xff" * 10_000_000]))[0] == "too_large"


def test_an_enum_message_stays_short_and_on_one_line() -> None:
    _, message = only_failure(CLICKS.decode([text(VIEW, event_type="\n\x00" * 5000)]))
    assert len(message) < 1000
    assert message.isprintable()


@pytest.mark.parametrize("source", SOURCES)
@given(
    st.lists(
        st.none() | st.binary(max_size=40) | st.text('[]{}",:0e\\u', max_size=40).map(str.encode)
    )
)
@settings(deadline=None, max_examples=100)
def test_no_bytes_make_it_raise_and_every_row_is_accounted_for(
    source: str, values: list[bytes | None]
) -> None:
    decoded = CONTRACTS[source].decode(values)
    assert [failure.row for failure in decoded.failures] == list(range(len(values)))
    assert {failure.reason for failure in decoded.failures} <= {*REASONS}
    assert CONTRACTS[source].event_decoder().decode(values).events == [None] * len(values)


def test_neighbours_of_a_refused_record_are_unharmed() -> None:
    values = [text(VIEW), b"\xff", text(VIEW, event_timestamp="?"), None, text(VIEW, new=1)]
    decoded = CLICKS.decode(values)
    assert [failure.row for failure in decoded.failures] == [1, 2, 3]
    assert decoded.times_us.tolist() == [VIEW_US, 0, 0, 0, VIEW_US]
    assert decoded.extras == [None, None, None, None, b'{"new":1}']
    assert decoded.events[0].user_id == decoded.events[4].user_id == "u-1"


@given(st.lists(st.sampled_from([text(VIEW), b"x", text(VIEW, a=1), text(VIEW, quantity=0)])))
@settings(deadline=None, max_examples=50)
def test_where_a_batch_ends_changes_nothing(values: list[bytes]) -> None:
    whole = CLICKS.decode(values)
    parts = [CLICKS.decode([value]) for value in values]
    assert whole.events == [part.events[0] for part in parts]
    assert whole.times_us.tolist() == [int(part.times_us[0]) for part in parts]
    assert [failure[1:] for failure in whole.failures] == [
        failure[1:] for part in parts for failure in part.failures
    ]
    extras = [part.extras[0] if part.extras else None for part in parts]
    assert (whole.extras or [None] * len(values)) == extras


def test_unknown_fields_are_kept_as_they_were_sent() -> None:
    sent = b'"cart" : {"cart_id": "c", "voucher": [1.10, 1E2]}, "z" : {"a": "\\u00e9 b"}, "y": null'
    decoded = CLICKS.decode([with_member(sent)])
    assert decoded.extras == [b'{"cart":{"voucher":[1.10,1E2]},"z":{"a":"\\u00e9 b"},"y":null}']
    assert msgspec.json.decode(msgspec.json.encode(decoded.events[0]))["cart"] == {"cart_id": "c"}


def test_unknown_fields_in_an_array_keep_their_place() -> None:
    items = [PAYMENT["items"][0], {**PAYMENT["items"][1], "gift": True}]
    decoded = PAYMENTS.decode([text(PAYMENT, items=items)])
    assert decoded.extras == [b'{"items":[{},{"gift":true}]}']


def test_a_record_cannot_bring_what_ingest_adds() -> None:
    forged = {"device_class": "mobile", "lateness": "on_time", "extras": {"a": 1}, "raw_offset": 0}
    decoded = CLICKS.decode([text(VIEW, **forged)])
    assert json.loads(decoded.extras[0] or b"") == forged if decoded.extras else False
    assert json.loads(msgspec.json.encode(decoded.events[0])) == VIEW


def test_an_integer_may_be_written_as_a_float_and_the_last_of_equal_keys_counts() -> None:
    decoded = CLICKS.decode([with_member(b'"quantity":"two","quantity":2.0')])
    assert decoded.failures == []
    assert decoded.events[0].quantity == 2
    assert type(decoded.events[0].quantity) is int
    milliseconds = CLICKS.decode([text(VIEW, event_timestamp=1_795_416_054_123.0)])
    assert milliseconds.times_us.tolist() == [VIEW_US // 1000 * 1000]


def test_absent_stays_absent_and_null_stays_null() -> None:
    without_user = {name: value for name, value in VIEW.items() if name != "user_id"}
    for document in (VIEW, without_user, {**VIEW, "user_id": None}):
        event = CLICKS.decode([text(document)]).events[0]
        assert json.loads(msgspec.json.encode(event)) == document


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"total_amount": "30.01"}, "amount_mismatch"),
        ({"total_amount": "29.99"}, "amount_mismatch"),
        ({"total_amount": "30.0"}, "invalid"),
        ({"total_amount": "30.00\n"}, "invalid"),
        ({"items": []}, "invalid"),
        ({"items": None}, "invalid"),
    ],
)
def test_amounts_must_be_exact_and_add_up(changes: dict[str, Any], reason: str) -> None:
    values = [text(PAYMENT), text(PAYMENT, **changes), text(PAYMENT)]
    failures = PAYMENTS.decode(values).failures
    assert [(failure.row, failure.reason) for failure in failures] == [(1, reason)]


def test_amounts_are_added_without_rounding() -> None:
    largest = {"product_id": "p", "quantity": 1, "unit_price": "0.00", "amount": "999999999999.99"}
    decoded = PAYMENTS.decode([text(PAYMENT, items=[largest] * 1000)])
    assert only_failure(decoded)[1].endswith("add up to 999999999999990.00")
    without_items = {name: value for name, value in PAYMENT.items() if name != "items"}
    assert not PAYMENTS.decode([text(without_items)]).failures


def test_every_timestamp_is_read_not_only_the_event_time() -> None:
    profile = {"event_id": "e", "user_id": "u", "event_timestamp": 0, "deleted_at": None}
    values = [text(profile), text(profile, signed_up_at="soon"), text(profile, deleted_at="2026")]
    failures = CONTRACTS["customer_profiles"].decode(values).failures
    assert [(failure.row, failure.reason) for failure in failures] == [
        (1, "bad_timestamp"),
        (2, "bad_timestamp"),
    ]


def test_an_enriched_event_is_encoded_and_decoded_again() -> None:
    event: Any = CLICKS.decode([text(VIEW, new=[1.10])]).events[0]
    event.device_class = "mobile"
    event.product = {"name": "Trail Runner 3"}
    event.raw_offset = 7
    event.extras = msgspec.Raw(b'{"new":[1.10]}')
    record = msgspec.json.encode(event)
    assert json.loads(record) == {
        **VIEW,
        "device_class": "mobile",
        "product": {"name": "Trail Runner 3"},
        "raw_offset": 7,
        "extras": {"new": [1.1]},
    }
    decoded = CLICKS.event_decoder().decode([record, text(VIEW)])
    assert decoded.failures == []
    assert isinstance(decoded.events[0], CLICKS.Enriched)
    assert msgspec.json.encode(decoded.events[0]) == record
    assert decoded.times_us.tolist() == [VIEW_US, VIEW_US]


def test_a_decoder_of_some_fields_holds_just_those() -> None:
    decoder = CLICKS.event_decoder(["user_id", "device_class"])
    values = [text(VIEW, device_class="mobile", page_url=7), text(VIEW, user_id=7), b"{"]
    decoded = decoder.decode(values)
    assert decoded.events[0].__struct_fields__ == ("user_id", "device_class", "event_timestamp")
    assert decoded.events[0].device_class == "mobile"
    assert [failure.reason for failure in decoded.failures] == ["invalid", "not_json"]
    with pytest.raises(Exception, match="clickstream/v1 has no field 'colour'"):
        CLICKS.event_decoder(["colour"])


def test_an_empty_batch() -> None:
    decoded = PAYMENTS.decode([])
    assert (decoded.events, decoded.extras, decoded.failures) == ([], None, [])
    assert len(decoded.times_us) == 0


def test_times_are_those_of_parse_timestamps() -> None:
    written: list[str | int | float | None] = [
        "2026-11-23T06:40:54+05:30",
        1_795_416_054_123,
        "2026-11-23t06:40:54.1234567z",
    ]
    decoded = CLICKS.decode([text(VIEW, event_timestamp=value) for value in written])
    assert decoded.times_us.tolist() == parse_timestamps(written)[0].tolist()


@given(st.recursive(st.text(max_size=3), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
@settings(deadline=None, max_examples=100)
def test_nesting_is_what_a_parser_finds(value: Any) -> None:
    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth, inner), default=0) if isinstance(value, list | dict) else 0

    brackets = b"[]," * (MAX_DEPTH + 1)
    document = brackets + b'"[{\\"[",' + json.dumps(value).encode()
    assert nesting_depth(document) == max(depth(value), 1)
