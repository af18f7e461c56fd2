"""Behaviour: whatever the batches and restarts, incidents are those of plain Python."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.connectors.records import END_OF_TIME_US, Headers, Records, heartbeat_headers
from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.behaviours import CATALOGUE, Behaviours
from dataflows.detection.countries import APART_KM, CODES
from dataflows.detection.incidents import QUIET_US
from dataflows.detection.rules import parse_rules
from dataflows.eventtime.snapshots import Buffer
from dataflows.flows.decoding import Events
from dataflows.flows.logins import LOGINS, Login, decode_logins
from dataflows.flows.watch import TELL_TIME_US, DeviceWatch, UserWatch, decode
from dataflows.runtime.config import load_config
from dataflows.runtime.sink import Processed

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
START_US = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z
EVENT_TIME = load_config().event_time
BOUND_US, LATENESS_US = int(EVENT_TIME.bound), int(EVENT_TIME.lateness)
COUNTRIES = ("DE", "AU", "FR", "XX", None)
HEAD = "description: d\nowner: o\nstate: live\nweight: 0.5\n"
FILES = {
    "carting": HEAD + "id: carting\nwhen: user_pieces_carted_1h >= 5 AND user_purchases_1h = 0\n"
    "reason: '{user_pieces_carted_1h} pieces'\n",
    "failing": HEAD + "id: failing\nwhen: user_failed_logins_10m >= 2\n"
    "reason: '{user_failed_logins_10m} failed at {user_clicked_at}'\n",
    "looking": HEAD + "id: looking\nwhen: user_products_viewed_10m >= 2\n"
    "reason: '{user_products_viewed_10m} products of {user_id}'\n",
    "stuffing": HEAD + "id: stuffing\nwhen: device_failed_accounts_10m >= 2\nseverity: high\n"
    "reason: '{device_failed_logins_10m} of {device_failed_accounts_10m} on {device_id}, "
    "{device_logins_10m} good'\n",
    "travelling": HEAD + "id: travelling\nwhen: user_travelled_kmh > 1000\n"
    "reason: '{user_previous_country} to {user_country}: {user_travelled_km}'\n",
}
BEHAVIOURS = Behaviours(parse_rules(FILES, "behaviours", CATALOGUE))
VERSION = BEHAVIOURS.rules.version

Event = dict[str, Any]
Said = tuple[int, dict[str, Any]]
"""What is published, with its cause."""


@st.composite
def _clicks(draw: st.DrawFn) -> Event:
    return {
        "step_us": draw(st.sampled_from([0, 1, MINUTE_US, 9 * MINUTE_US, HOUR_US, 5 * HOUR_US])),
        "behind_us": draw(
            st.sampled_from([0, 0, 0, MINUTE_US, HOUR_US // 2, HOUR_US, 3 * HOUR_US])
        ),
        "user": draw(st.sampled_from(["ada", "bob"])),
        "type": draw(
            st.sampled_from(
                ["product_view", "add_to_cart", "purchase", "login", "login_failed", "page_view"]
            )
        ),
        "product": draw(st.sampled_from(["p", "q", None])),
        "quantity": draw(st.sampled_from([None, 2, 7])),
        "country": draw(st.sampled_from(COUNTRIES)),
        "device": draw(st.sampled_from(["phone", "pad", None])),
    }


def clicks(events: Sequence[Event]) -> Records:
    """As the topic has them, the end of time behind them; each event gets its time."""
    values: list[bytes | None] = []
    newest_us = START_US
    for event in events:
        newest_us += event["step_us"]
        event["time_us"] = newest_us - event["behind_us"]
        said = {
            "event_timestamp": format_timestamps(np.array([event["time_us"]]))[0],
            "user_id": event["user"],
            "event_type": event["type"],
            "product_id": event["product"],
            "quantity": event["quantity"],
            "geo": {"country": event["country"]},
            "device": {"device_id": event["device"]},
        }
        values.append(json.dumps(said).encode())
    headers: list[Headers] = [*[() for _ in values], heartbeat_headers(END_OF_TIME_US)]
    return log("events.clickstream", [*values, None], headers)


def log(topic: str, values: list[bytes | None], headers: list[Headers] | None = None) -> Records:
    at = np.arange(len(values))
    return Records(topic, 0, at, at, [None] * len(values), values, headers)


def batches(whole: Records, cuts: Sequence[int]) -> Iterator[Records]:
    edges = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    for begin, end in pairwise(edges):
        yield whole.slice(begin, end)


def watched(
    whole: Records, cuts: Sequence[int] = (), restart: str = "", partition: int = 0
) -> dict[str, list[Said]]:
    """What is published, by topic; after each batch the state is written and read back."""

    def restored(frames: list[Buffer]) -> UserWatch | DeviceWatch:
        if whole.topic == LOGINS:
            return DeviceWatch(EVENT_TIME, BEHAVIOURS.of_devices, VERSION, frames)
        return UserWatch(EVENT_TIME, BEHAVIOURS.of_users, VERSION, (partition, 2), frames)

    state, journal = restored([]), list[Buffer]()
    found: dict[str, list[Said]] = {"incidents": [], LOGINS: []}
    for batch in batches(whole, cuts):
        if restart == "whole":
            state = restored([state.snapshot()])
        elif restart == "journal":
            changes = state.changes(everything=not journal)
            journal.append(b"".join(changes.parts))
            state = restored(journal)
        if isinstance(state, DeviceWatch):
            processed = state.process(decode_logins(batch))
        else:
            processed = state.process(decode(batch))
        for topic, said in published(processed):
            found[topic].append(said)
    return found


def published(processed: Processed) -> Iterator[tuple[str, Said]]:
    for output in processed.outputs:
        for cause, value in zip(output.causes.tolist(), output.values, strict=True):
            yield output.topic, (cause, json.loads(value or b""))


class Model:
    """Incidents by brute force: every window is counted anew, every incident looked at in each
    row."""

    def __init__(self) -> None:
        self.open: list[dict[str, Any]] = []
        self.told: list[Said] = []

    def fire(self, row: int, behaviour: str, subject: str, time_us: int, text: str) -> None:
        for incident in self.open:
            near = incident["first"] - QUIET_US <= time_us <= incident["last"] + QUIET_US
            if (incident["behaviour"], incident["subject"]) == (behaviour, subject) and near:
                incident["first"] = min(incident["first"], time_us)
                incident["last"] = max(incident["last"], time_us)
                incident |= {"events": incident["events"] + 1, "text": text}
                return
        incident = {"behaviour": behaviour, "subject": subject, "events": 1, "text": text}
        incident |= {"first": time_us, "last": time_us, "begun": time_us}
        self.open.append(incident)
        self.tell(row, incident, is_over=False)

    def close(self, row: int, watermark_us: int) -> None:
        over = [i for i in self.open if i["last"] + QUIET_US + LATENESS_US < watermark_us]
        for incident in sorted(over, key=lambda i: (i["behaviour"], i["subject"], i["begun"])):
            self.open.remove(incident)
            self.tell(row, incident, is_over=True)

    def tell(self, row: int, incident: dict[str, Any], is_over: bool) -> None:
        started, ended = format_timestamps(np.array([incident["first"], incident["last"]]))
        said = {key: incident[key] for key in ("behaviour", "subject", "events", "text")}
        said |= {"is_over": is_over, "started_at": started, "ended_at": ended}
        self.told.append((row, said))


def compared(said: Sequence[Said]) -> list[Said]:
    """What the model tells, too."""
    names = ("behaviour", "events", "text", "is_over", "started_at", "ended_at")
    return [
        (cause, {n: found[n] for n in names} | {"subject": found["user_id"] or found["device_id"]})
        for cause, found in said
    ]


def users_by_hand(events: Sequence[Event]) -> list[Said]:
    model, came, newest_us = Model(), list[Event](), -(2**62)
    for row, event in enumerate(events):
        time_us = event["time_us"]
        newest_us = max(newest_us, time_us)
        watermark_us = newest_us - BOUND_US
        if time_us >= watermark_us - LATENESS_US:
            came.append(event)
            own = [e for e in came if e["user"] == event["user"] and e["time_us"] <= time_us]
            for behaviour, text in fired(event, own):
                model.fire(row, behaviour, event["user"], time_us, text)
        model.close(row, watermark_us)
    model.close(len(events), END_OF_TIME_US)
    return model.told


def fired(event: Event, own: Sequence[Event]) -> Iterator[tuple[str, str]]:
    """Which behaviours fire on an event, given the user's up to its time in order of arrival."""
    time_us = event["time_us"]

    def within(window_us: int, kind: str) -> list[Event]:
        return [e for e in own if e["time_us"] > time_us - window_us and e["type"] == kind]

    pieces = sum(e["quantity"] or 1 for e in within(HOUR_US, "add_to_cart"))
    if pieces >= 5 and not within(HOUR_US, "purchase"):
        yield "carting", f"{pieces} pieces"
    failed = len(within(10 * MINUTE_US, "login_failed"))
    if failed >= 2:
        at = format_timestamps(np.array([time_us]))[0][11:16]
        yield "failing", f"{failed} failed at {at}"
    products = {e["product"] for e in within(10 * MINUTE_US, "product_view")} - {None}
    if len(products) >= 2:
        yield "looking", f"{len(products)} products of {event['user']}"
    earlier = [
        e for e in own if e is not event and e["time_us"] > time_us - 24 * HOUR_US and is_placed(e)
    ]
    if earlier and is_placed(event):
        last = max(earlier, key=lambda e: e["time_us"])
        last = [e for e in earlier if e["time_us"] == last["time_us"]][-1]
        apart = APART_KM[CODES.index(last["country"]), CODES.index(event["country"])]
        if apart * HOUR_US > 1000 * max(time_us - last["time_us"], 1_000_000):
            yield "travelling", f"{last['country']} to {event['country']}: {apart:,.0f}"


