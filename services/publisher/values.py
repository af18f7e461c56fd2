"""Cells of text as the values a contract asks for, a column at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.contracts.shapes import (
    Array,
    Boolean,
    Integer,
    Map,
    Money,
    Number,
    Object,
    Shape,
    Timestamp,
)
from dataflows.contracts.timestamps import format_timestamps
from services.publisher.json_syntax import first_fault
from services.publisher.times import UNTIMED, read_times, shortened

ABSENT = msgspec.UNSET
"""The value of an empty cell: the field is left out of the record."""

_MONEY = re.compile(r"[0-9]{1,12}\.[0-9]{2}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_WHOLE = re.compile(r"([+-]?[0-9]{1,18})(?:\.0*)?")
_CENT = Decimal("0.01")
_MAX_AMOUNT_DIGITS = 20
_MAX_INTEGER_DIGITS = 18  # always fits 64 bits
_TRUTH = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}


@dataclass(frozen=True, slots=True)
class Column:
    """n values, ABSENT where a cell is empty or at fault; `faults` has the reason by row.

    `times_us` (int64[n], UNTIMED where absent) is there for timestamps only.
    """

    values: list[Any]
    faults: dict[int, str] = field(default_factory=dict)
    times_us: NDArray[np.int64] | None = None


class _Unfit(Exception):
    """A cell that cannot become what the contract asks for; the message is the reason."""


def convert(shape: Shape, cells: Sequence[str], timestamp_format: str | None = None) -> Column:
    """n cells as values of `shape`. Only the form is judged here, not ranges, lengths or enums."""
    match shape:
        case Timestamp():
            return _times(cells, timestamp_format)
        case Money():
            return _each(cells, _money)
        case Integer():
            return _integers(cells)
        case Number():
            return _each(cells, _number)
        case Boolean():
            return _each(cells, _boolean)
        case Array():
            return _each(cells, lambda cell: _json(cell, "[", "array"))
        case Map() | Object():
            return _each(cells, lambda cell: _json(cell, "{", "object"))
        case _:
            return Column([cell or ABSENT for cell in cells])


def _each(cells: Sequence[str], read: Callable[[str], Any]) -> Column:
    values: list[Any] = []
    faults: dict[int, str] = {}
    for row, cell in enumerate(cells):
        value = ABSENT
        if cell and not cell.isspace():
            try:
                value = read(cell)
            except _Unfit as unfit:
                faults[row] = str(unfit)
        values.append(value)
    return Column(values, faults)


def _times(cells: Sequence[str], timestamp_format: str | None) -> Column:
    us, faults = read_times(cells, timestamp_format)
    timed = us != UNTIMED
    values: list[Any] = format_timestamps(np.where(timed, us, 0))
    for row in np.flatnonzero(~timed).tolist():
        values[row] = ABSENT
    return Column(values, faults, us)


def _money(cell: str) -> str:
    if _MONEY.fullmatch(cell):
        return cell
    text = cell.strip()
    if not _DECIMAL.fullmatch(text):
        raise _Unfit(f"{shortened(cell)} is not an amount: write it like 1234.50")
    try:
        amount = Decimal(text)
    except InvalidOperation as error:  # an exponent beyond the decimal type
        raise _Unfit(f"{shortened(cell)} is not an amount") from error
    if amount.adjusted() > _MAX_AMOUNT_DIGITS:
        raise _Unfit(f"{shortened(cell)} is too large for an amount")
    cents = amount.quantize(_CENT)
    if cents != amount:
        raise _Unfit(f"{shortened(cell)} has more than two decimals: amounts are never rounded")
    return f"{cents:f}"


def _integers(cells: Sequence[str]) -> Column:
    joined = "".join(cells)
    if joined.isascii() and joined.isdigit() and max(map(len, cells)) <= _MAX_INTEGER_DIGITS:
        return Column([int(cell) if cell else ABSENT for cell in cells])
    return _each(cells, _integer)


def _integer(cell: str) -> int:
    match = _WHOLE.fullmatch(cell.strip())
    if match is None:
        raise _Unfit(f"{shortened(cell)} is not a whole number")
    return int(match.group(1))


def _number(cell: str) -> int | float:
    text = cell.strip()
    if whole := _WHOLE.fullmatch(text):
        return int(whole.group(1))
    value = float(text) if _DECIMAL.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise _Unfit(f"{shortened(cell)} is not a number")
    return value


def _boolean(cell: str) -> bool:
    truth = _TRUTH.get(cell.strip().lower())
    if truth is None:
        raise _Unfit(f"{shortened(cell)} is neither true nor false (yes, no, 1 and 0 will do too)")
    return truth


def _json(cell: str, opening: str, name: str) -> msgspec.Raw:
    text = cell.strip()
    if not text.startswith(opening):
        raise _Unfit(f"{shortened(cell)} is not a JSON {name}")
    content = text.encode()
    fault = first_fault(content)
    if fault is not None:
        raise _Unfit(f"this cell is not a JSON {name}: {fault[1]}")
    # A line end can only stand between tokens; records are one line each.
    return msgspec.Raw(content.replace(b"\n", b" ").replace(b"\r", b" "))
