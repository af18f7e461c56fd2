"""Names, figures and strangers' strings as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime

FATES: Mapping[str, str] = {
    "good": "on time",
    "late": "late, results corrected",
    "buffered": "too late for the stream, merged in the warehouse",
    "expired": "older than the horizon, to the dead letters",
    "duplicate": "duplicates, dropped",
}
REASONS: Mapping[str, str] = {
    "empty": "no bytes at all",
    "too_large": "larger than a record may be",
    "not_utf8": "not UTF-8 text",
    "not_json": "not JSON",
    "too_deep": "nested too deeply",
    "invalid": "does not obey its contract",
    "bad_timestamp": "no valid time",
    "amount_mismatch": "items do not add up to the total",
    "future_timestamp": "from the future",
    "missing_user": "valid, but nobody to belong to",
    "too_late": "older than the horizon",
    "refused": "BigQuery does not take it",
}
_LONGEST = 120


def words(name: str) -> str:
    """An identifier as words: account_takeover -> account takeover."""
    return name.replace("_", " ")


def printable(text: str, longest: int = _LONGEST) -> str:
    """Somebody else's text on one line: nothing that steers a terminal or turns the text around."""
    shown = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )


def count_of(number: int, singular: str, plural: str | None = None) -> str:
    """1 session, 2 sessions."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def percent(share: float | None) -> str:
    """0.254 -> 25 %; what is neither nothing nor all never reads 0 % or 100 %."""
    if share is None:
        return "-"
    if 0 < share < 0.01:
        return "< 1 %"
    if 0.99 < share < 1:
        return "> 99 %"
    return f"{share:.0%}".replace("%", " %")


def duration(seconds: float) -> str:
    """The two largest units: 4 min 12 s."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if 0 < seconds < 9.95 else f"{whole} s"
    size, unit, smaller = (60, "min", "s") if whole < 3600 else (3600, "h", "min")
    rest = whole % size // (size // 60)
    return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")


def milliseconds(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "not measured"
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def instant(at: datetime) -> str:
    """12 Nov 2026 03:14:05 UTC; `at` is in UTC."""
    return f"{at.day} {at:%b} {at.year} {at:%H:%M:%S} UTC"


def money(amount: float, currency: str) -> str:
    return f"{amount:,.2f} {printable(currency, 8)}".rstrip()
