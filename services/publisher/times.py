"""Times as people write them in files, as microseconds since 1970 UTC."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dataflows.contracts.timestamps import MAX_US, MIN_US, parse_timestamps
from services.publisher.options import EPOCH_SECONDS

UNTIMED = np.iinfo(np.int64).min
"""The time of a row that has none."""

SERVER_LOG_FORMAT = "%d/%b/%Y:%H:%M:%S %z"
"""The time of a combined log: 17/May/2015:10:05:03 +0000."""

_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2})(:[0-9]{2}(?:[.,][0-9]+)?)? ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_SECONDS = re.compile(r"-?[0-9]{1,12}(\.[0-9]*)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_SHORTEST_MILLISECONDS = 11
_CONFIRMED = {4: "%Y", 8: "%Y%m%d", 10: EPOCH_SECONDS, 14: "%Y%m%d%H%M%S"}
"""Bare numbers of these lengths are hardly ever milliseconds: the format a person must confirm."""


def read_times(
    cells: Sequence[str], timestamp_format: str | None
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """(int64[n] microseconds, reasons by row) of n cells; UNTIMED where there is none.

    Without a format: RFC 3339, an ISO date, an ISO date and time that is UTC unless it names an
    offset, or epoch milliseconds of at least 11 digits. With one, only that: strptime's, or %s for
    epoch seconds; UTC unless the format has an offset.
    """
    if timestamp_format is not None:
        return _by_format(cells, timestamp_format)
    us, readable = parse_timestamps(cells)
    us[~readable] = UNTIMED
    faults: dict[int, str] = {}
    rows = [row for row in np.flatnonzero(~readable).tolist() if cells[row].strip()]
    if rows:
        forms = [_canonical(cells[row].strip()) for row in rows]
        instants, understood = parse_timestamps(forms)
        for row, instant, good in zip(rows, instants.tolist(), understood.tolist(), strict=True):
            if good:
                us[row] = instant
            else:
                faults[row] = _reason(cells[row].strip())
    return us, faults


def _canonical(text: str) -> str | int | None:
    """What parse_timestamps understands, None where nothing can be made of the text."""
    if _WHOLE.fullmatch(text):
        digits = len(text.lstrip("-"))
        is_clear = digits >= _SHORTEST_MILLISECONDS and digits not in _CONFIRMED
        return int(text) if is_clear else None
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    date, minutes, seconds, zone = match.groups()
    zone = "Z" if zone is None or zone.upper() in ("Z", "UTC") else zone
    if len(zone) == len("+0100"):
        zone = f"{zone[:3]}:{zone[3:]}"
    return f"{date}T{minutes or '00:00'}{(seconds or ':00').replace(',', '.')}{zone}"


def _reason(text: str) -> str:
    suggested = _CONFIRMED.get(len(text)) if _WHOLE.fullmatch(text) else None
    if suggested is not None:
        return f"{text} is not clearly a time: if it is one, say --timestamp-format {suggested}"
    return (
        f"{shortened(text)} is not a time: RFC 3339, ISO date, or epoch milliseconds;"
        " for anything else say --timestamp-format"
    )


def _by_format(
    cells: Sequence[str], timestamp_format: str
) -> tuple[NDArray[np.int64], dict[int, str]]:
    read = _reader(timestamp_format)
    instants = {cell: read(cell) for cell in set(cells) if cell and not cell.isspace()}
    us = np.array(
        [UNTIMED if each is None else each for each in map(instants.get, cells)], np.int64
    )
    unread = {cell for cell, instant in instants.items() if instant is None}
    faults = {
        row: f"{shortened(cell)} is not a time written as {timestamp_format}"
        for row, cell in enumerate(cells if unread else ())
        if cell in unread
    }
    return us, faults


def _reader(timestamp_format: str) -> Callable[[str], int | None]:
    if timestamp_format == EPOCH_SECONDS:
        return _epoch_seconds
    if timestamp_format == SERVER_LOG_FORMAT:
        return _server_log_time
    return lambda text: _strptime(text, timestamp_format)


def _epoch_seconds(text: str) -> int | None:
    if not _SECONDS.fullmatch(text.strip()):
        return None
    us = int(Decimal(text.strip()) * 1_000_000)
    return us if MIN_US <= us <= MAX_US else None


def _server_log_time(text: str) -> int | None:
    """The seconds apart from the rest, which a log repeats for a whole minute."""
    seconds = text[18:20]
    if len(text) != 26 or not (seconds.isascii() and seconds.isdigit()) or seconds > "59":
        return None
    minute = _strptime(f"{text[:18]}00{text[20:]}", SERVER_LOG_FORMAT)
    return None if minute is None else minute + int(seconds) * 1_000_000


@lru_cache(maxsize=65_536)
def _strptime(text: str, timestamp_format: str) -> int | None:
    try:
        parsed = datetime.strptime(text.strip(), timestamp_format)
    except ValueError:
        return None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    us = (parsed - _EPOCH) // _MICROSECOND
    return us if MIN_US <= us <= MAX_US else None


def shortened(text: str) -> str:
    """The text in quotes, at most 40 characters of it."""
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
