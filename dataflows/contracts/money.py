"""Money, a batch at a time: exact text with two decimals <-> int64 hundredths."""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

SHORTEST, LONGEST = 4, 15  # 0.00, 999999999999.99

_NEWLINE, _POINT = 10, 46


def parse_money(values: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read n amounts: (int64[n] hundredths, bool[n] readable); 0 where not readable.

    An amount is 1 to 12 ASCII digits, a point and two digits: `MONEY_PATTERN`. Never raises.
    """
    hundredths = np.zeros(len(values), np.int64)
    ok = np.zeros(len(values), np.bool_)
    if not values:
        return hundredths, ok
    text = "\n".join(values)
    if not text.isascii() or text.count("\n") != len(values) - 1:
        text = "\n".join(value if value.isascii() and "\n" not in value else "" for value in values)
    _scan_lines(np.frombuffer(text.encode("ascii"), np.uint8), hundredths, ok)
    return hundredths, ok


def format_money(hundredths: NDArray[np.int64]) -> list[str]:
    """Write int64[n] hundredths as `parse_money` reads them.

    Raises ValueError for an amount that is negative or has more than 12 digits before the point.
    """
    if len(hundredths) == 0:
        return []
    if hundredths.min() < 0 or hundredths.max() >= 10 ** (LONGEST - 1):
        raise ValueError("an amount below zero, or beyond 999999999999.99, has no text")
    out = np.empty(len(hundredths) * (LONGEST + 1), np.uint8)
    length = _write_lines(np.ascontiguousarray(hundredths, np.int64), out)
    return out[: length - 1].tobytes().decode("ascii").split("\n")


@njit(cache=True, nogil=True)
def _scan_lines(text, hundredths, ok):  # type: ignore[no-untyped-def]
    row = 0
    start = 0
    for position in range(len(text) + 1):
        if position == len(text) or text[position] == _NEWLINE:
            hundredths[row], ok[row] = _scan_one(text, start, position)
            row += 1
            start = position + 1


@njit(cache=True, nogil=True)
def _scan_one(text, start, end):  # type: ignore[no-untyped-def]
    length = end - start
    if length < SHORTEST or length > LONGEST or text[end - 3] != _POINT:
        return np.int64(0), False
    value = np.int64(0)
    for position in range(start, end):
        if position != end - 3:
            digit = np.int64(text[position]) - 48
            if digit < 0 or digit > 9:
                return np.int64(0), False
            value = value * 10 + digit
    return value, True


@njit(cache=True, nogil=True)
def _write_lines(hundredths, out):  # type: ignore[no-untyped-def]
    """Fill uint8[16 n] with lines; how many bytes they take."""
    end = 0
    for row in range(len(hundredths)):
        value = hundredths[row]
        digits = 3
        beyond = value // 1000
        while beyond > 0:
            digits += 1
            beyond //= 10
        out[end + digits + 1] = _NEWLINE
        for position in range(end + digits, end - 1, -1):
            if position == end + digits - 2:
                out[position] = _POINT
            else:
                out[position] = 48 + value % 10
                value //= 10
        end += digits + 2
    return end
