from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataflows.runtime import fates
from dataflows.runtime.fates import FATES, Reconciliation, add_counts, count_by_day

records = st.lists(
    st.tuples(st.integers(0, len(FATES) - 1), st.integers(0, 4 * 86_400_000_000)), max_size=200
)


def counted(rows: list[tuple[int, int]]) -> dict[str, dict[str, int]]:
    codes = np.array([code for code, _ in rows], np.uint8)
    return count_by_day(codes, np.array([at for _, at in rows], np.int64))


@given(records)
def test_counts_by_day_and_fate_agree_with_counting_one_by_one(rows: list[tuple[int, int]]) -> None:
    oracle = Counter(
        (datetime.fromtimestamp(at / 1e6, UTC).date().isoformat(), FATES[code]) for code, at in rows
    )
    flat = {(day, fate): n for day, cell in counted(rows).items() for fate, n in cell.items()}
    assert flat == dict(oracle)


@given(records, records)
def test_counts_add_up_however_the_records_are_cut(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    assert add_counts(counted(first), counted(second)) == counted(first + second)


@given(records)
def test_every_record_but_a_heartbeat_is_accounted_for(rows: list[tuple[int, int]]) -> None:
    totals = Reconciliation.of(counted(rows).values())
    assert totals.accounted == sum(code != fates.HEARTBEAT for code, _ in rows)
