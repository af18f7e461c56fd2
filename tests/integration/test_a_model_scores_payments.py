"""The champion scores payments on the stream as on the past, and rules read its score."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command_line import CommandLine
from flow_bench import Bench
from past import DAYS, EVENTS, Past

from dataflows.detection.models import ModelError
from dataflows.detection.payment_model import NAME, READABLE, open_champion
from dataflows.detection.registry import CARD, Registry
from services.cli import main
from services.history.features import open_history

SUSPECTS = """\
id: suspects
description: What the model finds suspicious.
owner: me
state: shadow
when: model_score >= 0.2
weight: 0.6
reason: "The model finds it suspicious: {model_score}"
"""
QUICK = ("--folds", "1", "--delay-days", "4", "--trees", "8")


@pytest.fixture(scope="module")
def models(past: Past, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion, trained on the past by the command."""
    folder = tmp_path_factory.mktemp("registry") / "models"
    with pytest.MonkeyPatch.context() as patch:
        data = str(past.bench.shop.config.data_path)
        command = ["tidegate", "-d", data, "train", "--past", *QUICK, "--models", str(folder)]
        patch.setattr("sys.argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    registry = Registry(folder)
    registry.promote(NAME, registry.versions(NAME)[0], "2026-05-01T00:00:00+00:00", "promoted")
    return folder


@pytest.fixture
def rules(past: Past, tmp_path: Path) -> Path:
    folder = tmp_path / "rules"
    shutil.copytree(past.bench.shop.config.rules, folder)
    (folder / "suspects.yaml").write_text(SUSPECTS)
    return folder


@pytest.fixture
def scored(bench: Callable[..., Bench], models: Path, rules: Path) -> Bench:
    made = bench(models=str(models), rules=str(rules))
    made.simulate(days=DAYS, events=EVENTS)
    made.run("ingest", topic="raw.transactions")
    made.run("features", "score")
    return made


def scores_of(bench: Bench) -> dict[str, dict[str, Any]]:
    read = [json.loads(record.value) for record in bench.records("scores") if record.value]
    return {score["transaction_id"]: score for score in read}


def test_without_a_champion_there_is_no_score(past: Past) -> None:
    assert not any({"model", "model_score"} & score.keys() for score in past.scores)
    assert open_champion(past.bench.shop.config.models_path) is None


def test_the_stream_and_the_past_give_the_same_score(scored: Bench, models: Path) -> None:
    champion = open_champion(models)
    assert champion is not None
    for topic in ("events.transactions", "scores"):
        scored.run("load", topic=topic)
    history = open_history(scored.shop.config)
    assert history.model == champion.version
    query = "SELECT transaction_id, model_score FROM read_parquet(?)"
    on_the_past = dict(duckdb.execute(query, [str(history.payments)]).fetchall())
    on_the_stream = scores_of(scored)
    assert {name: score["model_score"] for name, score in on_the_stream.items()} == on_the_past
    assert {score["model"] for score in on_the_stream.values()} == {champion.version}
    assert len(set(on_the_past.values())) > 10
    lake = str(scored.shop.config.lake_path / "scores" / "**" / "*.parquet")
    query = "SELECT count(DISTINCT model_score) FROM read_parquet(?)"
    assert duckdb.execute(query, [lake]).fetchone() == (len(set(on_the_past.values())),)


def test_rules_read_it_and_it_finds_frauds(past: Past, scored: Bench) -> None:
    found = scores_of(scored)
    suspects = {name for name, score in found.items() if "suspects" in score["shadow_rules"]}
    assert suspects == {name for name, score in found.items() if score["model_score"] >= 0.2}
    caught = sum(bool(past.is_fraud.get(name)) for name in suspects)
    assert caught > 0.5 * sum(past.is_fraud.values()) * len(suspects) / len(found)
    by_rules = {score["transaction_id"]: score["score"] for score in past.scores}
    assert {name: score["score"] for name, score in found.items()} == by_rules


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"trees": 8', '"trees": 9', "the card was changed since it was written: restore it"),
        ("{", "", "the card is damaged"),
    ],
)
def test_a_champion_that_was_changed_is_refused_by_name(
    old: str, new: str, says: str, bench: Callable[..., Bench], models: Path, tmp_path: Path
) -> None:
    shutil.copytree(models, tmp_path / "others")
    (card,) = (tmp_path / "others" / NAME).glob(
        f"{Registry(models).champions(NAME)[-1].version}/{CARD}"
    )
    assert old in card.read_text()
    card.write_text(card.read_text().replace(old, new, 1))
    made = bench(models=str(tmp_path / "others"))
    with pytest.raises(ModelError, match=says):
        made.run("score")


def test_a_model_of_other_features_does_not_serve(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(READABLE, "items_count")
    with pytest.raises(ModelError, match="the model needs items_count, which"):
        open_champion(models)


def test_the_past_may_be_too_short(
    past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tidegate = CommandLine(tmp_path, monkeypatch, capfd)
    data = past.bench.shop.config.data_path
    refused = tidegate("-d", data, "train", "--past", "--delay-days", "90")
    assert refused.code == 78
    assert "the past is shorter than the 90 days that labels may take" in refused.err
    both = tidegate("train", "--past", "--spec", "a.yaml")
    assert both.code == 2
    assert "say either --spec and --in, or --past" in " ".join(both.err.split())


def test_doctor_says_who_scores(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tidegate = CommandLine(tmp_path, monkeypatch, capfd)
    assert "ok   model: no champion in models/" in tidegate("doctor").out
    version = Registry(models).champions(NAME)[-1].version
    monkeypatch.setenv("TIDEGATE_MODELS", str(models))
    assert f"the champion of models/ is {version}, a random_forest" in tidegate("doctor").out
