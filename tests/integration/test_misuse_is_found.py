"""What the simulator hides among honest clicks is found, and little else."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from typing import Any

import msgspec
import pytest
from flow_bench import Bench

from dataflows.contracts.timestamps import parse_timestamps
from dataflows.flows.logins import LOGINS
from dataflows.flows.topology import SESSIONS
from services.explain.incident import explain_incident, told
from services.report.lake import Lake
from services.simulator.driver import publish_chunks
from services.simulator.settings import SimulationSettings
from services.simulator.simulate import simulate
from services.simulator.truth import FraudCase, GroundTruth, MisuseCase
from services.status.slots import slot_statuses

SETTINGS = SimulationSettings(
    start=date(2026, 3, 2), days=20, customers=1_800, target_events=90_000, seed=11
)
HOUR_US = 3_600_000_000

Span = tuple[int, int]
Found = dict[tuple[str, str], list[Span]]
"""The incidents of a behaviour and a user or device, from when to when."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GroundTruth, Bench]]:
    bench = Bench(tmp_path_factory.mktemp("watched"))
    simulation = simulate(SETTINGS)
    publish_chunks(bench.log, simulation.chunks(), None, threading.Event())
    bench.run("ingest", "sessionize")
    bench.run("watch", topic="events.clickstream")
    bench.run("watch", topic=LOGINS)
    bench.run("watch", topic=SESSIONS)
    yield simulation.truth, bench
    bench.log.close()


def incidents(bench: Bench) -> Found:
    """The last revision of each, of a shop whose time has come to an end."""
    last: dict[str, dict[str, Any]] = {}
    for record in bench.records("incidents"):
        said = msgspec.json.decode(record.value or b"")
        before = last.get(said["incident_id"])
        assert (before is None) == (said["revision"] == 1)
        last[said["incident_id"]] = said
    assert all(said["is_over"] for said in last.values())
    found: Found = defaultdict(list)
    for said in last.values():
        subject = said["user_id"] or said["device_id"]
        found[said["behaviour"], subject].append(span(said["started_at"], said["ended_at"]))
    return found


def span(first: str, last: str) -> Span:
    begin, end = parse_timestamps([first, last])[0].tolist()
    return begin, end


def overlaps(one: Span, other: Span, slack_us: int = HOUR_US) -> bool:
    return one[0] <= other[1] + slack_us and other[0] <= one[1] + slack_us


def hidden(truth: GroundTruth) -> Found:
    """The same of what there is to find."""
    there: Found = defaultdict(list)
    for case in truth.misuse:
        stuffed = case.kind == "credential_stuffing"
        (subject,) = case.device_ids if stuffed else case.user_ids
        there[case.kind, subject].append(span(case.first_at, case.last_at))
    return there


KINDS = ("impossible_travel", "password_guessing", "credential_stuffing", "cart_abuse")


@pytest.mark.parametrize("kind", KINDS)
def test_every_case_is_an_incident(kind: str, watched: tuple[GroundTruth, Bench]) -> None:
    truth, bench = watched
    found, there = incidents(bench), hidden(truth)
    cases = [(key, case) for key, spans in there.items() for case in spans if key[0] == kind]
    assert len(cases) == SETTINGS.customers // 300
    missed = [(key, case) for key, case in cases if not any(overlaps(case, s) for s in found[key])]
    assert missed == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_told_is_misuse_or_a_takeover(
    kind: str, watched: tuple[GroundTruth, Bench]
) -> None:
    truth, bench = watched
    there = hidden(truth)
    slack_us = 24 * HOUR_US if kind == "impossible_travel" else HOUR_US  # the owner comes back
    # Whoever takes an account over, or has found its password, comes from somewhere else.
    cases: tuple[FraudCase | MisuseCase, ...] = (*truth.frauds, *truth.misuse)
    for case in cases:
        if case.kind in ("account_takeover", "credential_stuffing"):
            for user in case.user_ids:
                there["impossible_travel", user].append(span(case.first_at, case.last_at))
    wrong = [
        (key, told)
        for key, spans in incidents(bench).items()
        for told in spans
        if key[0] == kind and not any(overlaps(told, case, slack_us) for case in there[key])
    ]
    assert wrong == []


def test_scrapers_are_found_and_a_slow_bot_is_not(watched: tuple[GroundTruth, Bench]) -> None:
    truth, bench = watched
    told = {subject for behaviour, subject in incidents(bench) if behaviour == "scraping"}
    quick = {bot.user_id for bot in truth.bots if bot.longest_run_hours < 24}
    assert quick
    assert told == quick


def test_the_flow_accounts_for_every_click(watched: tuple[GroundTruth, Bench]) -> None:
    _, bench = watched
    for status in slot_statuses(bench.shop, ("watch",)):
        assert (status.difference, status.lag_records, status.failed) == (0, 0, 0)
        assert status.records_in > 0
    assert not bench.records("dlq.watch")


@pytest.fixture(scope="module")
def loaded(watched: tuple[GroundTruth, Bench]) -> Bench:
    bench = watched[1]
    bench.run("load", topic="incidents")
    bench.run("load", topic="events.clickstream")
    return bench


def test_incidents_reach_the_lake(loaded: Bench) -> None:
    (rows,) = Lake(loaded.shop.config.lake_path).row("SELECT count(*) FROM incidents")
    assert rows == len(loaded.records("incidents"))


@pytest.mark.parametrize("kind", ["impossible_travel", "credential_stuffing"])
def test_an_incident_is_explained_by_its_behaviour_and_clicks(kind: str, loaded: Bench) -> None:
    name, text, user, device = Lake(loaded.shop.config.lake_path).rows(
        "SELECT incident_id, text, user_id, device_id FROM incidents"
        " WHERE behaviour = ? AND is_over ORDER BY events DESC, incident_id",
        kind,
    )[0]
    behaviours = loaded.shop.behaviours
    explained = explain_incident(loaded.shop.config, behaviours, name)
    assert explained is not None
    assert (explained.text, explained.is_same_rule_set) == (text, True)
    (rule,) = (each.rule for each in behaviours.rules.live if each.rule.id == kind)
    assert explained.when == rule.when
    clicks = explained.clicks
    assert {click.user_id if user else click.device_id for click in clicks} == {user or device}
    times = [click.at for click in clicks]
    assert times == sorted(times)
    assert len(times) + explained.more_clicks >= explained.events
    lines = told(explained)
    assert text in lines
    assert sum(line.startswith("  20") for line in lines) == len(times)


def test_what_is_no_incident_is_not_explained_as_one(loaded: Bench) -> None:
    assert explain_incident(loaded.shop.config, loaded.shop.behaviours, "i") is None
