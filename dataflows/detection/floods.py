"""Rules that flood: beyond so many alerts an hour a rule's alerts are held back, and that is told.

Counted by rule and hour of event time, in the order in which alerts are raised. An alert is held
back when every rule that raised it is beyond its limit for the alert's hour; its payment is decided
and scored as before. A flood is told when it begins, and once more, with what it came to, when the
watermark has passed its hour and the allowed lateness: nothing can be added to it then.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.rules import Rule
from dataflows.features.catalogue import HOUR_US


class Flood(msgspec.Struct, frozen=True):
    """An hour in which a rule raised more alerts than it may, as far as it is known."""

    flood_id: str
    rule: str
    owner: str
    window_start: str
    window_end: str
    alerts: int
    held_back: int
    first_held_back: str
    is_over: bool
    revision: int
    text: str


class Hour(msgspec.Struct, gc=False):
    """What a rule raised in an hour of event time; a transaction is named once it floods."""

    rule: str
    owner: str
    start_us: int
    alerts: int = 0
    held_back: int = 0
    first_held_back: str = ""


class Floods:
    """The hours of one partition that are not over; `place` names the partition in ids."""

    def __init__(self, place: str, lateness_us: int, hours: Sequence[Hour] = ()) -> None:
        self._place, self._lateness_us = place, lateness_us
        self._hours = {(hour.rule, hour.start_us): hour for hour in hours}

    @property
    def hours(self) -> list[Hour]:
        return list(self._hours.values())

    def admit(self, rules: Sequence[Rule], time_us: int, transaction_id: str) -> list[Flood] | None:
        """Counts an alert. None where it may be published, else the floods that begin with it."""
        hours = [self._count(rule, time_us) for rule in rules]
        limits = [rule.max_alerts_per_hour for rule in rules]
        if not rules or any(h.alerts <= limit for h, limit in zip(hours, limits, strict=True)):
            return None
        for hour in hours:
            hour.held_back += 1
            hour.first_held_back = hour.first_held_back or transaction_id
        return [self._flood(hour, is_over=False) for hour in hours if hour.held_back == 1]

    def _count(self, rule: Rule, time_us: int) -> Hour:
        start_us = time_us // HOUR_US * HOUR_US
        hour = self._hours.get((rule.id, start_us))
        if hour is None:
            hour = self._hours[rule.id, start_us] = Hour(rule.id, rule.owner, start_us)
        hour.alerts += 1
        return hour

    def close(self, watermarks_us: NDArray[np.int64]) -> list[tuple[int, Flood]]:
        """Forgets the hours that are over under the watermarks of n > 0 rows, which never fall.

        Gives the floods among them, each with the row with which it was over.
        """
        over_us = {key: key[1] + HOUR_US + self._lateness_us for key in self._hours}
        over = sorted(key for key, at_us in over_us.items() if at_us < watermarks_us[-1])
        hours = [self._hours.pop(key) for key in over]
        rows = np.searchsorted(watermarks_us, [over_us[key] for key in over], side="right")
        return [
            (row, self._flood(hour, is_over=True))
            for row, hour in zip(rows.tolist(), hours, strict=True)
            if hour.held_back
        ]

    def _flood(self, hour: Hour, is_over: bool) -> Flood:
        start, end = format_timestamps(np.array([hour.start_us, hour.start_us + HOUR_US]))
        name = f"{hour.rule}\0{hour.start_us}\0{self._place}"
        return Flood(
            flood_id=blake2b(name.encode(), digest_size=16).hexdigest(),
            rule=hour.rule,
            owner=hour.owner,
            window_start=start,
            window_end=end,
            alerts=hour.alerts,
            held_back=hour.held_back,
            first_held_back=hour.first_held_back,
            is_over=is_over,
            revision=2 if is_over else 1,
            text=_text(hour, is_over),
        )


def _text(hour: Hour, is_over: bool) -> str:
    if is_over:
        return (
            f"{hour.rule} raised {hour.alerts:,} alerts within an hour; {hour.held_back:,} were "
            "held back, and are among the scores"
        )
    return (
        f"{hour.rule} has raised {hour.alerts:,} alerts within an hour: from now on those that no "
        "other rule raises are held back, and are among the scores"
    )
