"""Timestamps against the standard library's datetime and against JSON Schema's date-time."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import FormatChecker

from dataflows.contracts.timestamps import (
    MAX_US,
    MIN_US,
    READ,
    format_timestamps,
    parse_timestamps,
    scan_timestamps,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
INSTANTS = st.integers(MIN_US, MAX_US)


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // US


def parse_one(value: str | int | float | None) -> int | None:
    us, ok = parse_timestamps([value])
    assert ok[0] or us[0] == 0
    return int(us[0]) if ok[0] else None


@given(st.lists(INSTANTS, max_size=20))
@settings(deadline=None)
def test_canonical_text_equals_datetime_and_reads_back(instants: list[int]) -> None:
    us = np.array(instants, np.int64)
    texts = format_timestamps(us)
    assert texts == [
        (EPOCH + instant * US).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
        for instant in instants
    ]
    parsed, ok = parse_timestamps(texts)
    assert ok.all()
    assert parsed.tolist() == instants


FORMS = (
    "2026-11-23T06:40:54.123456Z",
    "2026-11-23t06:40:54.123456Z",
    "2026-11-23T06:40:54.123456z",
    "2026-11-23 06:40:54.123456Z",
    "2026-11-23T06:40:54.1234567Z",
    "2026-11-23T06:40:54.12345Z",
    "2026-11-23T06:40:54.1+01:00",  # as long as the canonical form
    "2026-11-23T06:40:54Z",
    1_795_416_054_123,
    1_795_416_054_123.456,
)


@given(st.lists(st.sampled_from(FORMS), max_size=3) | st.lists(st.just(FORMS[0]), max_size=3))
def test_what_was_read_is_written_in_the_canonical_form(values: list[str | int | float]) -> None:
    us, ok = parse_timestamps(values)
    assert ok.all()
    again, _ = parse_timestamps(format_timestamps(us))
    assert (again == us).all()


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    st.integers(-(23 * 60 + 59), 23 * 60 + 59),
    st.sampled_from(["T", "t", " "]),
)
@settings(deadline=None)
def test_any_offset_equals_datetime(moment: datetime, minutes: int, between: str) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_one(zoned.isoformat(sep=between)) == microseconds(zoned)


@given(st.text("0123456789", min_size=1, max_size=12), st.sampled_from(["Z", "z", "-00:00"]))
@settings(deadline=None)
def test_a_fraction_is_truncated_to_microseconds(digits: str, zone: str) -> None:
    second = microseconds(datetime(2026, 11, 23, 6, 40, 54, tzinfo=UTC))
    read = parse_one(f"2026-11-23T06:40:54.{digits}{zone}")
    assert read == second + int(digits[:6].ljust(6, "0"))


@given(st.text("0123456789-+:.TtZz \n", max_size=30) | st.text(max_size=30))
@settings(deadline=None, max_examples=200)
def test_what_json_schema_refuses_is_not_read(text: str) -> None:
    _, forms = scan_timestamps([text])
    if forms[0] == READ:
        assert FormatChecker().conforms(text, "date-time")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-23",
        "2026-11-23T06:40:54",
        "2026-11-23T06:40Z",
        "2026-11-23T06:40:54.Z",
        "2026-11-23T06:40:54,5Z",
        "2026-11-23T06:40:60Z",
        "2026-11-23T24:00:00Z",
        "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "-001-01-01T00:00:00Z",
        "2026-11-23T06:40:54+24:00",
        "2026-11-23T06:40:54+01:60",
        "2026-11-23T06:40:54+0100",
        "2026-11-23T06:40:54+01",
        "2026-11-23T06:40:54Z ",
        " 2026-11-23T06:40:54Z",
        "2026-11-23T06:40:54Z\n",
        "2026-11-23T06:40:54ZZ",
        "2026-11-23\n06:40:54Z",
        "２０２６-11-23T06:40:54Z",
        "2026-11-23T06:40:54Z\ud800",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ],
)
def test_unreadable_text(text: str) -> None:
    assert parse_one(text) is None


def test_a_leap_day_and_the_calendar_s_ends_are_read() -> None:
    texts = ["2024-02-29T00:00:00Z", "2000-02-29T12:00:00+02:00"]
    ends = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"]
    us, ok = parse_timestamps([*texts, *ends])
    assert ok.all()
    assert us.tolist() == [
        *(microseconds(datetime.fromisoformat(text)) for text in texts),
        MIN_US,
        MAX_US,
    ]


def test_epoch_milliseconds() -> None:
    assert parse_one(1_700_000_000_123) == 1_700_000_000_123_000
    assert parse_one(1_700_000_000_123.456) == 1_700_000_000_123_456
    assert parse_one(-1) == -1000
    for unreadable in (None, True, float("nan"), float("inf"), 10**18, 10**400, 1e300):
        assert parse_one(unreadable) is None


@given(st.lists(INSTANTS, min_size=1, max_size=10), st.data())
@settings(deadline=None, max_examples=50)
def test_one_bad_value_leaves_its_neighbours_alone(
    instants: list[int], data: st.DataObject
) -> None:
    values: list[str | int | float | None] = list(format_timestamps(np.array(instants, np.int64)))
    row = data.draw(st.integers(0, len(values) - 1))
    values[row] = data.draw(st.sampled_from([None, "a\nb", "\n", "é", "", "\ud800", 10**30]))
    us, ok = parse_timestamps(values)
    assert ok.tolist() == [index != row for index in range(len(values))]
    assert us.tolist() == [0 if index == row else us_ for index, us_ in enumerate(instants)]


def test_an_empty_batch() -> None:
    us, ok = parse_timestamps([])
    assert us.dtype == np.int64
    assert ok.dtype == np.bool_
    assert len(us) == len(ok) == 0
    assert format_timestamps(us) == []


def test_an_instant_without_a_form_is_refused() -> None:
    for instant in (MIN_US - 1, MAX_US + 1, 2**62, -(2**62)):
        with pytest.raises(ValueError, match="years 1 to 9999"):
            format_timestamps(np.array([instant], np.int64))
