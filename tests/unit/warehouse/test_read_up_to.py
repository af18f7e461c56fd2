"""How far a build on BigQuery reads each slot: all that bronze held, nothing that came later."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.warehouse.bigquery_build import read_up_to
from services.warehouse.changes import Holdings

TABLES = ("clickstream", "sessions", "labels")
FIRST = date(2026, 3, 2)
Row = tuple[str, str, int, int, int]

rows = st.lists(
    st.tuples(
        st.sampled_from(TABLES),
        st.sampled_from(("events.a", "buffered.a")),
        st.integers(0, 11),
        st.integers(0, 3),
        st.integers(0, 30),
    )
)


def held(rows: list[Row]) -> Holdings:
    found: Holdings = {}
    for table, topic, partition, day, offset in rows:
        slots = found.setdefault((table, FIRST + timedelta(day)), {})
        slot = f"{topic}.{partition}"
        slots[slot] = max(slots.get(slot, 0), offset + 1)
    return found


@given(rows, rows)
def test_rows_that_were_there_are_read_and_those_behind_them_are_not(
    before: list[Row], later: list[Row]
) -> None:
    bounds = read_up_to(TABLES, held(before))
    assert bounds.keys() == set(TABLES)
    last = {row[:3]: max(r[4] for r in before if r[:3] == row[:3]) for row in before}
    for table, topic, partition, _, offset in [*before, *later]:
        read = any(
            (topic, partition) == (at, number) and offset < end for at, number, end in bounds[table]
        )
        assert read == (offset <= last.get((table, topic, partition), -1))
