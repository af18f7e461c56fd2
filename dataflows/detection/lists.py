"""Lists of customers and devices: whose payments are blocked, or never raise an alert.

One YAML file a list, each entry with an end if it has one. A list is part of the rule set.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Final

import msgspec
import yaml

from dataflows.decodable import make_decodable
from dataflows.errors import TidegateError
from dataflows.features.places import Places

NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
FOREVER_US: Final = 2**62
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(instant: datetime) -> int:
    """Since the epoch."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


class Effect(StrEnum):
    """Deny: a payment is blocked. Allow: whatever rules say, no alert; deny has the last word."""

    DENY = "deny"
    ALLOW = "allow"


class Of(StrEnum):
    """What is listed."""

    USER = "user_id"
    DEVICE = "device_id"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It holds for payments before `until`, in event time; without, for all."""

    value: NonEmpty
    note: NonEmpty
    until: Instant | None = None


class EntityList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A list as its file says it."""

    id: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
    description: NonEmpty
    owner: NonEmpty
    effect: Effect
    of: Of
    entries: list[Entry]

    @cached_property
    def _ends_us(self) -> dict[str, int]:
        return {
            entry.value: FOREVER_US if entry.until is None else microseconds(entry.until)
            for entry in self.entries
        }

    def holds(self, value: str | None, time_us: int) -> bool:
        """Whether a payment of this customer, or from this device, is meant."""
        return value is not None and time_us < self._ends_us.get(value, -FOREVER_US)

    def reason(self, value: str | None) -> str:
        """Why a payment is denied, for people."""
        note = next(entry.note for entry in self.entries if entry.value == value)
        return f"{self.of} {value} is on the list {self.id}: {note}"


make_decodable(EntityList)
_CHOICES: Final = {"effect": Effect, "of": Of}


def parse_list(text: str, source: str, make: Callable[[str], TidegateError]) -> EntityList:
    """A list from its YAML text; `source` names it in errors, which `make` makes."""
    place = Places(text, source, make)
    try:
        found = msgspec.convert(yaml.safe_load(text), EntityList)
    except msgspec.ValidationError as error:
        raise place.invalid(error, _members, _CHOICES) from error
    seen = set()
    for i, entry in enumerate(found.entries):
        if entry.value in seen:
            raise place.error(f"entries[{i}].value", f"{entry.value} is there twice, keep one")
        seen.add(entry.value)
    return found


def _members(path: str) -> tuple[str, ...]:
    return (Entry if path.startswith("entries") else EntityList).__struct_fields__
