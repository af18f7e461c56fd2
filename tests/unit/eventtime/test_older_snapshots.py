"""Snapshots that version 1 wrote are gone on from, with the right results.

The files were made once, by the code of that version, in the middle of the logs made here.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from session_model import UNLIMITED, Record, play

from dataflows.eventtime.dedup import Deduplicator
from dataflows.eventtime.sessions import EVENT, HEARTBEAT, Sessions

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "state_v1"
MIDDLE = 1_500


def session_log() -> list[Record]:
    """Thirty users whose sessions merge, are revised and retracted."""
    rng, front, records = random.Random(7), 0, []
    for _ in range(3_000):
        front += rng.randrange(3)
        if rng.random() < 0.02:
            records.append(Record(HEARTBEAT, front, None))
        else:
            user, time = f"user {rng.randrange(30)}", front - rng.randrange(45)
            records.append(Record(EVENT, time, user, rng.randrange(8)))
    return records


def dedup_log() -> tuple[list[str], list[int]]:
    """Ids that come again, now and then after they were forgotten; their times."""
    rng = random.Random(7)
    return [f"id {rng.randrange(900)}" for _ in range(3_000)], list(range(3_000))


def test_sessions_go_on_from_version_1() -> None:
    records = session_log()
    expected = [row for row in play(Sessions(UNLIMITED), records)[0] if row.record >= MIDDLE]
    sessions = Sessions.restore(UNLIMITED, [(FIXTURES / "sessions.bin").read_bytes()])
    found, _ = play(sessions, records[MIDDLE:], MIDDLE)
    assert any(row.is_retraction for row in found)
    assert found == expected


def test_the_deduplicator_goes_on_from_version_1() -> None:
    ids, times = dedup_log()
    at = np.array(times, np.int64)
    expected = Deduplicator(400, 200).seen(ids, at, at)[MIDDLE:]
    restored = Deduplicator.restore(400, 200, [(FIXTURES / "dedup.bin").read_bytes()])
    assert restored.evicted > 0
    found = restored.seen(ids[MIDDLE:], at[MIDDLE:], at[MIDDLE:])
    assert found.tolist() == expected.tolist()
    assert found.any()
    assert not found.all()
