"""Behaviour of sessions: whatever the batches, restarts and late events, the last word is that of
the sessions that are left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sessions_to_judge import judge

from dataflows.connectors.records import END_OF_TIME_US, Headers, Records, heartbeat_headers
from dataflows.contracts.timestamps import format_timestamps, parse_timestamps
from dataflows.detection.behaviours import CATALOGUE, Behaviours
from dataflows.detection.models import ModelError
from dataflows.detection.rules import parse_rules
from dataflows.detection.session_model import NAME, SessionModel
from dataflows.errors import TidegateError
from dataflows.eventtime.funnel import FUNNEL
from dataflows.flows.ended_sessions import SessionWatch, decode_sessions
from dataflows.flows.in_force import AppliedAt, AppliedModels, AppliedRules
from dataflows.flows.sessionize import SessionState, decode
from dataflows.flows.topology import SESSIONS
from dataflows.runtime.config import load_config
from dataflows.runtime.handover import CONTROL_HEADER

MINUTE_US = 60_000_000
START_US = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z
SHORT = load_config(
    None,
    {},
    {
        "event_time.bound": "1m",
        "event_time.gap": "10m",
        "event_time.lateness": "30m",
        "event_time.max_duration": "1h",
        "event_time.max_events": 5,
    },
).event_time
HEAD = "description: d\nowner: o\nstate: live\nweight: 0.5\n"
FILES = {
    "clicking": HEAD + "id: clicking\nwhen: session_events >= 3\n"
    "reason: '{session_events} events, {session_seconds_per_event} s apart'\n",
    "unlike": HEAD + "id: unlike\nwhen: session_score >= session_threshold\nseverity: high\n"
    "reason: '{session_score} by {session_model}: {session_why}'\n",
}
BEHAVIOURS = Behaviours(parse_rules(FILES, "behaviours", CATALOGUE))
APPLIED = AppliedModels(number=1, champion="v1", challengers=(), applied_at="", by="me", name=NAME)
TYPES = ("page_view", "product_view", "add_to_cart", "checkout_start", "purchase")

Document = dict[str, Any]


@cache
def champion() -> SessionModel:
    return judge(share=0.4)  # so that short sessions are unusual, too


def open_model(version: str) -> SessionModel:
    if version != "v1":
        raise ModelError(f"there is no {version}")
    return champion()


@st.composite
def _visits(draw: st.DrawFn) -> Document:
    return {
        "step_us": draw(st.sampled_from([0, 1, MINUTE_US, 9 * MINUTE_US, 20 * MINUTE_US])),
        "behind_us": draw(
            st.sampled_from([0, 0, 0, MINUTE_US, 9 * MINUTE_US, 25 * MINUTE_US, 40 * MINUTE_US])
        ),
        "user": draw(st.sampled_from(["ada", "bob"])),
        "type": draw(st.sampled_from(TYPES)),
    }


def records(topic: str, values: Sequence[bytes | None], headers: list[Headers] | None) -> Records:
    at = np.arange(len(values))
    return Records(topic, 0, at, at, [None] * len(values), list(values), headers)


def sessions(visits: Sequence[Document]) -> list[Document]:
    """The revisions that the real flow makes of visits, in order, up to the end of time."""
    values: list[bytes | None] = []
    newest_us = START_US
    for visit in visits:
        newest_us += visit["step_us"]
        (at,) = format_timestamps(np.array([newest_us - visit["behind_us"]]))
        said = {"event_timestamp": at, "user_id": visit["user"], "event_type": visit["type"]}
        values.append(json.dumps(said).encode())
    headers: list[Headers] = [*[() for _ in values], heartbeat_headers(END_OF_TIME_US)]
    whole = records("events.clickstream", [*values, None], headers)
    made = SessionState(SHORT, []).process(decode(whole)).outputs[0]
    return [json.loads(value or b"") for value in made.values]


def control(applied: Any) -> Headers:
    return (*heartbeat_headers(0), (CONTROL_HEADER, msgspec.json.encode(applied)))


def watch(saved: bytes | None, earlier: Sequence[AppliedAt] = ()) -> SessionWatch:
    return SessionWatch(SHORT, BEHAVIOURS, open_model, earlier, saved)


def watched(
    revisions: Sequence[Document], cuts: Sequence[int] = (), is_restarted: bool = False
) -> list[tuple[int, Document]]:
    """What is told, with its cause, the model being in force from the first session on."""
    values = [json.dumps(revision).encode() for revision in revisions]
    whole = records(SESSIONS, [None, *values], [control(APPLIED), *[()] * len(values)])
    edges = sorted({0, 1, len(whole), *(1 + cut % len(whole) for cut in cuts)})
    state, told = watch(None), []
    for begin, end in pairwise(edge for edge in edges if edge <= len(whole)):
        if is_restarted and begin:
            state = watch(state.snapshot())
        output = state.process(decode_sessions(whole.slice(begin, end))).outputs[0]
        causes = output.causes.tolist()
        told += [
            (cause, json.loads(value or b""))
            for cause, value in zip(causes, output.values, strict=True)
        ]
    return told


def last_by(key: str, documents: Sequence[Document]) -> dict[str, Document]:
    return {document[key]: document for document in documents}


def by_hand(session: Document) -> list[tuple[str, str]]:
    """The behaviours that fire on a session, and what they say of it."""
    (started_us, ended_us) = parse_timestamps([session["started_at"], session["ended_at"]])[0]
    events, seconds = session["event_count"], (ended_us - started_us) / 1e6
    pace = seconds / (events - 1) if events > 1 else None
    told = []
    if events >= 3:
        told.append(("clicking", f"{events} events, {pace:,.1f} s apart"))
    row = [events, seconds, np.nan if pace is None else pace]
    row += [int(session["started_at"][11:13]), FUNNEL.index(session["funnel_stage"])]
    rows = np.array([row], np.float64)
    score = round(champion().model.score(rows).item(), 6)
    if score >= champion().threshold:
        (why,) = champion().why(rows)
        told.append(("unlike", f"{score:g} by {champion().version}: {why}"))
    return told


@settings(max_examples=150, deadline=None)
@given(st.lists(_visits(), max_size=30), st.lists(st.integers(0, 99), max_size=8), st.booleans())
def test_incidents_follow_sessions_to_their_last_revision(
    visits: list[Document], cuts: list[int], is_restarted: bool
) -> None:
    revisions = sessions(visits)
    told = watched(revisions)
    assert watched(revisions, cuts, is_restarted) == told
    left = [s for s in last_by("session_id", revisions).values() if s["superseded_by"] is None]
    expected = [
        (*fired, s["user_id"], s["started_at"], s["ended_at"], s["event_count"])
        for s in left
        for fired in by_hand(s)
    ]
    incidents = [incident for _, incident in told]
    last = [each for each in last_by("incident_id", incidents).values() if each["events"]]
    names = ("behaviour", "text", "user_id", "started_at", "ended_at", "events")
    assert sorted(tuple(each[name] for name in names) for each in last) == sorted(expected)
    for name in {each["incident_id"] for each in incidents}:
        own = [each for each in incidents if each["incident_id"] == name]
        assert [each["revision"] for each in own] == [*range(1, len(own) + 1)]
        assert own[0]["events"]
        assert all(one["events"] or other["events"] for one, other in pairwise(own))


def visit(**said: Any) -> Document:
    return {"step_us": MINUTE_US, "behind_us": 0, "user": "ada", "type": "page_view"} | said


def of(behaviour: str, told: Sequence[tuple[int, Document]]) -> list[Document]:
    return [incident for _, incident in told if incident["behaviour"] == behaviour]


def test_what_becomes_part_of_another_session_is_taken_back() -> None:
    three, bob = [visit() for _ in range(3)], visit(user="bob", step_us=25 * MINUTE_US)
    earlier = visit(step_us=0, behind_us=29 * MINUTE_US)
    end = visit(user="bob", step_us=0)
    first, again, gone = of("clicking", watched(sessions([*three, bob, earlier, end])))
    assert first["revision"] == 1
    assert (gone["incident_id"], gone["events"]) == (first["incident_id"], 0)
    assert gone["text"].startswith("taken back: the session has become part of session ")
    assert (again["events"], again["revision"]) == (4, 1)


def test_a_session_that_is_usual_in_the_end_is_taken_back() -> None:
    # Session a is cut where it becomes too long: an earlier event leaves it with two of its own.
    revisions: list[Document] = [
        {
            "session_id": "a",
            "user_id": "ada",
            "started_at": "2026-03-02T10:00:00Z",
            "ended_at": f"2026-03-02T10:0{events}:00Z",
            "event_count": events,
            "funnel_stage": "visit",
            "superseded_by": None,
        }
        for events in (3, 2, 2, 4)
    ]
    told = of("clicking", watched(revisions))
    assert [(each["revision"], each["events"]) for each in told] == [(1, 3), (2, 0), (3, 4)]
    assert told[1]["text"] == "taken back: as the session is now, the behaviour does not fire on it"


def test_nothing_is_kept_of_sessions_that_are_revised_no_more() -> None:
    state = watch(None)
    for day in range(2, 20):
        three = [visit(step_us=(24 * 60 * MINUTE_US) * day), visit(), visit()]
        values = [json.dumps(each).encode() for each in sessions(three)]
        state.process(decode_sessions(records(SESSIONS, values, None)))
    (told,) = json.loads(state.snapshot())["told"].values()
    assert told["incidents"].keys() >= {"clicking"}


def test_without_a_model_nothing_is_unlike_others() -> None:
    three = [json.dumps(each).encode() for each in sessions([visit() for _ in range(3)])]
    (output, _) = watch(None).process(decode_sessions(records(SESSIONS, three, None))).outputs
    assert [json.loads(value or b"")["behaviour"] for value in output.values] == ["clicking"]


@pytest.mark.parametrize("is_new", [True, False])
def test_a_model_put_in_force_before_what_the_log_still_has_holds_for_a_new_slot(
    is_new: bool,
) -> None:
    three = [json.dumps(each).encode() for each in sessions([visit() for _ in range(3)])]
    whole = records(SESSIONS, three, None)
    saved = None if is_new else watch(None).snapshot()
    state = watch(saved, [AppliedAt(-1, APPLIED), AppliedAt(10**18, APPLIED)])
    state.process(decode_sessions(whole))
    assert (json.loads(state.snapshot())["models"] is not None) == is_new


def test_a_control_record_that_is_not_of_sessions_stops_the_slot() -> None:
    rules = AppliedRules(number=1, version="1", applied_at="", by="", files={})
    batch = records(SESSIONS, [None], [control(rules)])
    with pytest.raises(TidegateError, match="sessions: a control record puts something in force"):
        watch(None).process(decode_sessions(batch))