def is_placed(event: Event) -> bool:
    """Whether it says where the user is; a failed login may be anybody's."""
    return event["country"] in ("DE", "AU", "FR") and event["type"] != "login_failed"


@settings(max_examples=80, deadline=None)
@given(
    st.lists(_clicks(), max_size=30),
    st.lists(st.integers(0, 99), max_size=8),
    st.sampled_from(["", "whole", "journal"]),
)
def test_incidents_of_users_are_those_of_plain_python(
    events: list[Event], cuts: list[int], restart: str
) -> None:
    whole = clicks(events)
    said = watched(whole)
    assert watched(whole, cuts, restart) == said
    assert compared(said["incidents"]) == users_by_hand(events)


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.lists(_clicks(), max_size=20), st.lists(_clicks(), max_size=20)),
    st.lists(st.booleans()),
    st.lists(st.integers(0, 99), max_size=8),
    st.sampled_from(["", "whole", "journal"]),
)
def test_incidents_of_devices_are_those_of_plain_python_over_all_partitions(
    traffic: tuple[list[Event], list[Event]],
    turns: list[bool],
    cuts: list[int],
    restart: str,
) -> None:
    parts = [
        [value for _, value in watched(clicks(events), partition=number)[LOGINS]]
        for number, events in enumerate(traffic)
    ]
    whole = log(LOGINS, [json.dumps(value).encode() for value in in_turn(parts, turns)])
    said = watched(whole)
    assert watched(whole, cuts, restart) == said
    assert compared(said["incidents"]) == devices_by_hand(decode_logins(whole))


