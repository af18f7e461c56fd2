"""How far values have moved, beside the definition computed plainly."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataflows.detection.profile import CHANGED, MUCH_CHANGED, profile, shift

NUMBERS = st.lists(
    st.one_of(st.floats(-1e6, 1e6, width=32), st.just(math.nan), st.sampled_from([0.0, 1.0])),
    min_size=1,
    max_size=60,
)


@given(NUMBERS, NUMBERS)
def test_it_is_the_index_of_the_shares_between_the_edges(
    before: list[float], after: list[float]
) -> None:
    then = profile(np.array(before))
    assert list(then.edges) == sorted(set(then.edges))

    def shares(values: list[float]) -> list[float]:
        counts = [0] * (len(then.edges) + 2)
        for value in values:
            counts[-1 if math.isnan(value) else bisect_left(then.edges, value)] += 1
        return [count / len(values) for count in counts]

    assert list(then.shares) == shares(before)
    expected = 0.0
    for p, q in zip(shares(before), shares(after), strict=True):
        p, q = max(p, 1e-4), max(q, 1e-4)
        expected += (q - p) * math.log(q / p)
    found = shift(then, np.array(after))
    assert math.isclose(found.index, expected, rel_tol=1e-9, abs_tol=1e-12)
    assert found.missing_now == sum(map(math.isnan, after)) / len(after)


def test_the_same_draw_has_not_moved_and_another_has() -> None:
    rng = np.random.default_rng(3)
    then = profile(rng.exponential(50, 5_000))
    assert len(then.edges) == 9
    assert shift(then, rng.exponential(50, 5_000)).index < 0.02
    assert CHANGED < shift(then, rng.exponential(80, 5_000)).index < MUCH_CHANGED
    assert shift(then, rng.exponential(120, 5_000)).index > MUCH_CHANGED
    gone = rng.exponential(50, 5_000)
    gone[:2_000] = np.nan
    assert shift(then, gone).index > MUCH_CHANGED
