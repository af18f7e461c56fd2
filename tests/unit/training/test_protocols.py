"""Folds: nothing is trained on that was not known when the test began."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dataflows.features.engine import NEVER
from services.training.errors import TrainingError
from services.training.protocol import DAY_US, HANDBOOK, general, split

DAYS, A_DAY = 50, 40


def events(
    share: float = 0.1, delay: int = 7
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(1)
    times = 20_000 * DAY_US + np.sort(rng.integers(0, DAYS * DAY_US, DAYS * A_DAY))
    known = np.where(rng.random(len(times)) < share, times + delay * DAY_US, NEVER)
    return times, known, rng.integers(0, 100, len(times))


@pytest.mark.parametrize("protocol", [HANDBOOK, general(7), general(3)])
def test_a_test_comes_after_what_was_trained_on_and_known(protocol) -> None:  # type: ignore[no-untyped-def]
    times, known, cards = events()
    folds = split(protocol, times, known, cards)
    assert len(folds) == protocol.folds
    for fold in folds:
        begins = times[fold.test].min() // DAY_US * DAY_US
        assert times[fold.train].max() < begins - (protocol.delay_days - 1) * DAY_US
        assert (known[fold.train][fold.known] <= begins).all()
        late = (known[fold.train] != NEVER) & (known[fold.train] > begins)
        assert not fold.known[late].any()
    assert times[folds[-1].test].max() == times.max()
    assert len({int(row) for fold in folds for row in fold.test}) == sum(
        len(fold.test) for fold in folds
    )


def test_labels_that_come_late_teach_nothing() -> None:
    times, known, cards = events(delay=9)
    (fold,) = split(replace(HANDBOOK, folds=1), times, known, cards)
    positive = known[fold.train] != NEVER
    assert 0 < fold.known.sum() < positive.sum()


def test_the_handbook_does_not_judge_cards_that_are_known_to_be_compromised() -> None:
    """As the book's get_train_test_set does it, day by day."""
    times, known, cards = events(share=0.02)
    (fold,) = split(replace(HANDBOOK, folds=1), times, known, cards)
    day = times // DAY_US - times.min() // DAY_US
    fraud = known != NEVER
    start = DAYS - 21
    compromised = set(cards[fraud & (day >= start) & (day < start + 7)].tolist())
    wanted: list[int] = []
    for k in range(7):
        compromised |= set(cards[fraud & (day == start + 7 + k - 1)].tolist())
        today = np.flatnonzero(day == start + 14 + k)
        wanted += [row for row in today.tolist() if cards[row] not in compromised]
    assert fold.test.tolist() == wanted
    assert len(wanted) < 7 * A_DAY


@pytest.mark.parametrize(
    ("share", "days", "message"),
    [
        (0.0, DAYS, "training days 2024-.*: there is no positive event among"),
        (1.0, DAYS, "training days 2024-.*: there is no negative event among"),
        (0.1, 15, "the events span 15 days, the protocol handbook needs 21"),
    ],
)
def test_data_that_does_not_do_is_refused(share: float, days: int, message: str) -> None:
    times, known, cards = events(share)
    some = times < times.min() // DAY_US * DAY_US + days * DAY_US
    with pytest.raises(TrainingError, match=message):
        split(HANDBOOK, times[some], known[some], cards[some])


def test_a_test_without_frauds_is_refused() -> None:
    times, known, cards = events()
    quiet = np.where(times > times.max() - 7 * DAY_US, NEVER, known)
    with pytest.raises(TrainingError, match=r"test days .*: there is no positive event"):
        split(general(7), times, quiet, cards)
