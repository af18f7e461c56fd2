"""Sessions unlike the others: the stream says what the lake would, and what is hidden is found."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from command_line import CommandLine
from flow_bench import Bench
from sessions_to_judge import keep_session_model, trained

from dataflows.connectors.records import published
from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.models import ModelError
from dataflows.detection.registry import CARD, Registry
from dataflows.detection.session_model import (
    NAME,
    SessionModel,
    features_of,
    scores_of,
    session_columns,
    session_model,
)
from dataflows.features.columns import as_rows
from dataflows.flows.topology import SESSIONS
from services.history.sessions import LastSessions, last_sessions
from services.models.standing import put_in_force, standing
from services.report.lake import Lake
from services.simulator.driver import publish_chunks
from services.simulator.settings import SimulationSettings
from services.simulator.simulate import simulate
from services.simulator.truth import GroundTruth
from services.status.peek import peek_records
from services.status.slots import slot_statuses
from services.training.sessions import ForestSettings, train

SETTINGS = SimulationSettings(
    start=date(2026, 3, 2), days=7, customers=400, target_events=20_000, seed=5
)
SHARE = 0.01
Make = Callable[..., Bench]
Document = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """A shop whose sessions were judged as they ended, by a model of the same sessions."""

    bench: Bench
    truth: GroundTruth
    model: SessionModel

    @property
    def past(self) -> LastSessions:
        return last_sessions(self.bench.shop.config)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    directory = tmp_path_factory.mktemp("judged")
    registry = Registry(directory / "models")
    before, simulation = Bench(directory / "before"), simulate(SETTINGS)
    publish_chunks(before.log, simulation.chunks(), None, threading.Event())
    before.run("ingest", "sessionize")
    before.run("load", topic=SESSIONS)
    settings = ForestSettings(NAME, SHARE, trees=50, seed=0)
    made = train(last_sessions(before.shop.config), settings)
    registry.add(made.card, made.arrays)
    bench = Bench(directory / "after", models=str(registry.folder))
    promote(bench, registry.folder, made.card.version)
    for partition in range(bench.shop.topology.topics[SESSIONS]):
        there = peek_records(before.log, SESSIONS, partition, 0, 2**62)
        keys, values = zip(*((record.key, record.value) for record in there), strict=True)
        bench.log.append([published(SESSIONS, list(keys), list(values), partition=partition)])
    before.log.close()
    bench.run("watch", topic=SESSIONS)
    bench.run("load", topic=SESSIONS)
    bench.run("load", topic="incidents")
    return Judged(bench, simulation.truth, session_model(made.card, made.model, "here"))


def promote(bench: Bench, models: Path, version: str) -> None:
    put_in_force(bench.shop, Registry(models), version, (), "a test", NAME)


def test_the_stream_says_of_each_session_what_the_lake_would(judged: Judged) -> None:
    past, (compiled,) = judged.past, judged.bench.shop.behaviours.of_sessions
    columns = session_columns(past.sessions, judged.model)
    rows = np.flatnonzero(compiled.predicate.holds(columns))
    assert 0 < len(rows) <= SHARE * len(past.sessions)
    sessions = past.sessions
    expected = [
        (started, ended, events, compiled.sentence.render(columns, row))
        for row, started, ended, events in zip(
            rows.tolist(),
            format_timestamps(sessions.started_us[rows]),
            format_timestamps(sessions.ended_us[rows]),
            sessions.events[rows].tolist(),
            strict=True,
        )
    ]
    last: dict[str, Document] = {}
    for record in judged.bench.records("incidents"):
        incident = json.loads(record.value or b"")
        last[incident["incident_id"]] = incident
    told = [
        tuple(each[name] for name in ("started_at", "ended_at", "events", "text"))
        for each in last.values()
        if each["events"]
    ]
    assert sorted(told) == sorted(expected)


def test_late_events_have_revised_what_was_judged(judged: Judged) -> None:
    (revised,) = Lake(judged.bench.shop.config.lake_path).row(
        "SELECT count(*) FILTER (revision > 1) FROM sessions"
    )
    assert revised


def places_of(judged: Judged, users: set[str]) -> list[int]:
    """Where the sessions of a bot stand among all of them, the most unusual being 0."""
    rows = Lake(judged.bench.shop.config.lake_path).rows(
        "SELECT session_id FROM sessions WHERE list_contains(?, user_id) AND event_count > 50",
        list(users),
    )
    past, own = judged.past, {name for (name,) in rows}
    model = judged.model.model
    scores = scores_of(model, as_rows(features_of(past.sessions), model.features))
    ranked = past.ids[np.argsort(-scores, kind="stable")].tolist()
    return [place for place, name in enumerate(ranked) if name in own]


def test_bots_are_among_the_most_unusual(judged: Judged) -> None:
    slow = {bot.user_id for bot in judged.truth.bots if bot.longest_run_hours > 24}
    quick = {bot.user_id for bot in judged.truth.bots} - slow
    assert places_of(judged, slow) == [*range(SETTINGS.days)]
    places = places_of(judged, quick)
    assert len(places) == 3
    assert max(places) < 0.02 * len(judged.past.ids)


def test_an_incident_says_what_is_unusual_and_what_is_usual(judged: Judged) -> None:
    (slow,) = (bot.user_id for bot in judged.truth.bots if bot.longest_run_hours > 24)
    texts = Lake(judged.bench.shop.config.lake_path).rows(
        "SELECT text FROM incidents WHERE user_id = ? ORDER BY started_at", slow
    )
    assert len(texts) == SETTINGS.days
    (first,), *_ = texts
    assert first.startswith("unlike other sessions: 24 h long (usually 0 s to 24 min); ")
    assert "; 72 events (usually 1 to 16); " in first
    assert first.endswith(f" (model {judged.model.version})")


def test_the_flow_accounts_for_every_revision(judged: Judged) -> None:
    for status in slot_statuses(judged.bench.shop, ("watch",)):
        if status.topic == SESSIONS:
            assert (status.difference, status.lag_records, status.failed) == (0, 0, 0)
            assert status.records_in > 0


def session(number: int) -> bytes:
    """One of 2,000 events, at that hour."""
    said: Document = {
        "session_id": f"s{number}",
        "user_id": "u",
        "started_at": f"2026-03-09T0{number}:00:00Z",
        "ended_at": f"2026-03-09T0{number}:59:00Z",
        "event_count": 2_000,
        "funnel_stage": "visit",
        "revision": 1,
        "superseded_by": None,
    }
    return json.dumps(said).encode()


def judges(bench: Bench) -> list[str]:
    """By whom each session was found unusual."""
    texts = [json.loads(record.value or b"")["text"] for record in bench.records("incidents")]
    return [text.partition("(model ")[2].removesuffix(")") for text in texts]


@pytest.mark.parametrize("between", [False, True], ids=["at the end", "in between"])
def test_each_session_is_judged_by_the_model_before_it_also_without_its_folder(
    between: bool, bench: Make, tmp_path: Path
) -> None:
    made = bench(partitions__clickstream=1, models=str(tmp_path / "elsewhere"))
    first, second = (keep_session_model(tmp_path / "models", seed) for seed in (0, 1))
    made.publish(SESSIONS, [session(0)])
    for number, version in enumerate((first, second, first), 1):
        promote(made, tmp_path / "models", version)
        made.publish(SESSIONS, [session(number)])
        if between:
            made.run("watch", topic=SESSIONS)
    made.run("watch", topic=SESSIONS)
    assert judges(made) == [first, second, first]
    assert standing(made.log, Registry(tmp_path / "models"), NAME).champion == first
    assert standing(made.log, Registry(tmp_path / "models")).champion is None


def test_what_cannot_judge_sessions_is_refused_and_the_last_good_one_goes_on(
    bench: Make, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    made, registry = bench(partitions__clickstream=1, models=str(models)), Registry(models)
    good, damaged = keep_session_model(models, 0), keep_session_model(models, 1)
    promote(made, models, good)
    card = models / NAME / damaged / CARD
    card.write_text(card.read_text().replace('"sessions"', '"visits"', 1))
    other = trained(2)
    changes: list[tuple[Document, str]] = [
        ({"spec_version": "0"}, r"was trained on features of version 0, here they are 1: train it"),
        ({"thresholds": {}}, r"the card does not say which sessions are usual .*by_share"),
        ({"trained": {"usual": {}}}, r"the card does not say which sessions are usual"),
    ]
    with pytest.raises(ModelError, match="the card was changed since it was written: restore it"):
        promote(made, models, damaged)
    for change, says in changes:
        unfit = msgspec.structs.replace(other.card, version="", **change).sealed()
        registry.add(unfit, other.arrays)
        with pytest.raises(ModelError, match=says):
            promote(made, models, unfit.version)
    made.publish(SESSIONS, [session(1)])
    made.run("watch", topic=SESSIONS)
    assert judges(made) == [good]


def test_train_promote_and_roll_back(
    judged: Judged,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(judged.bench.shop.config.lake_path, tmp_path / "shop" / "lake")
    tidegate = CommandLine(tmp_path, monkeypatch, capfd)

    def of(*words: str) -> str:
        done = tidegate("-d", "shop", *words)
        assert done.code == 0, done.err
        return str(done.out)

    said = of("train", "--sessions", "--share", "0.01", "--trees", "50")
    assert f"{NAME} {judged.model.version}: isolation_forest of 5 features" in said
    assert "later ones unusual" in said
    other = of("train", "--sessions", "--seed", "1").split()[1].rstrip(":")
    on = "from the next session on\n"
    assert of("models", "promote", NAME, judged.model.version).endswith(f"is the champion, {on}")
    assert of("models", "promote", NAME, other).endswith(f"is the champion, {on}")
    listed = of("models", "list").splitlines()
    assert [line.split()[-1] for line in listed] == ["unusual", "champion"]
    assert "champion again, from" in of("models", "rollback", NAME)
    history = json.loads(of("models", "history", NAME, "--json"))
    champions = [judged.model.version, other, judged.model.version]
    assert [each["champion"] for each in history] == champions
    assert "share" in of("models", "compare", NAME, judged.model.version, other)
    assert "No model was put in force yet" in of("models", "history")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "--sessions", "--past"), "or --past, or --sessions"),
        (("train", "--sessions", "--model", "random_forest"), "there is isolation_forest alone"),
        (("train", "--sessions"), "holds no sessions yet: let `tidegate up` load some"),
        (("models", "challenge", NAME, "1"), "only models called payments have challengers"),
        (("models", "history", "cards"), "cards: only payments and sessions score on the stream"),
    ],
)
def test_what_makes_no_model_of_sessions_is_refused(
    words: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "shop").mkdir()
    refused = CommandLine(tmp_path, monkeypatch, capfd)("-d", "shop", *words)
    assert refused.code != 0
    assert says in " ".join(refused.err.replace("│", " ").split())
