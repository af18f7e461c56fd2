"""The champion scores payments on the stream as on the past, and rules read its score."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from command_line import CommandLine
from flow_bench import Bench
from past import DAYS, EVENTS, Past
from payments_to_score import keep_model
from sklearn.metrics import average_precision_score

from dataflows.detection.models import ModelError
from dataflows.detection.payment_model import NAME, READABLE, open_champion
from dataflows.detection.registry import CARD, Registry
from services.cli import main
from services.history.features import open_history
from services.models.standing import put_in_force
from services.models.trial import trials

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


def test_a_challenger_is_judged_beside_the_champion(
    past: Past,
    models: Path,
    bench: Callable[..., Bench],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    others = tmp_path / "others"
    shutil.copytree(models, others)
    registry = Registry(others)
    good = registry.champions(NAME)[-1].version
    poor = keep_model(others, -0.01)
    made = bench(models=str(others))
    put_in_force(made.shop, registry, good, [poor], "")
    made.simulate(days=DAYS, events=EVENTS)
    for topic in ("raw.transactions", "raw.labels"):
        made.run("ingest", topic=topic)
    made.run("features", "score")
    for topic in ("scores", "events.labels"):
        made.run("load", topic=topic)

    (trial,) = trials(made.shop.config, delay_days=10, alerts_per_day=5)
    newest = max(score["event_timestamp"] for score in past.scores)[:10]
    until = (date.fromisoformat(newest) - timedelta(days=10)).isoformat()
    tried = [score for score in scores_of(made).values() if score["event_timestamp"][:10] <= until]
    frauds = [past.is_fraud.get(score["transaction_id"], False) for score in tried]
    assert (trial.payments, trial.frauds, trial.last_day) == (len(tried), sum(frauds), until)
    assert trial.challenger.version == poor
    for figures, thought in (
        (trial.champion, [score["model_score"] for score in tried]),
        (trial.challenger, [score["challengers"][0]["score"] for score in tried]),
    ):
        expected = average_precision_score(frauds, thought)
        assert figures.average_precision == pytest.approx(expected, abs=1e-12)
        alerted = [score >= figures.threshold for score in thought]
        caught = sum(a and f for a, f in zip(alerted, frauds, strict=True))
        assert figures.recall == pytest.approx(caught / sum(frauds))
    assert trial.champion.recall > trial.challenger.recall

    tidegate = CommandLine(tmp_path, monkeypatch, capfd)
    data = made.shop.config.data_path
    told = tidegate("-d", data, "models", "trial", "--delay-days", "10").out.splitlines()
    assert told[1].split() == ["champion", good, "challenger", poor]
    nobody = tidegate("-d", past.bench.shop.config.data_path, "models", "trial")
    assert (nobody.code, "no challenger has scored a payment" in nobody.err) == (78, True)


def test_drift_and_skew_are_told(
    scored: Bench,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for topic in ("events.transactions", "scores"):
        scored.run("load", topic=topic)
    data = scored.shop.config.data_path
    monkeypatch.setenv("TIDEGATE_MODELS", str(models))
    tidegate = CommandLine(tmp_path, monkeypatch, capfd)
    as_it_was = json.loads(tidegate("-d", data, "models", "drift", "--days", "40", "--json").out)
    card, _ = Registry(models).open(NAME)
    assert set(as_it_was["shifts"]) == {"score", *card.features}
    assert as_it_was["payments"] == as_it_was["compared"] == len(scores_of(scored))
    assert as_it_was["differing"] == 0
    # What it was trained on is most of the forty days.
    assert as_it_was["shifts"]["total_amount"]["index"] < 0.02

    (first, *_) = sorted((data / "lake" / "scores").rglob("*.parquet"))
    table = pq.read_table(first, partitioning=None)
    raised = pc.add(table["model_score"], pa.array([0.25] + [0.0] * (len(table) - 1)))
    place = table.schema.get_field_index("model_score")
    pq.write_table(table.set_column(place, "model_score", raised), first)
    other = tidegate("-d", data, "models", "drift", "--days", "40")
    assert other.code == 1
    count = as_it_was["payments"]
    assert f"{count - 1:,} of {count:,} scores of the stream come out the same" in other.out

    shutil.copytree(models, tmp_path / "old")
    registry = Registry(tmp_path / "old")
    without = keep_model(tmp_path / "old", 0.01)
    refused = tidegate("-d", data, "models", "drift", without)
    assert refused.code == 78
    monkeypatch.setenv("TIDEGATE_MODELS", str(registry.folder))
    refused = tidegate("-d", data, "models", "drift", without)
    assert (refused.code, "does not say what payments looked like" in refused.err) == (78, True)
