"""What travels between the hops of scoring: compact, yet safe against another version's."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.connectors.records import Records
from dataflows.features.catalogue import CUSTOMER
from dataflows.features.columns import Kind, from_rows
from dataflows.flows.dead_letters import dead_letters
from dataflows.flows.payments import (
    LAYOUT,
    Request,
    pack_features,
    request_decoder,
    unpack_features,
    with_names,
)
from dataflows.flows.score import decode

FEATURES = dict(
    zip(
        CUSTOMER.specs,
        (1, 1, 4, 9, 134.09, 630.44, 384.77, 127.5, 1.05, 0.5, 1, False, None),
        strict=True,
    )
)
REQUEST = Request(
    event_timestamp="2026-03-05T10:48:29.001720Z",
    transaction_id="t-1",
    user_id="C1",
    cents=13_409,
    currency="EUR",
    status="captured",
    items_count=1,
    payment_method="card",
    card_country="DE",
    shipping_country=None,
    customer_country="DE",
    customer_segment="vip",
    device_id=None,
    arrived_at=None,
    features=pack_features(from_rows(CUSTOMER.specs, [FEATURES]))[0],
)


def test_a_request_reads_back() -> None:
    assert request_decoder.decode(msgspec.json.encode(REQUEST)) == REQUEST


def test_for_people_it_has_names() -> None:
    named = json.loads(with_names(msgspec.json.encode(REQUEST)))
    assert (named["cents"], named["shipping_country"]) == (13_409, None)
    assert list(named["features"]) == list(CUSTOMER.specs)
    assert named["features"] == FEATURES


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


@given(ROWS)
def test_features_come_out_as_they_went_in(rows: list[dict[str, Any]]) -> None:
    columns = from_rows(CUSTOMER.specs, rows)
    found = {name: make() for name, make in unpack_features(pack_features(columns)).items()}
    assert found.keys() == columns.keys()
    for name, column in columns.items():
        assert (found[name].valid == column.valid).all()
        assert (found[name].values == column.values)[column.valid].all()
        assert found[name].values.dtype == column.values.dtype


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[" * 100_000, b'["0-other"]'])
def test_what_is_no_request_is_shown_as_it_is(value: bytes) -> None:
    assert with_names(value) == value


def test_a_request_of_another_layout_is_refused_not_misread() -> None:
    other = msgspec.json.encode(REQUEST).replace(LAYOUT.encode(), b"1-00000000")
    with pytest.raises(msgspec.ValidationError, match=r"Invalid value '1-00000000' - at `\$\[0\]`"):
        request_decoder.decode(other)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (with_names(msgspec.json.encode(REQUEST)), "Expected `array`, got `object`"),
        (msgspec.json.encode(REQUEST).replace(LAYOUT.encode(), b"0-00000000"), "Invalid value"),
    ],
)
def test_what_an_older_version_left_in_flight_is_a_dead_letter_with_its_bytes(
    value: bytes, message: str
) -> None:
    values: list[bytes | None] = [value, msgspec.json.encode(REQUEST)]
    offsets = np.arange(2, dtype=np.int64)
    records = Records("scoring.requests", 0, offsets, offsets, [b"d1", b"d1"], values)
    decoded = decode(records)
    letters = dead_letters("dlq.score", records, decoded.rejections, "scoring.requests")
    assert decoded.events == [None, REQUEST]
    assert letters.values == [value]
    headers = dict(letters.headers[0]) if letters.headers else {}
    assert headers["dlq-reason"] == b"invalid"
    assert message in str(headers["dlq-message"])
    assert (headers["dlq-topic"], headers["dlq-offset"]) == (b"scoring.requests", b"0")


def test_the_layout_changes_with_what_stands_where() -> None:
    """When this fails, what is in flight cannot be read any more: raise the number in LAYOUT (the
    digest follows the features by itself), and say so in the notes of the release."""
    assert (LAYOUT, Request.__struct_fields__) == (
        "2-30d16a3e",
        (
            *("event_timestamp", "transaction_id", "user_id", "cents", "currency", "status"),
            *("items_count", "payment_method", "card_country", "shipping_country"),
            *("customer_country", "customer_segment", "device_id", "arrived_at", "features"),
        ),
    )
