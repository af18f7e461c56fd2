"""Timestamps, a batch at a time: RFC 3339 text or epoch milliseconds <-> int64 microseconds.

All instants are microseconds since 1970-01-01T00:00:00Z, and lie in the years 1 to 9999 (UTC).
The grammar is `date-time` of RFC 3339, section 5.6. Digits after the sixth of a second's fraction
are dropped. A leap second (`:60`) is refused, as JSON Schema validators refuse it.
"""

import math
from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

MIN_US = -62_135_596_800_000_000
MAX_US = 253_402_300_799_999_999

UNREADABLE = np.uint8(0)
READ = np.uint8(1)
READ_WITH_SPACE = np.uint8(2)

_CANONICAL_LENGTH = 27  # 2026-11-23T06:40:54.123456Z
_US_PER_DAY = 86_400_000_000
_NEWLINE = 10


def parse_timestamps(
    values: Sequence[str | int | float | None],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read n timestamps: (int64[n] microseconds, bool[n] readable); 0 where not readable.

    Text is RFC 3339 with any offset; a space between date and time is tolerated (section 5.6,
    note). An integer is epoch milliseconds; a float too, and keeps its microseconds. Never raises.
    """
    us, forms = scan_timestamps(values)
    return us, forms != UNREADABLE


def scan_timestamps(
    values: Sequence[str | int | float | None],
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Like `parse_timestamps`, but tells READ (the strict grammar) from READ_WITH_SPACE."""
    us = np.zeros(len(values), np.int64)
    forms = np.zeros(len(values), np.uint8)
    if not values:
        return us, forms
    try:
        text = "\n".join(values).encode("ascii")  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError):
        _scan_mixed(values, us, forms)
        return us, forms
    if not _scan_lines(np.frombuffer(text, np.uint8), us, forms):
        _scan_mixed(values, us, forms)
    return us, forms


def format_timestamps(us: NDArray[np.int64]) -> list[str]:
    """Write int64[n] microseconds in the canonical form `2026-11-23T06:40:54.123456Z`.

    Raises ValueError for an instant outside the years 1 to 9999.
    """
    if len(us) == 0:
        return []
    if us.min() < MIN_US or us.max() > MAX_US:
        raise ValueError("an instant outside the years 1 to 9999 has no RFC 3339 form")
    out = np.empty((len(us), _CANONICAL_LENGTH + 1), np.uint8)
    out[:, _CANONICAL_LENGTH] = _NEWLINE
    _write_lines(np.ascontiguousarray(us, np.int64), out)
    return out.tobytes().decode("ascii").splitlines()


def _scan_mixed(
    values: Sequence[str | int | float | None],
    us: NDArray[np.int64],
    forms: NDArray[np.uint8],
) -> None:
    lines = [_as_line(value) for value in values]
    _scan_lines(np.frombuffer("\n".join(lines).encode("ascii"), np.uint8), us, forms)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            instant = _from_epoch_ms(value)
            if instant is not None:
                us[row], forms[row] = instant, READ


def _as_line(value: object) -> str:
    return value if isinstance(value, str) and value.isascii() and "\n" not in value else ""


def _from_epoch_ms(value: int | float | None) -> int | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        us = round(value * 1000)
    else:
        us = value * 1000
    return us if MIN_US <= us <= MAX_US else None


@njit(cache=True, nogil=True)
def _scan_lines(text, us, forms):  # type: ignore[no-untyped-def]
    """Read newline-separated rows; False when their number is not len(us)."""
    row = 0
    start = 0
    for position in range(len(text) + 1):
        if position == len(text) or text[position] == _NEWLINE:
            if row == len(us):
                return False
            us[row], forms[row] = _scan_one(text, start, position)
            row += 1
            start = position + 1
    return row == len(us)


@njit(cache=True, nogil=True)
def _number(text, start, count):  # type: ignore[no-untyped-def]
    """The decimal number in `count` digits from `start`, or -1."""
    value = np.int64(0)
    for position in range(start, start + count):
        digit = np.int64(text[position]) - 48
        if digit < 0 or digit > 9:
            return np.int64(-1)
        value = value * 10 + digit
    return value


@njit(cache=True, nogil=True)
def _days_since_epoch(year, month, day):  # type: ignore[no-untyped-def]
    """Days from 1970-01-01 in the proleptic Gregorian calendar; years start in March here."""
    if month <= 2:
        year -= 1
        month += 12
    leap_days = year // 4 - year // 100 + year // 400
    return 365 * year + leap_days + (153 * (month - 3) + 2) // 5 + day - 719469


