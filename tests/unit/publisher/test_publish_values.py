"""Cells as values: every kind, every form of time, and what is refused."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.contracts import shapes
from services.publisher import PublishError, parse_options
from services.publisher.times import SERVER_LOG_FORMAT, UNTIMED, read_times
from services.publisher.values import ABSENT, convert

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMESTAMP = shapes.Timestamp(epoch_ms=True)


def _us(*parts: int) -> int:
    return (datetime(*parts, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-23T06:40:54Z", _us(2026, 11, 23, 6, 40, 54)),
        ("2026-11-23t06:40:54.123456789z", _us(2026, 11, 23, 6, 40, 54, 123456)),
        ("2026-11-23 06:40:54", _us(2026, 11, 23, 6, 40, 54)),
        ("2026-11-23T06:40", _us(2026, 11, 23, 6, 40)),
        ("2026-11-23 06:40:54,5", _us(2026, 11, 23, 6, 40, 54, 500_000)),
        ("2026-11-23 06:40:54 UTC", _us(2026, 11, 23, 6, 40, 54)),
        ("2026-11-23T06:40:54+0130", _us(2026, 11, 23, 5, 10, 54)),
        ("2026-11-23 06:40:54 -05:00", _us(2026, 11, 23, 11, 40, 54)),
        (" 2026-11-23 ", _us(2026, 11, 23)),
        ("1767225600000", 1_767_225_600_000_000),
        ("852076800000", 852_076_800_000_000),
        ("-10000000000", -10_000_000_000_000),
    ],
)
def test_times_are_read_without_a_format(text: str, instant: int) -> None:
    us, faults = read_times([text, ""], None)
    assert us.tolist() == [instant, UNTIMED]
    assert faults == {}


@pytest.mark.parametrize(
    "text",
    ["20261123", "1767225600", "20261123064054", "2026-13-01", "2026-11-23T25:00", "0000-01-01",
     "2026-11-23T06:40:60Z", "now", "2026", "1767225600000000000", "２０２６-11-23",
     "2026-11-23x", "1e12", "-1767225600", "0"],
)  # fmt: skip
def test_what_is_not_clearly_a_time_is_refused(text: str) -> None:
    us, faults = read_times([text], None)
    assert us.tolist() == [UNTIMED]
    assert "\n" not in faults[0]


@pytest.mark.parametrize(
    ("format_", "text", "instant"),
    [
        ("%Y%m%d", "19970101", _us(1997, 1, 1)),
        ("%d.%m.%Y %H:%M", " 02.01.1997 13:05 ", _us(1997, 1, 2, 13, 5)),
        ("%Y-%m-%dT%H:%M:%S%z", "1997-01-01T01:00:00+0100", _us(1997, 1, 1)),
        ("%s", "852076800", _us(1997, 1, 1)),
        ("%s", "852076800.000001", _us(1997, 1, 1) + 1),
        (SERVER_LOG_FORMAT, "17/May/2015:10:05:03 +0200", _us(2015, 5, 17, 8, 5, 3)),
    ],
)
def test_times_are_read_by_a_format(format_: str, text: str, instant: int) -> None:
    us, faults = read_times(["", text, "junk", text], format_)
    assert us.tolist() == [UNTIMED, instant, UNTIMED, instant]
    assert list(faults) == [2]
    assert format_ in faults[2]


@settings(deadline=None, max_examples=200)
@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_server_log_times_agree_with_strptime(moment: datetime, offset_minutes: int) -> None:
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    text = f"{moment:%d/%b/%Y:%H:%M:%S} {sign}{hours:02}{minutes:02}"
    expected = datetime.strptime(text, SERVER_LOG_FORMAT)
    us, _ = read_times([text], SERVER_LOG_FORMAT)
    assert us.tolist() == [(expected - EPOCH) // timedelta(microseconds=1)]


@pytest.mark.parametrize(
    "text",
    ["17/May/2015:10:05:60 +0000", "17/May/2015:10:05:3 +0000", "17/May/2015:10:05:aa +0000",
     "99/May/2015:10:05:03 +0000", "17/May/2015:10:05:03 +00:00"],
)  # fmt: skip
def test_bent_server_log_times_are_refused(text: str) -> None:
    assert read_times([text], SERVER_LOG_FORMAT)[0].tolist() == [UNTIMED]


@pytest.mark.parametrize(
    ("format_", "words"),
    [
        ("%q", "bad directive"),
        ("%H:%M", "has no year"),
        ("%", "stray"),
        ("%Y %Y", "--timestamp-format"),
    ],
)
def test_an_unusable_format_is_refused(format_: str, words: str) -> None:
    with pytest.raises(PublishError, match=words):
        parse_options(timestamp_format=format_)


@settings(deadline=None, max_examples=200)
@given(st.text("0123456789.+-e ,€", max_size=8) | st.decimals().map(str))
def test_amounts_are_exact_or_refused(text: str) -> None:
    column = convert(shapes.Money(), [text])
    try:
        amount = Decimal(text.strip()) if text.strip() else None
    except InvalidOperation:
        assert 0 in column.faults
        return
    if amount is None:
        assert (column.values, column.faults) == ([ABSENT], {})
    elif not amount.is_finite() or amount.adjusted() > 20 or amount != round(amount, 2):
        assert 0 in column.faults
    elif 0 not in column.faults:
        assert Decimal(column.values[0]) == amount
        assert Decimal(column.values[0]).as_tuple().exponent == -2
    else:
        assert "." not in text or "e" in text.lower()


@pytest.mark.parametrize(
    ("shape", "text", "value"),
    [
        (shapes.Integer(), "7", 7),
        (shapes.Integer(), "+7", 7),
        (shapes.Integer(), " -7.00 ", -7),
        (shapes.Number(), "1e3", 1000.0),
        (shapes.Number(), "-0.25", -0.25),
        (shapes.Number(), "7", 7),
        (shapes.Boolean(), "TRUE", True),
        (shapes.Boolean(), "no", False),
        (shapes.Boolean(), "0", False),
        (shapes.Text(), " as it is ", " as it is "),
        (shapes.Money(), "5", "5.00"),
        (shapes.Money(), "11.7700", "11.77"),
        (shapes.Money(), "-3.5", "-3.50"),
        (TIMESTAMP, "2026-01-01", "2026-01-01T00:00:00.000000Z"),
    ],
)
def test_values(shape: Any, text: str, value: object) -> None:
    column = convert(shape, ["", text])
    assert column.values == [ABSENT, value]
    assert column.faults == {}


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        *[(shapes.Integer(), t) for t in ("1.5", "1_000", "１", "abc", "9" * 19, "1e3", "٣")],
        *[(shapes.Number(), t) for t in ("nan", "inf", "1_0", "1e999", "0x1", "--1")],
        *[(shapes.Boolean(), t) for t in ("2", "si", "truee")],
        *[(shapes.Money(), t) for t in ("1,50", "$5", "1.005", "NaN", "1e30", "1_0", "")][:-1],
        *[(shapes.Array(shapes.Text()), t) for t in ('{"a":1}', "[1", "x", '["a"] x')],
        *[(shapes.Object({}), t) for t in ("[1]", "{'a':1}", "{")],
    ],
)
def test_what_does_not_fit_has_a_reason(shape: Any, text: str) -> None:
    column = convert(shape, ["", text, ""])
    assert column.values == [ABSENT] * 3
    assert list(column.faults) == [1]
    assert "\n" not in column.faults[1]


def test_numbers_keep_their_value() -> None:
    column = convert(shapes.Number(), ["0.1", "123456789012345678"])
    assert column.values == [0.1, 123456789012345678]
    assert not any(isinstance(v, float) and math.isnan(v) for v in column.values)
