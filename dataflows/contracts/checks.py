"""What is checked of a whole batch of events at once: text within strings, and sums.

A check takes n events and the row of each, rising, and yields (row, refusal) for those that do not
hold.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dataflows.contracts.columns import column
from dataflows.contracts.declaration import Sum
from dataflows.contracts.money import parse_money
from dataflows.contracts.refusal import AMOUNT_MISMATCH, BAD_TIMESTAMP, INVALID, RefusedError
from dataflows.contracts.shapes import Map, Money, Object, Timestamp, element, walk
from dataflows.contracts.timestamps import READ, scan_timestamps

Refusals = Iterator[tuple[int, RefusedError]]
Check = Callable[[Sequence[int], Sequence[Any]], Refusals]


def checks_of(shape: Object, event_time: str, sums: Sequence[Sum]) -> list[Check]:
    """The checks of events of a shape; `event_time` is left out, for decoding reads it anyway."""
    timestamps = [path for path in paths_of(shape, Timestamp) if path != event_time]
    checks = [_timestamps_are_readable(shape, path) for path in timestamps]
    money = paths_of(shape, Money)
    if money:
        checks.append(_money_is_exact(shape, money, sums))
    return checks


def paths_of(shape: Object, kind: type) -> list[str]:
    """The dotted paths of all values of a kind of scalar, those in arrays and maps included."""
    found = []
    for path, field in walk(shape):
        inner = element(field.shape)
        if isinstance(inner.values if isinstance(inner, Map) else inner, kind):
            found.append(path)
    return found


def unreadable_timestamp(path: str, value: object) -> RefusedError:
    """The refusal of text that is no date-time of RFC 3339."""
    shown = ascii(value)[:60]
    return RefusedError(BAD_TIMESTAMP, f"`$.{path}`: no RFC 3339 date-time with an offset: {shown}")


def _timestamps_are_readable(shape: Object, path: str) -> Check:
    def check(rows: Sequence[int], events: Sequence[Any]) -> Refusals:
        rows, values = column(rows, events, shape, path)
        _, forms = scan_timestamps(values)
        for index in np.flatnonzero(forms != READ).tolist():
            yield rows[index], unreadable_timestamp(path, values[index])

    return check


def _money_is_exact(shape: Object, paths: Sequence[str], sums: Sequence[Sum]) -> Check:
    def check(rows: Sequence[int], events: Sequence[Any]) -> Refusals:
        amounts = {}
        for path in paths:
            of_rows, values = column(rows, events, shape, path)
            hundredths, ok = parse_money(values)
            amounts[path] = np.array(of_rows, np.int64), hundredths
            for index in np.flatnonzero(~ok).tolist():
                shown = ascii(values[index])[:60]
                message = f"`$.{path}`: no amount with two decimals, like 12.50: {shown}"
                yield of_rows[index], RefusedError(INVALID, message)
        for declared in sums:
            yield from _sum_holds(declared, amounts, rows)

    return check


def _sum_holds(declared: Sum, amounts: dict[str, Any], rows: Sequence[int]) -> Refusals:
    """Refuses the events with parts and a total whose parts do not add up."""
    count = rows[-1] + 1 if rows else 0
    (part_rows, parts), (total_rows, totals) = amounts[declared.parts], amounts[declared.total]
    added = np.zeros(count, np.int64)
    np.add.at(added, part_rows, parts)
    has_parts = np.zeros(count, np.bool_)
    has_parts[part_rows] = True
    wrong = has_parts[total_rows] & (added[total_rows] != totals)
    array, _, field = declared.parts.partition(".")
    for row, total in zip(total_rows[wrong].tolist(), totals[wrong].tolist(), strict=True):
        message = (
            f"`$.{declared.total}` is {_written(total)}, "
            f"but `$.{array}[*].{field}` add up to {_written(int(added[row]))}"
        )
        yield row, RefusedError(AMOUNT_MISMATCH, message)


def _written(hundredths: int) -> str:
    return f"{hundredths // 100}.{hundredths % 100:02d}"
