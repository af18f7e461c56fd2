"""The vectorised judge against a state machine that takes one record at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.simulator.reckoning import (
    BOUND_US,
    BUFFERED,
    DUPLICATE,
    EXPIRED,
    FAILED,
    HORIZON_US,
    LATE,
    LATENESS_US,
    ON_TIME,
    judge,
)

MINUTE_US = 60_000_000
times = st.one_of(
    st.integers(0, 300).map(lambda minutes: minutes * MINUTE_US),
    st.integers(0, 9 * 24 * 60).map(lambda minutes: minutes * MINUTE_US),
    st.sampled_from([0, BOUND_US, LATENESS_US, LATENESS_US + BOUND_US, HORIZON_US + BOUND_US]),
)
entries = st.lists(
    st.one_of(
        st.tuples(st.just("record"), times, st.integers(0, 5), st.booleans()),
        st.tuples(st.just("again"), st.integers(0, 20), st.just(0), st.just(False)),
        st.tuples(st.just("heartbeat"), times, st.just(0), st.just(False)),
    ),
    max_size=40,
)


def one_at_a_time(stream: list[tuple[str, int, int, bool]]) -> list[int]:
    newest = -(2**62)
    accepted: dict[int, int] = {}
    fates = []
    for kind, time, identity, failed in stream:
        if kind == "heartbeat" or not failed:
            newest = max(newest, time)
        watermark = newest - BOUND_US
        if kind == "heartbeat":
            continue
        if failed:
            fates.append(FAILED)
        elif identity in accepted and accepted[identity] >= watermark - LATENESS_US:
            fates.append(DUPLICATE)
        elif time >= watermark - LATENESS_US:
            accepted[identity] = time
            fates.append(ON_TIME if time >= watermark else LATE)
        else:
            fates.append(BUFFERED if time >= watermark - HORIZON_US else EXPIRED)
    return fates


@given(entries)
@settings(deadline=None, max_examples=200)
def test_judge_equals_one_record_at_a_time(drawn: list[tuple[str, int, int, bool]]) -> None:
    stream: list[tuple[str, int, int, bool]] = []
    originals: list[tuple[str, int, int, bool]] = []
    for kind, value, _, failed in drawn:
        if kind == "again":
            if originals:
                stream.append(originals[value % len(originals)])
            continue
        entry = (kind, value, len(originals), failed)
        stream.append(entry)
        if kind == "record" and not failed:
            originals.append(entry)
    rows = [entry for entry in stream if entry[0] == "record"]
    beats: list[int] = []
    after: list[int] = []
    passed = 0
    highest = -1
    ordered = []
    for entry in stream:
        if entry[0] == "heartbeat":
            # Heartbeats of a timeline never go back.
            highest = max(highest, entry[1])
            beats.append(highest)
            after.append(passed)
            ordered.append(("heartbeat", highest, 0, False))
        else:
            passed += 1
            ordered.append(entry)

    verdicts = judge(
        np.array([row[1] for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.int64),
        np.array([row[3] for row in rows], dtype=bool),
        np.array(after, dtype=np.int64),
        np.array(beats, dtype=np.int64),
    )

    assert verdicts.fate.tolist() == one_at_a_time(ordered)


def test_the_edges_of_the_classes_belong_to_the_better_one() -> None:
    newest = 30 * 24 * 60 * MINUTE_US
    watermark = newest - BOUND_US
    ages = [0, 1, LATENESS_US, LATENESS_US + 1, HORIZON_US, HORIZON_US + 1]
    event_us = np.array([newest, *(watermark - age for age in ages)], dtype=np.int64)

    verdicts = judge(
        event_us,
        np.arange(len(event_us)),
        np.zeros(len(event_us), dtype=bool),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
    )

    assert verdicts.fate.tolist() == [ON_TIME, ON_TIME, LATE, LATE, BUFFERED, BUFFERED, EXPIRED]
