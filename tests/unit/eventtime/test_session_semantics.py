"""What sessions are, record by record, against definitions by brute force."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_model import (
    END_OF_TIME,
    UNLIMITED,
    Accepted,
    Published,
    Record,
    Row,
    accepted,
    final_sessions,
    log_strategy,
    play,
    play_in_batches,
    shuffled,
)

from dataflows.eventtime import sessions as sessions_module
from dataflows.eventtime.lateness import NOT_AN_EVENT, Lateness
from dataflows.eventtime.sessions import (
    EVENT,
    HEARTBEAT,
    SKIP,
    Sessions,
    SessionSettings,
    session_id,
)
from dataflows.eventtime.snapshots import SnapshotError

FINAL = Record(HEARTBEAT, END_OF_TIME, None)


def events(*times: int, user: str = "ann") -> list[Record]:
    return [Record(EVENT, time, user) for time in times]


def heartbeat(time: int) -> Record:
    return Record(HEARTBEAT, time, None)


def rows_of(records: list[Record], rules: SessionSettings = UNLIMITED) -> list[Row]:
    return play(Sessions(rules), records)[0]


@given(log_strategy())
@settings(deadline=None, max_examples=200)
def test_after_each_record_every_closed_session_is_published_as_defined(
    log: tuple[SessionSettings, list[Record]],
) -> None:
    rules, records = log
    sessions, published, clock = Sessions(rules), Published(), Accepted(rules)
    known: list[Record] = []
    for number, record in enumerate(records):
        rows, classes = play(sessions, [record], number)
        published.read(rows)
        assert classes == [clock.take(record)]
        assert sessions.watermark_us == clock.watermark
        if classes[0] <= Lateness.LATE:
            known.append(record)
        defined = final_sessions(known, rules)
        closed = {
            key: session
            for key, session in defined.items()
            if session.ended + rules.gap_us < clock.watermark
        }
        assert closed.items() <= published.live.items()
        for user, started in published.live.keys() - closed.keys():
            assert any(
                owner == user and start <= started <= session.ended
                for (owner, start), session in defined.items() - closed.items()
            ), "only a session that was reopened may be out of date"


@given(log_strategy(), st.integers(0, 10**6))
@settings(deadline=None, max_examples=150)
def test_any_arrival_order_gives_the_same_final_sessions(
    log: tuple[SessionSettings, list[Record]], seed: int
) -> None:
    rules, records = log
    times = [record.time for record in records]
    patient = replace(
        rules,
        lateness_us=max(times) - min(times),
        horizon_us=max(times) - min(times) + rules.horizon_us,
    )
    published = Published()
    published.read(rows_of([*shuffled(records, seed), FINAL], patient))
    arrived = [record for record in records if record.kind == EVENT]
    assert published.live == final_sessions(arrived, patient)


@given(log_strategy())
@settings(deadline=None, max_examples=150)
def test_final_sessions_are_those_of_the_accepted_events(
    log: tuple[SessionSettings, list[Record]],
) -> None:
    rules, records = log
    sessions, published = Sessions(rules), Published()
    published.read(play(sessions, [*records, FINAL])[0])
    assert published.live == final_sessions(accepted(records, rules), rules)
    assert len(sessions) == 0


@given(log_strategy(), st.lists(st.integers(0, 60), max_size=6), st.booleans())
@settings(deadline=None, max_examples=200)
def test_batch_cuts_and_restarts_change_nothing(
    log: tuple[SessionSettings, list[Record]], cuts: list[int], restart: bool
) -> None:
    rules, records = log
    records = [*records, FINAL]
    assert play_in_batches(rules, records, cuts, restart) == rows_of(records, rules)


@given(log_strategy())
@settings(deadline=None, max_examples=50)
def test_arrays_that_grow_at_every_step_change_nothing(
    log: tuple[SessionSettings, list[Record]],
) -> None:
    rules, records = log
    records = [*records, FINAL]
    with mock.patch.object(sessions_module, "_FIRST_SIZE", 1):
        grown = rows_of(records, rules)
    assert grown == rows_of(records, rules)


def test_two_events_exactly_one_gap_apart_belong_together() -> None:
    assert rows_of([*events(0, 10, 21), FINAL]) == [
        Row(3, "ann", 0, 10, 2, 0, 1, False, -1),
        Row(3, "ann", 21, 21, 1, 0, 1, False, -1),
    ]


def test_a_heartbeat_closes_a_session_when_the_watermark_passes_its_gap() -> None:
    still_open = heartbeat(10 + UNLIMITED.gap_us + UNLIMITED.bound_us)
    assert rows_of([*events(10), still_open]) == []
    closing = heartbeat(still_open.time + 1)
    assert rows_of([*events(10), still_open, closing]) == [
        Row(2, "ann", 10, 10, 1, 0, 1, False, -1)
    ]


def test_another_users_event_closes_a_session_too() -> None:
    rows = rows_of([*events(10), *events(26, user="bob")])
    assert rows == [Row(1, "ann", 10, 10, 1, 0, 1, False, -1)]


def test_a_late_event_within_a_closed_session_revises_it_at_once() -> None:
    rows = rows_of([*events(10, 14), heartbeat(40), *events(12)])
    assert rows == [
        Row(2, "ann", 10, 14, 2, 0, 1, False, -1),
        Row(3, "ann", 10, 14, 3, 0, 2, False, -1),
    ]


def test_a_late_event_that_reopens_a_session_revises_it_when_it_closes() -> None:
    rows = rows_of([*events(10), heartbeat(26), *events(20), heartbeat(35), heartbeat(36)])
    assert rows == [
        Row(1, "ann", 10, 10, 1, 0, 1, False, -1),
        Row(4, "ann", 10, 20, 2, 0, 2, False, -1),
    ]


def test_an_earlier_start_retracts_the_old_id() -> None:
    rows = rows_of([*events(20), heartbeat(40), *events(15)])
    assert rows == [
        Row(1, "ann", 20, 20, 1, 0, 1, False, -1),
        Row(2, "ann", 15, 20, 2, 0, 1, False, -1),
        Row(2, "ann", 20, 20, 0, 0, 2, False, 15),
    ]


def test_a_merged_away_session_is_retracted_when_the_merged_one_is_emitted() -> None:
    rows = rows_of([*events(10, 30), heartbeat(46), *events(20)])
    assert rows == [
        Row(1, "ann", 10, 10, 1, 0, 1, False, -1),
        Row(2, "ann", 30, 30, 1, 0, 1, False, -1),
        Row(3, "ann", 10, 30, 3, 0, 2, False, -1),
        Row(3, "ann", 30, 30, 0, 0, 2, False, 10),
    ]


def test_a_retraction_waits_for_its_successor_to_close() -> None:
    rows = rows_of([*events(30, 46, 38, 25), heartbeat(61), heartbeat(62)])
    assert rows == [
        Row(1, "ann", 30, 30, 1, 0, 1, False, -1),
        Row(5, "ann", 25, 46, 4, 0, 1, False, -1),
        Row(5, "ann", 30, 30, 0, 0, 2, False, 25),
    ]


def test_an_id_that_comes_back_goes_on_with_its_revisions() -> None:
    rules = replace(UNLIMITED, max_events=2)
    rows = rows_of([*events(10, 11, 12), heartbeat(40), *events(9, 8)], rules)
    assert [(row.started, row.size, row.revision) for row in rows if row.started == 12] == [
        (12, 1, 1),
        (12, 0, 2),
        (12, 1, 3),
    ]


def test_a_bridge_flags_the_published_session_beyond_it() -> None:
    rules = replace(UNLIMITED, max_events=2)
    assert rows_of([*events(10, 22, 23), heartbeat(60), *events(15)], rules)[2:] == [
        Row(4, "ann", 10, 15, 2, 0, 2, True, -1),
        Row(4, "ann", 22, 23, 2, 0, 2, True, -1),
    ]


def test_a_piece_may_start_where_a_session_was_retracted_at_the_same_instant() -> None:
    rules = replace(UNLIMITED, max_events=2)
    rows = rows_of([*events(25), heartbeat(60), *events(24, 25)], rules)
    assert [(row.started, row.size, row.revision) for row in rows] == [
        (25, 1, 1),
        (24, 2, 1),
        (25, 0, 2),
        (25, 1, 3),
        (24, 2, 2),
    ]


def test_a_successor_that_looks_the_same_is_published_with_the_retraction() -> None:
    rules = replace(UNLIMITED, max_events=3)
    before = [*events(10, 10, 10, 11, 11, 12, 12, 15), heartbeat(50), *events(10)]
    rows = [row for row in rows_of([*before, *events(9)], rules) if row.record == len(before)]
    assert [row for row in rows if row.started in (11, 12)] == [
        Row(10, "ann", 11, 12, 3, 0, 2, True, -1),
        Row(10, "ann", 12, 12, 0, 0, 2, False, 11),
    ]


def test_caps_cut_a_chain_and_flag_every_piece() -> None:
    rules = replace(UNLIMITED, max_events=2)
    assert [(*row[2:5], row.capped) for row in rows_of([*events(1, 2, 3), FINAL], rules)] == [
        (1, 2, 2, True),
        (3, 3, 1, True),
    ]
    rules = replace(UNLIMITED, max_duration_us=5)
    assert [(*row[2:5], row.capped) for row in rows_of([*events(1, 6, 7), FINAL], rules)] == [
        (1, 6, 2, True),
        (7, 7, 1, True),
    ]


def test_events_of_one_instant_are_never_cut_off_from_the_start() -> None:
    rules = replace(UNLIMITED, max_events=2)
    rows = rows_of([*events(5, 5, 5, 6), FINAL], rules)
    assert [row[2:5] for row in rows] == [(5, 5, 3), (6, 6, 1)]


def test_the_stage_is_the_highest_reached() -> None:
    records = [Record(EVENT, 1, "ann", 2), Record(EVENT, 2, "ann", 7), Record(EVENT, 3, "ann", 4)]
    assert [row.stage for row in rows_of([*records, FINAL])] == [7]


def test_events_beyond_lateness_are_classed_and_not_applied() -> None:
    sessions = Sessions(UNLIMITED)
    times = (1000, 995, 994, 955, 954, 915, 914)
    rows, classes = play(sessions, [*events(*times), FINAL, Record(SKIP, 0, "bob")])
    assert classes == [
        Lateness.ON_TIME,
        Lateness.ON_TIME,
        Lateness.LATE,
        Lateness.LATE,
        Lateness.BUFFERED,
        Lateness.BUFFERED,
        Lateness.EXPIRED,
        NOT_AN_EVENT,
        NOT_AN_EVENT,
    ]
    assert sum(row.size for row in rows) == 4
    assert len(sessions) == 0


def test_a_final_heartbeat_closes_everything_for_good() -> None:
    sessions = Sessions(UNLIMITED)
    play(sessions, [*events(10**15), FINAL])
    assert sessions.watermark_us == END_OF_TIME - UNLIMITED.bound_us
    assert play(sessions, events(10**15 + 1)) == ([], [Lateness.EXPIRED])


def test_heartbeats_out_of_range_are_harmless() -> None:
    rows = rows_of([heartbeat(-(2**63)), *events(5), heartbeat(2**63 - 1)])
    assert rows == [Row(2, "ann", 5, 5, 1, 0, 1, False, -1)]


def test_users_may_have_any_name() -> None:
    names = ["", " ", "ann", "Ann", "ä", "日本", "x" * 5000, "😀", "a\0", "a"]
    records = [Record(EVENT, 1, name) for name in names]
    assert sorted(row.user for row in rows_of([*records, FINAL])) == sorted(names)


def test_a_wide_batch_of_users_is_emitted_at_once() -> None:
    records = [Record(EVENT, i % 7, f"user {i}") for i in range(5000)]
    rows = rows_of([*records, FINAL])
    assert {row.user for row in rows} == {record.user for record in records}


def test_a_session_id_names_user_and_start() -> None:
    assert session_id("ann", 5) == session_id("ann", 5)
    assert len({session_id(user, start) for user in ("ann", "bob") for start in (5, 6)}) == 4
    assert session_id("ann", -1) == "b1d15ddb5e3aeda5f13985e91feca8f2"


@pytest.mark.parametrize(
    "record",
    [
        Record(EVENT, 0, None),
        Record(EVENT, 0, "ann", 8),
        Record(EVENT, 2**60, "ann"),
        Record(EVENT, -(2**60), "ann"),
    ],
)
def test_an_impossible_event_is_refused_before_anything_is_taken_in(record: Record) -> None:
    sessions = Sessions(UNLIMITED)
    before = sessions.snapshot()
    with pytest.raises(ValueError, match="record 1 needs"):
        play(sessions, [*events(5), record])
    assert sessions.snapshot() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"gap_us": -1},
        {"bound_us": 2**60},
        {"max_events": 0},
        {"lateness_us": 100, "horizon_us": 99},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(UNLIMITED, **wrong)


def test_a_snapshot_of_other_settings_or_versions_is_refused() -> None:
    snapshot = Sessions(UNLIMITED).snapshot()
    with pytest.raises(SnapshotError, match="gap_us was 10, is 11"):
        Sessions.restore(replace(UNLIMITED, gap_us=11), [snapshot])
    version = snapshot.index(b"\x94\x02") + 1
    other = snapshot[:version] + b"\x03" + snapshot[version + 1 :]
    with pytest.raises(SnapshotError, match="version 3, this code reads up to 2"):
        Sessions.restore(UNLIMITED, [other])


def test_a_damaged_snapshot_is_refused() -> None:
    sessions = Sessions(UNLIMITED)
    play(sessions, events(1, 2, 3))
    snapshot = sessions.snapshot()
    for damaged in (b"", snapshot[:7], snapshot[:30], snapshot[:-1], snapshot + b"x", b"\xff" * 99):
        with pytest.raises(SnapshotError, match="damaged"):
            Sessions.restore(UNLIMITED, [damaged])


def test_session_vectors_of_another_engine(shared_data: Path) -> None:
    """Cases of Apache Beam's own tests; there, an event exactly one gap later does not join."""
    cases = [
        json.loads(line) for line in (shared_data / "session_vectors.jsonl").open(encoding="utf-8")
    ]
    assert cases
    for case in cases:
        rules = replace(UNLIMITED, gap_us=case["gap"], bound_us=1000, lateness_us=0)
        arrived = [Record(EVENT, step["ev"][1], step["ev"][0]) for step in case["steps"]]
        found = sorted(
            (row.user, row.started, row.ended, row.size)
            for row in rows_of([*arrived, FINAL], rules)
        )
        expected = sorted(
            (row["key"], row["first"], row["last"], row["count"]) for row in case["emitted"]
        )
        if case["id"] == "beam_testSimple":
            expected = [("k", 0, 10, 2), ("k", 101, 101, 1)]
        assert found == expected, case["id"]


def test_columns_have_the_promised_types() -> None:
    rows = Sessions(UNLIMITED).process(
        np.array([1, END_OF_TIME]),
        ["ann", None],
        np.zeros(2, np.uint8),
        np.array([EVENT, HEARTBEAT], np.uint8),
    )
    assert len(rows) == 1
    assert rows.watermark_us == END_OF_TIME - UNLIMITED.bound_us
    for column in (rows.row, rows.started_us, rows.ended_us, rows.event_count, rows.revision):
        assert column.dtype == np.int64
    assert rows.superseded_by_started_us.dtype == np.int64
    assert (rows.stage.dtype, rows.lateness.dtype) == (np.uint8, np.uint8)
    assert rows.capped.dtype == np.bool_
