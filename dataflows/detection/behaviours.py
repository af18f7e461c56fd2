"""Behaviours: what users and devices do that shoppers do not, as SQL over columns of their clicks.

A behaviour is a rule over the columns of one subject: the user, the device, or a session. Those of
users and devices are of exact windows (t - w, t] of event time, this event included, as of the
event's arrival; those of sessions are in `session_model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataflows.contracts.timestamps import MAX_US, MIN_US, format_timestamps
from dataflows.detection import session_model
from dataflows.detection.countries import APART_KM, CODES, UNKNOWN, country_numbers
from dataflows.detection.rules import ALERTS_PER_HOUR, CompiledRule, RuleError, RuleSet, load_rules
from dataflows.eventtime.timelines import (
    MISSING,
    Answered,
    Ask,
    Given,
    Keeps,
    Timeline,
    Timelines,
    What,
)
from dataflows.features.catalogue import DAY_US, HOUR_US, MINUTE_US
from dataflows.features.columns import Column, ColumnsOnDemand, ColumnSpec, Kind, Unit, from_list
from dataflows.features.rolling import SECOND_US

LOGIN: Final = "login"
LOGIN_FAILED: Final = "login_failed"
_SHORT_US: Final = 10 * MINUTE_US


class Subject(StrEnum):
    """Whose behaviour it is."""

    USER = "user"
    DEVICE = "device"
    SESSION = "session"


def _count(name: str, description: str) -> ColumnSpec:
    return ColumnSpec(name, Kind.NUMBER, description, Unit.COUNT)


def _text(name: str, description: str) -> ColumnSpec:
    return ColumnSpec(name, Kind.TEXT, description)


USER_COLUMNS: Final = (
    _text("user_id", "who clicks"),
    _text("user_country", "where the click comes from, ISO 3166-1; null if that is not known"),
    _text("user_clicked_at", "the time of the click, HH:MM in UTC"),
    _count("user_products_viewed_10m", "different products that the user viewed in 10 minutes"),
    _count("user_pieces_carted_1h", "pieces that the user put into the basket in 1 hour"),
    _count("user_purchases_1h", "purchases of the user in 1 hour"),
    _count("user_failed_logins_10m", "logins of the user that failed in 10 minutes"),
    _text(
        "user_previous_country",
        "where the user's previous click of the last 24 hours came from; null if not known. Logins "
        "that failed are left out here: they may be anybody's",
    ),
    _text("user_previous_at", "the time of that click, HH:MM in UTC"),
    ColumnSpec(
        "user_seconds_since_previous", Kind.NUMBER, "seconds since that click", Unit.SECONDS
    ),
    _count(
        "user_travelled_km",
        "kilometres that the two countries are apart at least, taken as circles around the centre "
        "of their cities; 0 for most neighbours",
    ),
    _count("user_travelled_kmh", "that distance over that time, a second at least"),
)  # fmt: skip
DEVICE_COLUMNS: Final = (
    _text("device_id", "where logins come from"),
    _count("device_logins_10m", "logins from the device in 10 minutes, failed ones not counted"),
    _count("device_failed_logins_10m", "logins from the device that failed in 10 minutes"),
    _count(
        "device_failed_accounts_10m",
        "different users whose logins from the device failed in 10 minutes",
    ),
)  # fmt: skip
COLUMNS: Final = {
    Subject.USER: {spec.name: spec for spec in USER_COLUMNS},
    Subject.DEVICE: {spec.name: spec for spec in DEVICE_COLUMNS},
    Subject.SESSION: session_model.COLUMNS,
}
CATALOGUE: Final = {name: spec for specs in COLUMNS.values() for name, spec in specs.items()}
"""Every column that a behaviour may name."""


@dataclass(frozen=True)
class Behaviours:
    """The behaviours of a folder."""

    rules: RuleSet

    @cached_property
    def of_users(self) -> tuple[CompiledRule, ...]:
        """The live ones of users."""
        return self._of(Subject.USER)

    @cached_property
    def of_devices(self) -> tuple[CompiledRule, ...]:
        return self._of(Subject.DEVICE)

    @cached_property
    def of_sessions(self) -> tuple[CompiledRule, ...]:
        return self._of(Subject.SESSION)

    def _of(self, subject: Subject) -> tuple[CompiledRule, ...]:
        return tuple(rule for rule in self.rules.live if rule.columns <= COLUMNS[subject].keys())


def load_behaviours(folder: Path) -> Behaviours:
    """Read every behaviour of a folder.

    Raises RuleError naming file, line and field of the first that cannot be used.
    """
    rules = load_rules(folder, CATALOGUE)
    for compiled in rules.rules:
        if compiled.rule.max_alerts_per_hour != ALERTS_PER_HOUR:
            raise RuleError(
                f"{folder}/{compiled.rule.id}.yaml: max_alerts_per_hour: an incident is told once, "
                "however many clicks it has: remove it"
            )
        subjects = [s for s in Subject if compiled.columns <= COLUMNS[s].keys()]
        if len(subjects) != 1:
            raise RuleError(
                f"{folder}/{compiled.rule.id}.yaml: when: name columns of a user, of a device or "
                "of a session, and of one alone: they meet in different places"
            )
    for each in rules.lists:
        raise RuleError(f"{folder}/lists/{each.id}.yaml: lists are of payments: remove it")
    return Behaviours(rules)


@dataclass(frozen=True, slots=True)
class Clicks:
    """n records of one partition in log order.

    A record without a user (a heartbeat, a dead letter, an event too late for the stream) carries
    its watermark alone; the fields of it mean nothing. A watermark is in force when its record
    arrives, and never falls.
    """

    users: Sequence[str | None]
    times_us: NDArray[np.int64]
    types: Sequence[str | None]
    products: Sequence[str | None]
    quantities: Sequence[int | None]
    countries: Sequence[str | None]
    watermarks_us: NDArray[np.int64]


class UserBehaviour:
    """The state of one partition: what each user did in the last day, as far as columns go back."""

    def __init__(self, lateness_us: int) -> None:
        self.timelines = Timelines(
            (
                Timeline(Keeps.NAME, (Ask(What.DISTINCT, _SHORT_US),)),
                Timeline(Keeps.NUMBER, (Ask(What.SUM, HOUR_US),)),
                Timeline(Keeps.NOTHING, (Ask(What.COUNT, HOUR_US),)),
                Timeline(Keeps.NOTHING, (Ask(What.COUNT, _SHORT_US),)),
                Timeline(
                    Keeps.NUMBER,
                    (
                        Ask(What.LAST, DAY_US, earlier=True),
                        Ask(What.SINCE_LAST, DAY_US, earlier=True),
                    ),
                ),
            ),
            lateness_us,
        )

    def process(self, clicks: Clicks) -> ColumnsOnDemand:
        """The columns of every record."""
        types, none = _words(clicks.types), np.zeros(len(clicks.types), np.int64)
        failed_login = types == LOGIN_FAILED
        countries = country_numbers(clicks.countries)
        # A login that failed may be anybody's: it does not say where the user is.
        placed = (countries != UNKNOWN) & ~failed_login
        pieces = np.array([quantity or 1 for quantity in clicks.quantities], np.int64)
        given = [
            Given(types == "product_view", none, clicks.products),
            Given(types == "add_to_cart", pieces),
            Given(types == "purchase", none),
            Given(failed_login, none),
            Given(placed, countries),
        ]
        asks = np.ones(len(types), np.bool_)
        products, carted, purchases, failed, places = self.timelines.process(
            clicks.users, clicks.times_us, asks, given, clicks.watermarks_us
        )
        known = _words(clicks.users) != _NOBODY
        previous, since_us = places.numbers
        moved = known & placed & (since_us != MISSING)
        return ColumnsOnDemand(
            {
                "user_id": partial(from_list, Kind.TEXT, clicks.users),
                "user_country": partial(from_list, Kind.TEXT, clicks.countries),
                "user_clicked_at": partial(_clock, clicks.times_us, known),
                "user_products_viewed_10m": partial(_first, products, known),
                "user_pieces_carted_1h": partial(_first, carted, known),
                "user_purchases_1h": partial(_first, purchases, known),
                "user_failed_logins_10m": partial(_first, failed, known),
                "user_previous_country": partial(_codes, previous, moved),
                "user_previous_at": partial(_clock, clicks.times_us - since_us, moved),
                "user_seconds_since_previous": partial(Column, since_us / SECOND_US, moved),
                "user_travelled_km": partial(_kilometres, previous, countries, moved),
                "user_travelled_kmh": partial(_speed, previous, countries, since_us, moved),
            }
        )


@dataclass(frozen=True, slots=True)
class Logins:
    """n logins of all partitions in log order, failed ones among them; as `Clicks`, by device."""

    devices: Sequence[str | None]
    times_us: NDArray[np.int64]
    types: Sequence[str | None]
    users: Sequence[str | None]
    watermarks_us: NDArray[np.int64]


class DeviceBehaviour:
    """The state of all devices: their logins of the last ten minutes."""

    def __init__(self, lateness_us: int) -> None:
        self.timelines = Timelines(
            (
                Timeline(Keeps.NOTHING, (Ask(What.COUNT, _SHORT_US),)),
                Timeline(Keeps.NOTHING, (Ask(What.COUNT, _SHORT_US),)),
                Timeline(Keeps.NAME, (Ask(What.DISTINCT, _SHORT_US),)),
            ),
            lateness_us,
        )

    def process(self, logins: Logins) -> ColumnsOnDemand:
        """The columns of every record."""
        types, none = _words(logins.types), np.zeros(len(logins.types), np.int64)
        failed = types == LOGIN_FAILED
        given = [
            Given(types == LOGIN, none),
            Given(failed, none),
            Given(failed, none, logins.users),
        ]
        asks = np.ones(len(types), np.bool_)
        answers = self.timelines.process(
            logins.devices, logins.times_us, asks, given, logins.watermarks_us
        )
        known = _words(logins.devices) != _NOBODY
        counted = [spec.name for spec in DEVICE_COLUMNS if spec.kind is Kind.NUMBER]
        return ColumnsOnDemand(
            {
                "device_id": partial(from_list, Kind.TEXT, logins.devices),
                **{
                    name: partial(_first, answer, known)
                    for name, answer in zip(counted, answers, strict=True)
                },
            }
        )


_NOBODY: Final = np.array(None, dtype=object)


def _words(texts: Sequence[str | None]) -> NDArray[np.object_]:
    return np.array(texts, dtype=object)


def _first(answered: Answered, known: NDArray[np.bool_]) -> Column:
    return Column(answered.numbers[0], known)


def _clock(times_us: NDArray[np.int64], valid: NDArray[np.bool_]) -> Column:
    within = np.clip(times_us, MIN_US, MAX_US)
    return Column(_words([text[11:16] for text in format_timestamps(within)]), valid)


def _codes(numbers: NDArray[np.int64], valid: NDArray[np.bool_]) -> Column:
    return Column(_words(CODES)[np.where(valid, numbers, 0)], valid)


def _kilometres(
    ones: NDArray[np.int64], others: NDArray[np.int64], valid: NDArray[np.bool_]
) -> Column:
    return Column(APART_KM[np.where(valid, ones, 0), np.where(valid, others, 0)], valid)


def _speed(
    ones: NDArray[np.int64],
    others: NDArray[np.int64],
    since_us: NDArray[np.int64],
    valid: NDArray[np.bool_],
) -> Column:
    hours = np.maximum(since_us, SECOND_US) / HOUR_US
    return Column(_kilometres(ones, others, valid).values / hours, valid)
