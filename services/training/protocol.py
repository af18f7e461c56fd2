"""Which events a model is trained on and judged by: always later ones, with labels known by then.

A fold is train, delay, test, one after the other in whole days: a label takes some days to become
known, so the days before the test cannot teach. Folds go back from the end of the data, each a test
period earlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from dataflows.features.catalogue import DAY_US
from dataflows.features.engine import NEVER
from services.training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Protocol:
    """`train_days` None trains on all that came before. `remove_known`: a card of which fraud is
    known when a test day begins is not judged on that day, as it would be blocked."""

    name: str
    train_days: int | None
    delay_days: int
    test_days: int
    folds: int
    remove_known: bool


HANDBOOK = Protocol("handbook", 7, 7, 7, 4, remove_known=True)
"""Of the Fraud Detection Handbook, chapter 5: a week to train, a week's delay, a week to test."""


def general(delay_days: int) -> Protocol:
    """All of the past to train, a week to test."""
    return Protocol("time", None, delay_days, 7, 3, remove_known=False)


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows to train on and to test on; `starts` are days since the first one."""

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    known: NDArray[np.bool_]
    """[train] what was known of them when the test began."""


def days_of(times_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Days since that of the first event, UTC."""
    days = times_us // DAY_US
    return days - days.min()


def split(
    protocol: Protocol,
    times_us: NDArray[np.int64],
    known_us: NDArray[np.int64],
    cards: NDArray[np.int64],
) -> list[Fold]:
    """The folds, oldest first; `cards` are numbers of who pays, -1 for nobody.

    Raises TrainingError if the data is too short for them, or a fold lacks a class.
    """
    days = days_of(times_us)
    last = int(days.max()) + 1
    needs = (protocol.train_days or 1) + protocol.delay_days + protocol.test_days
    if last < needs:
        raise TrainingError(
            f"the events span {last} days, the protocol {protocol.name} needs {needs} "
            "(train, delay, test): bring more, or shorten it with --train-days, --delay-days, "
            "--test-days"
        )
    most = (last - needs) // protocol.test_days + 1
    count = min(protocol.folds, most)
    return [
        _fold(protocol, last - (k + 1) * protocol.test_days, days, times_us, known_us, cards)
        for k in reversed(range(count))
    ]


def latest(
    protocol: Protocol, times_us: NDArray[np.int64], known_us: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows to train the served model on, as if the test began after the last day, and what is known
    of them."""
    days = days_of(times_us)
    return _train(protocol, int(days.max()) + 1, days, times_us, known_us)


def _train(
    protocol: Protocol,
    test_day: int,
    days: NDArray[np.int64],
    times_us: NDArray[np.int64],
    known_us: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    end = test_day - protocol.delay_days
    begin = 0 if protocol.train_days is None else end - protocol.train_days
    rows = np.flatnonzero((days >= begin) & (days < end))
    now_us = _midnight(times_us, test_day)
    known = (known_us[rows] != NEVER) & (known_us[rows] <= now_us)
    _need_both(known, f"training days {_dates(times_us, begin, end)}")
    return rows, known


def _fold(
    protocol: Protocol,
    test_day: int,
    days: NDArray[np.int64],
    times_us: NDArray[np.int64],
    known_us: NDArray[np.int64],
    cards: NDArray[np.int64],
) -> Fold:
    train, known = _train(protocol, test_day, days, times_us, known_us)
    end = test_day + protocol.test_days
    test = np.flatnonzero((days >= test_day) & (days < end))
    if protocol.remove_known:
        first = days[train[0]]
        blocked_us = _blocked(known_us, cards, days >= first)
        begins_us = _midnight(times_us, 0) + days[test] * DAY_US
        test = test[(cards[test] < 0) | (blocked_us[cards[test]] > begins_us)]
    name = _dates(times_us, test_day, end)
    _need_both(known_us[test] != NEVER, f"test days {name}")
    return Fold(name, train, test, known)


def _blocked(
    known_us: NDArray[np.int64], cards: NDArray[np.int64], counts: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """By card, when the first fraud of it, from the training days on, becomes known."""
    blocked = np.full(int(cards.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    rows = counts & (known_us != NEVER) & (cards >= 0)
    np.minimum.at(blocked, cards[rows], known_us[rows])
    return blocked


def _midnight(times_us: NDArray[np.int64], day: int) -> int:
    return int((times_us.min() // DAY_US + day) * DAY_US)


def _dates(times_us: NDArray[np.int64], begin: int, end: int) -> str:
    first, last = (
        datetime.fromtimestamp(_midnight(times_us, day) / 1e6, UTC).date()
        for day in (max(begin, 0), end - 1)
    )
    return f"{first}..{last}"


def _need_both(positive: NDArray[np.bool_], which: str) -> None:
    if not len(positive):
        raise TrainingError(f"{which}: there is no event: bring more, or other days")
    if positive.all() or not positive.any():
        lacking = "negative" if positive.any() else "positive"
        raise TrainingError(
            f"{which}: there is no {lacking} event among {len(positive):,}, and both kinds are "
            "needed: bring more days, use fewer --folds, or look at the label column"
        )