@njit(cache=True, nogil=True)
def _days_in_month(year, month):  # type: ignore[no-untyped-def]
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if leap else 28
    return 30 if month in (4, 6, 9, 11) else 31


@njit(cache=True, nogil=True)
def _scan_one(text, start, end):  # type: ignore[no-untyped-def]
    bad = (np.int64(0), UNREADABLE)
    if end - start < 20:  # 2026-11-23T06:40:54Z
        return bad
    year = _number(text, start, 4)
    month = _number(text, start + 5, 2)
    day = _number(text, start + 8, 2)
    hour = _number(text, start + 11, 2)
    minute = _number(text, start + 14, 2)
    second = _number(text, start + 17, 2)
    if text[start + 4] != 45 or text[start + 7] != 45:  # '-'
        return bad
    if text[start + 13] != 58 or text[start + 16] != 58:  # ':'
        return bad
    between = text[start + 10]
    if between != 84 and between != 116 and between != 32:  # 'T', 't', ' '
        return bad
    if year < 1 or month < 1 or month > 12 or day < 1 or day > _days_in_month(year, month):
        return bad
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return bad
    position, fraction = _scan_fraction(text, start + 19, end)
    if fraction < 0:
        return bad
    offset, readable = _scan_offset(text, position, end)
    if not readable:
        return bad
    seconds = _days_since_epoch(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
    us = (seconds - offset * 60) * 1_000_000 + fraction
    if us < MIN_US or us > MAX_US:
        return bad
    return us, (READ_WITH_SPACE if between == 32 else READ)


@njit(cache=True, nogil=True)
def _scan_fraction(text, position, end):  # type: ignore[no-untyped-def]
    """(where the fraction ends, its microseconds); -1 microseconds when it is malformed."""
    if text[position] != 46:  # '.'
        return position, np.int64(0)
    position += 1
    first = position
    fraction = np.int64(0)
    scale = np.int64(100_000)
    while position < end and 48 <= text[position] <= 57:
        fraction += (np.int64(text[position]) - 48) * scale
        scale //= 10
        position += 1
    if position == first:
        return position, np.int64(-1)
    return position, fraction


@njit(cache=True, nogil=True)
def _scan_offset(text, position, end):  # type: ignore[no-untyped-def]
    """(minutes east of UTC, readable) of what must fill the rest of the row."""
    if position >= end:
        return np.int64(0), False
    sign = text[position]
    if sign == 90 or sign == 122:  # 'Z', 'z'
        return np.int64(0), position + 1 == end
    if (sign != 43 and sign != 45) or position + 6 != end or text[position + 3] != 58:
        return np.int64(0), False
    hours = _number(text, position + 1, 2)
    minutes = _number(text, position + 4, 2)
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return np.int64(0), False
    east = hours * 60 + minutes
    return (east if sign == 43 else -east), True


@njit(cache=True, nogil=True)
def _write_digits(row, position, count, value):  # type: ignore[no-untyped-def]
    for place in range(position + count - 1, position - 1, -1):
        row[place] = 48 + value % 10
        value //= 10


@njit(cache=True, nogil=True)
def _write_lines(us, out):  # type: ignore[no-untyped-def]
    """Fill uint8[n, 27 or more]; the civil date follows from days counted from 0000-03-01."""
    for index in range(len(us)):
        row = out[index]
        days = us[index] // _US_PER_DAY
        rest = us[index] - days * _US_PER_DAY
        days += 719468
        era = days // 146097
        day_of_era = days - era * 146097
        year_of_era = (
            day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096
        ) // 365
        day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
        shifted = (5 * day_of_year + 2) // 153
        month = shifted + 3 if shifted < 10 else shifted - 9
        year = year_of_era + era * 400 + (1 if month <= 2 else 0)
        _write_digits(row, 0, 4, year)
        _write_digits(row, 5, 2, month)
        _write_digits(row, 8, 2, day_of_year - (153 * shifted + 2) // 5 + 1)
        _write_digits(row, 11, 2, rest // 3_600_000_000)
        _write_digits(row, 14, 2, rest // 60_000_000 % 60)
        _write_digits(row, 17, 2, rest // 1_000_000 % 60)
        _write_digits(row, 20, 6, rest % 1_000_000)
        row[4] = row[7] = 45
        row[10] = 84
        row[13] = row[16] = 58
        row[19] = 46
        row[26] = 90
