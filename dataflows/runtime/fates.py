"""What became of each input record. Every record has exactly one fate.

So that in = good + failed + late + duplicate + suppressed holds by construction, and is checked
against the log, which counts records on its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime.lateness import Lateness

FAILURE_REASONS = (
    "empty",
    "too_large",
    "not_utf8",
    "not_json",
    "too_deep",
    "invalid",
    "bad_timestamp",
    "amount_mismatch",
    "future_timestamp",
    "missing_user",
    "too_late",
    "refused",
)
FATES = (
    "good",
    "late",
    "buffered",
    "expired",
    "duplicate",
    "suppressed",
    "heartbeat",
    *(f"failed.{reason}" for reason in FAILURE_REASONS),
)
CODES: Mapping[str, int] = {name: code for code, name in enumerate(FATES)}

GOOD = CODES["good"]
LATE = CODES["late"]  # within the allowed lateness: results were corrected
BUFFERED = CODES["buffered"]  # too late for the stream, merged in the warehouse
EXPIRED = CODES["expired"]  # later than the horizon
DUPLICATE = CODES["duplicate"]
SUPPRESSED = CODES["suppressed"]
HEARTBEAT = CODES["heartbeat"]  # moves event time, carries no data: not part of `in`

Fates = NDArray[np.uint8]

# What its class of lateness makes of an event.
FATE_OF_CLASS: Fates = np.zeros(len(Lateness), np.uint8)
FATE_OF_CLASS[Lateness.ON_TIME] = GOOD
FATE_OF_CLASS[Lateness.LATE] = LATE
FATE_OF_CLASS[Lateness.BUFFERED] = BUFFERED
FATE_OF_CLASS[Lateness.EXPIRED] = EXPIRED

_DAY_US = 86_400_000_000


def failed(reason: str) -> int:
    """The fate of a record rejected for `reason`, one of FAILURE_REASONS."""
    return CODES[f"failed.{reason}"]


def count_by_day(fates: Fates, arrival_us: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Records by arrival day (ISO date) and fate."""
    if not len(fates):
        return {}
    days = arrival_us // _DAY_US
    cells, counts = np.unique(days * len(FATES) + fates, return_counts=True)
    by_day: dict[str, dict[str, int]] = {}
    for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
        day, code = divmod(cell, len(FATES))
        by_day.setdefault(str(np.datetime64(day, "D")), {})[FATES[code]] = count
    return by_day


def add_counts(
    total: Mapping[str, Mapping[str, int]], more: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """The sum of two counts by day and fate."""
    summed = {day: dict(fates) for day, fates in total.items()}
    for day, fates in more.items():
        into = summed.setdefault(day, {})
        for fate, count in fates.items():
            into[fate] = into.get(fate, 0) + count
    return summed


class Reconciliation(Counter[str]):
    """Counts of one flow by kind, and whether they add up."""

    KINDS = ("good", "failed", "late", "duplicate", "suppressed")

    @classmethod
    def of(cls, days: Iterable[Mapping[str, int]]) -> Reconciliation:
        result = cls(dict.fromkeys(cls.KINDS, 0))
        for fates in days:
            for fate, count in fates.items():
                result[kind_of(fate)] += count
        return result

    @property
    def accounted(self) -> int:
        return sum(self[kind] for kind in self.KINDS)


def kind_of(fate: str) -> str:
    """The term of the reconciliation line that a fate counts towards."""
    if fate in ("late", "buffered", "expired"):
        return "late"
    return fate.partition(".")[0]
