"""What a schema cannot say of an event, checked a batch at a time.

A check takes the decoded events of a batch, None where a record failed before, and yields
(row, refusal) for those that do not hold.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import UNSET

from dataflows.contracts.refusal import AMOUNT_MISMATCH, BAD_TIMESTAMP, RefusedError
from dataflows.contracts.timestamps import READ, scan_timestamps

Check = Callable[[Sequence[Any]], Iterator[tuple[int, RefusedError]]]


def unreadable_timestamp(path: str, value: object) -> RefusedError:
    """The refusal of text that is no date-time of RFC 3339."""
    shown = ascii(value)[:60]
    return RefusedError(BAD_TIMESTAMP, f"`$.{path}`: no RFC 3339 date-time with an offset: {shown}")


def timestamps_are_readable(path: str) -> Check:
    """Check the text of every timestamp at a dotted path."""
    steps = tuple(path.split("."))

    def check(events: Sequence[Any]) -> Iterator[tuple[int, RefusedError]]:
        found = [
            (row, value) for row, event in enumerate(events) for value in _values_at(event, steps)
        ]
        _, forms = scan_timestamps([value for _, value in found])
        for (row, value), form in zip(found, forms, strict=True):
            if form != READ:
                yield row, unreadable_timestamp(path, value)

    return check


def parts_add_up(lines: str, amount: str, total: str) -> Check:
    """Check that the amounts of an event's lines, when it has lines, add up to its total."""

    def check(events: Sequence[Any]) -> Iterator[tuple[int, RefusedError]]:
        for row, event in enumerate(events):
            parts = UNSET if event is None else getattr(event, lines)
            whole = UNSET if event is None else getattr(event, total)
            if not isinstance(parts, list) or not isinstance(whole, str):
                continue
            sum_of_parts = sum(_hundredths(getattr(part, amount)) for part in parts)
            if sum_of_parts != _hundredths(whole):
                found = f"{sum_of_parts // 100}.{sum_of_parts % 100:02d}"
                message = f"`$.{total}` is {whole}, but `$.{lines}[*].{amount}` add up to {found}"
                yield row, RefusedError(AMOUNT_MISMATCH, message)

    return check


def _hundredths(money: str) -> int:
    return int(money[:-3] + money[-2:])


def _values_at(value: Any, steps: tuple[str, ...]) -> Iterator[Any]:
    """What is present at a path, through arrays."""
    if value is None or value is UNSET:
        return
    if isinstance(value, list):
        for item in value:
            yield from _values_at(item, steps)
    elif steps:
        yield from _values_at(getattr(value, steps[0]), steps[1:])
    else:
        yield value
