"""State is bounded by what can still change, however long the log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from session_model import UNLIMITED

from dataflows.eventtime.sessions import EVENT, Sessions, SessionSettings

RULES = replace(UNLIMITED, gap_us=1000, bound_us=30, lateness_us=2000, horizon_us=10_000)


def play_users(sessions: Sessions, users: list[str | None], times: list[int]) -> int:
    """Play events; return how many rows came."""
    n = len(users)
    kinds = np.full(n, EVENT, np.uint8)
    return len(sessions.process(np.array(times), users, np.zeros(n, np.uint8), kinds))


def footprints(sessions: Sessions) -> tuple[int, int]:
    return sessions.nbytes, len(sessions.snapshot())


def test_users_who_pass_by_leave_nothing_behind() -> None:
    sessions = Sessions(RULES)
    rng = np.random.default_rng(1)
    sizes = []
    for visit in range(60):
        users: list[str | None] = [f"visitor {visit} {i % 400}" for i in range(1000)]
        times = visit * 1000 + rng.integers(0, 1000, 1000)
        play_users(sessions, users, times.tolist())
        sizes.append((len(sessions), *footprints(sessions)))
    settled = max(sizes[10:20])
    assert max(sizes[20:]) <= tuple(1.1 * size for size in settled)
    assert settled[0] <= 5 * 400


def bot_sizes(rules: SessionSettings, late: int) -> list[tuple[int, int]]:
    """Footprints while a bot sends an event a tick, and every 50th time one `late` ticks old."""
    sessions = Sessions(rules)
    sizes = []
    for start in range(0, 60_000, 1000):
        times = list(range(start, start + 1000))
        times[::50] = [max(time - late, 0) for time in times[::50]]
        play_users(sessions, ["bot"] * 1000, times)
        sizes.append(footprints(sessions))
    return sizes


def test_an_endless_session_is_freed_piece_by_piece() -> None:
    for rules in (replace(RULES, max_events=100), replace(RULES, max_duration_us=100)):
        for late in (0, 25, 1500):
            sizes = bot_sizes(rules, late)
            assert max(sizes[20:]) <= tuple(1.1 * size for size in max(sizes[10:20]))


def test_a_session_revised_over_and_over_is_bounded() -> None:
    sessions = Sessions(RULES)
    sizes = []
    for start in range(0, 100_000, 10_000):
        play_users(sessions, ["ann", "bob"], [start, start + 1500])
        before = len(sessions.snapshot())
        assert play_users(sessions, ["ann"] * 5000, [start + 1] * 5000) == 5000
        assert len(sessions.snapshot()) - before <= 5000 * 20
        sizes.append(footprints(sessions))
    assert max(sizes[1:]) <= tuple(1.01 * size for size in sizes[1])


def test_rejected_users_leave_nothing_behind() -> None:
    sessions = Sessions(RULES)
    play_users(sessions, ["ann"], [100_000])
    before = footprints(sessions)
    for batch in range(20):
        users: list[str | None] = [f"latecomer {batch} {i}" for i in range(500)]
        assert play_users(sessions, users, [0] * 500) == 0
        assert len(sessions) == 1
    assert len(sessions.snapshot()) == before[1]
    assert sessions.nbytes <= before[0] + 1000 * 100
