"""What travels between the hops of scoring: compact, yet safe against another version's."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.connectors.records import Records, heartbeat_headers
from dataflows.features.catalogue import CUSTOMER
from dataflows.features.columns import Kind, from_rows
from dataflows.flows.dead_letters import dead_letters
from dataflows.flows.features import CustomerHop
from dataflows.flows.features import decode as decode_payments
from dataflows.flows.payments import (
    LAYOUT,
    REQUEST_BYTES,
    REQUEST_PAYMENTS,
    PaymentColumns,
    Request,
    decode_requests,
    feature_rows,
    features_of,
    request_decoder,
    request_ends,
    with_names,
)
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime

FEATURES = dict(
    zip(
        CUSTOMER.specs,
        (1, 1, 4, 9, 134.09, 630.44, 384.77, 127.5, 1.05, 0.5, 1, False, None),
        strict=True,
    )
)
PAYMENT: dict[str, Any] = {
    "transaction_id": "t-1",
    "user_id": "C1",
    "currency": "EUR",
    "status": "captured",
    "items_count": 1,
    "payment_method": "card",
    "card_country": "DE",
    "shipping_country": None,
    "customer_country": "DE",
    "customer_segment": "vip",
    "device_id": None,
    "arrived_at": None,
}
TIME_US = 1_772_707_709_001_720


def columns(count: int) -> PaymentColumns:
    return PaymentColumns(
        times_us=TIME_US + np.arange(count),
        cents=np.full(count, 13_409),
        objects={name: [value] * count for name, value in PAYMENT.items()},
        features=feature_rows(from_rows(CUSTOMER.specs, [FEATURES] * count)),
        declared={},
    )


REQUEST = columns(2).request(0, 2)


def records(values: list[bytes | None], beats: dict[int, int] | None = None) -> Records:
    offsets = np.arange(len(values), dtype=np.int64)
    headers = None
    if beats:
        rows = range(len(values))
        headers = [heartbeat_headers(beats[row]) if row in beats else () for row in rows]
    return Records("scoring.requests", 0, offsets, offsets, [None] * len(values), values, headers)


def test_for_people_each_payment_has_names() -> None:
    first, second = map(json.loads, with_names(REQUEST))
    assert first["event_timestamp"] == "2026-03-05T10:48:29.001720Z"
    assert second["event_timestamp"] == "2026-03-05T10:48:29.001721Z"
    for named in (first, second):
        assert (named["cents"], named["features"]) == (13_409, FEATURES)
        assert PAYMENT.items() <= named.items()
        assert named.keys() == PAYMENT.keys() | {"event_timestamp", "cents", "features"}


NUMBERS = st.none() | st.floats(allow_nan=False)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            name: st.none() | st.booleans() if spec.kind is Kind.BOOLEAN else NUMBERS
            for name, spec in CUSTOMER.specs.items()
        }
    ),
    min_size=1,
)


@given(ROWS, st.data())
def test_payments_come_out_as_they_went_in(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    count = len(rows)
    texts = st.none() | st.text(max_size=5)
    given = PaymentColumns(
        times_us=np.array(data.draw(st.lists(TIMES_US, min_size=count, max_size=count))),
        cents=np.array(data.draw(st.lists(CENTS, min_size=count, max_size=count))),
        objects={
            name: data.draw(
                st.lists(
                    {"items_count": st.none() | st.integers(0, 9)}.get(name, texts)
                    if name not in ("transaction_id", "user_id")
                    else st.text(max_size=5),
                    min_size=count,
                    max_size=count,
                )
            )
            for name in PAYMENT
        },
        features=feature_rows(from_rows(CUSTOMER.specs, rows)),
        declared={},
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, count))) | {0, count})
    parts = [given.request(start, stop) for start, stop in pairwise(cuts)]
    found = decode_requests(records(list(parts)))
    assert (found.times_us == given.times_us).all()
    assert (found.cents == given.cents).all()
    assert {name: found.each(name) for name in PAYMENT} == given.objects
    expected = from_rows(CUSTOMER.specs, rows)
    for name, make in features_of(found.requests).items():
        column = make()
        assert (column.valid == expected[name].valid).all()
        assert (column.values == expected[name].values)[column.valid].all()
        assert column.values.dtype == expected[name].values.dtype
    in_each = np.diff(cuts)
    assert (found.offsets == np.repeat(np.arange(len(parts)), in_each)).all()


CENTS = st.integers(0, 10**14 - 1)
TIMES_US = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)


@given(st.lists(st.integers(0, 3 * REQUEST_BYTES // 2) | st.integers(0, 2_000), max_size=600))
def test_a_request_is_as_large_as_it_may_be(sizes: list[int]) -> None:
    ends = list(request_ends(np.array(sizes, np.int64)))
    assert [at for start, stop in ends for at in range(start, stop)] == list(range(len(sizes)))
    for start, stop in ends:
        assert stop - start <= REQUEST_PAYMENTS
        assert sum(sizes[start:stop]) <= REQUEST_BYTES or stop == start + 1
        full = stop - start == REQUEST_PAYMENTS or stop == len(sizes)
        assert full or sum(sizes[start : stop + 1]) > REQUEST_BYTES


def test_heartbeats_stay_where_they_were_among_payments() -> None:
    payment = {"user_id": "u", "event_timestamp": "2026-03-05T10:00:00Z", "total_amount": "1.00"}
    values: list[bytes | None] = [
        json.dumps(payment | {"transaction_id": name}).encode() if name else None
        for name in ("a", "b", None, "c", None, None, "d")
    ]
    batch = records(values, {2: TIME_US, 4: TIME_US + 1, 5: TIME_US + 2})
    output = CustomerHop(EventTime(), 1, []).process(decode_payments(batch)).outputs[0]
    said = [
        [json.loads(payment)["transaction_id"] for payment in with_names(value)] if value else None
        for value in output.values
    ]
    assert said == [["a", "b"], None, ["c"], None, None, ["d"]]
    assert output.causes.tolist() == [1, 2, 3, 4, 5, 6]
    again = decode_requests(
        Records("r", 0, output.causes, output.causes, output.keys, output.values, output.headers)
    )
    heartbeats = again.fates == fates.HEARTBEAT
    assert heartbeats.tolist() == [False, False, True, False, True, True, False]
    assert again.times_us[heartbeats].tolist() == [TIME_US, TIME_US + 1, TIME_US + 2]
    assert again.offsets.tolist() == [1, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[" * 100_000, b'["0-other"]'])
def test_what_is_no_request_is_shown_as_it_is(value: bytes) -> None:
    assert with_names(value) == [value]


def test_a_request_of_another_layout_is_refused_not_misread() -> None:
    other = REQUEST.replace(LAYOUT.encode(), b"1-00000000")
    with pytest.raises(msgspec.ValidationError, match=r"Invalid value '1-00000000' - at `\$\[0\]`"):
        request_decoder.decode(other)


def changed(**columns: Callable[[Any], Any]) -> bytes:
    request = request_decoder.decode(REQUEST)
    for name, change in columns.items():
        setattr(request, name, change(getattr(request, name)))
    return msgspec.json.encode(request)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (with_names(REQUEST)[0], "Expected `array`, got `object`"),
        (REQUEST.replace(LAYOUT.encode(), b"0-00000000"), "Invalid value"),
        (changed(user_id=lambda users: users[:1]), "user_id: has length 1, not 2"),
        (changed(cents=lambda cents: cents[:-1]), "cents: has length 15, not 16"),
        (changed(features=lambda rows: rows * 2), "features: has length 416, not 208"),
        (changed(cents=lambda cents: b"\xff" * 16), "cents: not all from 0 to 99999999999999"),
        (changed(times_us=lambda times: b"\x7f" * 16), "times_us: not all from"),
        (changed(transaction_id=lambda names: []), "there are no payments in it"),
    ],
)
def test_what_an_older_version_left_in_flight_is_a_dead_letter_with_its_bytes(
    value: bytes, message: str
) -> None:
    batch = records([REQUEST, value, REQUEST])
    decoded = decode_requests(batch)
    letters = dead_letters("dlq.score", batch, decoded.rejections, "scoring.requests")
    invalid = fates.failed("invalid")
    assert decoded.fates.tolist() == [*[fates.GOOD] * 2, invalid, *[fates.GOOD] * 2]
    assert decoded.offsets.tolist() == [0, 0, 1, 2, 2]
    assert decoded.each("transaction_id") == ["t-1"] * 4
    assert letters.values == [value]
    headers = dict(letters.headers[0]) if letters.headers else {}
    assert headers["dlq-reason"] == b"invalid"
    assert message in str(headers["dlq-message"])
    assert (headers["dlq-topic"], headers["dlq-offset"]) == (b"scoring.requests", b"1")


def test_the_layout_changes_with_what_stands_where() -> None:
    """When this fails, what is in flight cannot be read any more: raise the number in LAYOUT (the
    digest follows the features by itself), and say so in the notes of the release."""
    assert (LAYOUT, Request.__struct_fields__) == (
        "3-30d16a3e",
        (
            *("times_us", "transaction_id", "user_id", "cents", "currency", "status"),
            *("items_count", "payment_method", "card_country", "shipping_country"),
            *("customer_country", "customer_segment", "device_id", "arrived_at", "features"),
            "declared",
        ),
    )
