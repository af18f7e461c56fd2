"""Ways to break a record, and the reason with which each one must be refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final

import msgspec


class Damage(IntEnum):
    """What is wrong with a delivery; NONE for nothing."""

    NONE = 0
    NOT_JSON = 1
    TRUNCATED = 2
    NOT_UTF8 = 3
    WRONG_TYPE = 4
    MISSING_FIELD = 5
    BAD_ENUM = 6
    BAD_TIMESTAMP = 7
    AMOUNT_MISMATCH = 8
    EMPTY = 9
    FUTURE = 10
    MISSING_USER = 11


REASONS: Final[Mapping[Damage, str]] = {
    Damage.NOT_JSON: "not_json",
    Damage.TRUNCATED: "not_json",
    Damage.NOT_UTF8: "not_utf8",
    Damage.WRONG_TYPE: "invalid",
    Damage.MISSING_FIELD: "invalid",
    Damage.BAD_ENUM: "invalid",
    Damage.BAD_TIMESTAMP: "bad_timestamp",
    Damage.AMOUNT_MISMATCH: "amount_mismatch",
    Damage.EMPTY: "empty",
    Damage.FUTURE: "future_timestamp",
    Damage.MISSING_USER: "missing_user",
}

_IDENTITY: Final = {"transactions": "transaction_id", "labels": "label_id"}
_REQUIRED: Final = {
    "clickstream": "event_type",
    "transactions": "total_amount",
    "customer_support": "ticket_id",
    "product_catalog": "name",
    "customer_profiles": "user_id",
    "labels": "verdict",
}
_ENUM: Final = {
    "clickstream": "event_type",
    "transactions": "status",
    "customer_support": "channel",
    "customer_profiles": "segment",
    "labels": "origin",
}
_NOT_JSON: Final = (
    b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
    b"{'event_id': 'a1', 'event_type': 'page_view'}",
    b"a1;page_view;2026-01-01 00:00:00;C100001",
    b'{"event_id": "a1", "event_type": "page_view",}',
)
_WRONG_IDENTITIES: Final[tuple[Any, ...]] = (12345, None, ["a1"], {"id": "a1"}, True)
_WRONG_ENUMS: Final = ("teleported", "", "PAGE_VIEW ", "неизвестно")
_WRONG_TIMESTAMPS: Final = (
    "yesterday at noon",
    "2026-02-30T10:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-03-01T25:61:00Z",
    "01.03.2026 10:00",
    "0000-01-01T00:00:00Z",
)
_YEAR_US: Final = 31_557_600_000_000


def damages_of(source: str) -> list[Damage]:
    """The kinds of damage that the records of `source` can suffer, missing_user aside."""
    possible = set(Damage) - {Damage.NONE, Damage.MISSING_USER}
    if source not in _ENUM:
        possible.remove(Damage.BAD_ENUM)
    if source != "transactions":
        possible.remove(Damage.AMOUNT_MISMATCH)
    return sorted(possible)


def damaged(value: bytes, damage: Damage, source: str, salt: int, published_us: int) -> bytes:
    """The bytes of a valid record with `damage` done to it; `salt` picks among its varieties."""
    by_bytes = _BYTES.get(damage)
    if by_bytes is not None:
        return by_bytes(value, salt)
    record: dict[str, Any] = msgspec.json.decode(value)
    identity = _IDENTITY.get(source, "event_id")
    # A record of its own, not a broken copy of an id that exists.
    record[identity] = record[identity][::-1]
    if damage is Damage.WRONG_TYPE:
        record[identity] = _WRONG_IDENTITIES[salt % len(_WRONG_IDENTITIES)]
    elif damage is Damage.MISSING_FIELD:
        del record[_REQUIRED[source]]
    elif damage is Damage.BAD_ENUM:
        record[_ENUM[source]] = _WRONG_ENUMS[salt % len(_WRONG_ENUMS)]
    elif damage is Damage.BAD_TIMESTAMP:
        record["event_timestamp"] = _WRONG_TIMESTAMPS[salt % len(_WRONG_TIMESTAMPS)]
    elif damage is Damage.AMOUNT_MISMATCH:
        record["total_amount"] = _off_by_some(record["total_amount"], salt)
    elif damage is Damage.FUTURE:
        ahead = _YEAR_US + salt % (49 * _YEAR_US)
        record["event_timestamp"] = (published_us + ahead) // 1_000
    elif salt % 2:
        record["user_id"] = None
    else:
        del record["user_id"]
    return msgspec.json.encode(record)


def _truncated(value: bytes, salt: int) -> bytes:
    """A first part of `value`, not cut within a character."""
    length = 1 + salt % (len(value) - 1)
    return value[:length].decode(errors="ignore").encode()


def _not_utf8(value: bytes, salt: int) -> bytes:
    """`value` with a Latin-1 byte inside its first string."""
    at = value.index(b'":"') + 4 + salt % 8
    return value[:at] + b"\xe9" + value[at + 1 :]


def _off_by_some(amount: str, salt: int) -> str:
    cents = int(amount.replace(".", "")) + 1 + salt % 5_000
    return f"{cents // 100}.{cents % 100:02d}"


_BYTES: Final[Mapping[Damage, Callable[[bytes, int], bytes]]] = {
    Damage.NOT_JSON: lambda _value, salt: _NOT_JSON[salt % len(_NOT_JSON)],
    Damage.TRUNCATED: _truncated,
    Damage.NOT_UTF8: _not_utf8,
    Damage.EMPTY: lambda _value, _salt: b"",
}