def in_turn(parts: Sequence[list[Any]], turns: Sequence[bool]) -> list[Any]:
    """What both partitions say, as they take turns."""
    waiting, said = [list(part) for part in parts], []
    for turn in turns:
        own = waiting[turn] or waiting[not turn]
        said += [own.pop(0)] if own else []
    return [*said, *waiting[0], *waiting[1]]


def devices_by_hand(logins: Events[Login]) -> list[Said]:
    model, came = Model(), list[tuple[int, Login]]()
    reached = {0: -(2**62), 1: -(2**62)}
    for row, login in enumerate(logins.at(np.arange(len(logins.events)))):
        reached[login.partition] = max(reached[login.partition], login.watermark_us)
        if login.device_id is not None:
            at = np.datetime64(str(login.event_timestamp).rstrip("Z"), "us").astype(int).item()
            came.append((at, login))
            own = [
                each
                for time_us, each in came
                if each.device_id == login.device_id and at - 10 * MINUTE_US < time_us <= at
            ]
            failed = [each for each in own if each.event_type == "login_failed"]
            accounts = {each.user_id for each in failed}
            if len(accounts) >= 2:
                text = f"{len(failed)} of {len(accounts)} on {login.device_id}, "
                text += f"{len(own) - len(failed)} good"
                model.fire(row, "stuffing", login.device_id, at, text)
        model.close(row, min(reached.values()))
    return model.told


