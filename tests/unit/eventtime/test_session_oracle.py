"""Sessions against gaps and islands in SQL, on logs of thousands of events."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from session_model import END_OF_TIME, UNLIMITED, Published, Record, accepted, final_sessions, play

from dataflows.eventtime.sessions import EVENT, HEARTBEAT, Sessions, SessionSettings

FINAL = Record(HEARTBEAT, END_OF_TIME, None)
RULES = replace(UNLIMITED, gap_us=1800, bound_us=30, lateness_us=3600, horizon_us=7 * 86400)

ISLANDS = """
with watermarked as (
    select *, max(time) over (order by arrival) - $bound as watermark from log
), accepted as (
    select * from watermarked where time >= watermark - $lateness
), marked as (
    select
        *,
        coalesce(time - lag(time) over (partition by name order by time) > $gap, true)::int
            as starts
    from accepted
), numbered as (
    select *, sum(starts) over (partition by name order by time rows unbounded preceding) as island
    from marked
)
select name, min(time), max(time), count(*), max(stage) from numbered group by name, island
"""


def make_log(seed: int, n: int = 4000) -> list[Record]:
    """Users come and go over two days; most events are nearly in order, some hours late."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 2 * 86400, n))
    delay = np.where(rng.random(n) < 0.1, rng.integers(0, 3 * 3600, n), rng.integers(0, 40, n))
    order: NDArray[np.int64] = np.argsort(times + delay, kind="stable")
    users = rng.integers(0, 25, n)
    stages = rng.integers(0, 8, n)
    return [
        Record(EVENT, int(times[i]), f"user {users[i]}", int(stages[i])) for i in order.tolist()
    ]


def published_by(records: list[Record], rules: SessionSettings) -> Published:
    sessions, published = Sessions(rules), Published()
    for start in range(0, len(records), 700):
        published.read(play(sessions, records[start : start + 700], start)[0])
    published.read(play(sessions, [FINAL], len(records))[0])
    return published


@pytest.mark.parametrize("seed", range(5))
def test_gaps_and_islands_in_sql_agree(seed: int) -> None:
    records = make_log(seed)
    log = pa.table(
        {
            "arrival": list(range(len(records))),
            "time": [record.time for record in records],
            "name": [record.user for record in records],
            "stage": [record.stage for record in records],
        }
    )
    with duckdb.connect() as database:
        database.register("log", log)
        islands = database.execute(
            ISLANDS,
            {"bound": RULES.bound_us, "lateness": RULES.lateness_us, "gap": RULES.gap_us},
        ).fetchall()
    live = published_by(records, RULES).live
    found = {(*key, session.ended, session.size, session.stage) for key, session in live.items()}
    assert found == set(islands)
    assert not any(session.capped for session in live.values())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("max_events", "max_duration"), [(3, 10**9), (10**6, 2500), (7, 4000)])
def test_caps_by_brute_force_agree(seed: int, max_events: int, max_duration: int) -> None:
    rules = replace(RULES, max_events=max_events, max_duration_us=max_duration)
    records = make_log(seed)
    live = published_by(records, rules).live
    assert live == final_sessions(accepted(records, rules), rules)
    assert any(session.capped for session in live.values())