def event(**said: Any) -> Event:
    fields = {"step_us": MINUTE_US, "behind_us": 0, "user": "ada", "type": "page_view"}
    fields |= {"product": None, "quantity": None, "country": None, "device": "phone"}
    return fields | said


def test_an_incident_is_told_when_it_begins_and_when_it_is_over() -> None:
    views = [event(type="product_view", product=f"p{n}") for n in range(4)]
    first, last = (found for _, found in watched(clicks(views))["incidents"])
    assert (first["events"], first["is_over"], first["revision"]) == (1, False, 1)
    assert (last["events"], last["is_over"], last["revision"]) == (3, True, 2)
    assert first["incident_id"] == last["incident_id"]
    assert (first["text"], last["text"]) == ("2 products of ada", "4 products of ada")
    assert (first["rule_set"], first["severity"], first["device_id"]) == (VERSION, "medium", None)


def test_events_an_hour_apart_are_one_incident_and_a_moment_more_makes_two() -> None:
    def events(pause_us: int) -> list[int]:
        trip = [event(country="DE"), event(country="AU"), event(country="DE", step_us=pause_us)]
        said = [found for _, found in watched(clicks(trip))["incidents"] if found["is_over"]]
        return [found["events"] for found in said]

    assert events(QUIET_US) == [2]
    assert events(QUIET_US + 1) == [1, 1]


def test_an_incident_is_over_once_nothing_can_be_added_to_it() -> None:
    until_us = QUIET_US + LATENESS_US + BOUND_US

    def told_over_by(step_us: int) -> int:
        trip = [event(country="DE"), event(country="AU"), event(user="bob", step_us=step_us)]
        said = watched(clicks(trip))["incidents"]
        return next(row for row, found in said if found["is_over"])

    assert told_over_by(until_us) == 3  # by the end of time
    assert told_over_by(until_us + 1) == 2


def test_a_failed_login_does_not_say_where_a_user_is() -> None:
    trip = [event(country="DE"), event(country="AU", type="login_failed"), event(country="DE")]
    assert not watched(clicks(trip))["incidents"]


def test_travel_is_told_with_places_and_the_least_distance() -> None:
    trip = [event(country="DE"), event(country="AU", step_us=38 * MINUTE_US)]
    (_, begun), _ = watched(clicks(trip))["incidents"]
    assert begun["text"] == "DE to AU: 14,080"
    neighbours = [event(country="DE"), event(country="FR", step_us=1)]
    assert not watched(clicks(neighbours))["incidents"]


def test_time_goes_on_into_logins_at_least_every_ten_minutes() -> None:
    told = [login for _, login in watched(clicks([event() for _ in range(120)]))[LOGINS]]
    watermarks_us = [login["watermark_us"] for login in told]
    assert all(login["device_id"] is None for login in told)
    assert max(np.diff(watermarks_us[:-1])) <= TELL_TIME_US
    assert watermarks_us[-1] == END_OF_TIME_US - BOUND_US


def test_a_login_without_a_device_is_not_passed_on() -> None:
    logins = [event(type="login_failed", device=device) for device in ("phone", None)]
    told = watched(clicks(logins))[LOGINS]
    assert [(r, login["device_id"]) for r, login in told if login["event_type"]] == [(0, "phone")]


def test_time_of_every_partition_is_kept_from_batch_to_batch() -> None:
    failed = [event(type="login_failed", user=user) for user in ("ada", "bob")]
    said = [
        json.dumps(login).encode()
        for number in range(2)
        for _, login in watched(clicks(failed), partition=number)[LOGINS]
    ]
    whole = log(LOGINS, list(said))
    at_once = watched(whole)["incidents"]
    assert [found["is_over"] for _, found in at_once] == [False, True]
    for restart in ("", "whole", "journal"):
        assert watched(whole, range(len(said)), restart)["incidents"] == at_once


def test_a_partition_that_says_nothing_holds_time_back() -> None:
    failed = [event(type="login_failed", user=user) for user in ("ada", "bob")]
    said = [login for _, login in watched(clicks(failed))[LOGINS]]
    alone = watched(log(LOGINS, [json.dumps(login).encode() for login in said]))
    assert [found["is_over"] for _, found in alone["incidents"]] == [False]
