"""Who scores payments holds from its control record on; challengers change nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from command_line import CommandLine
from flow_bench import Bench
from payments_to_score import keep_model, pay, score_of, scores

from dataflows.connectors.log import Marker
from dataflows.detection.models import ModelError
from dataflows.detection.payment_model import NAME
from dataflows.detection.registry import CARD, Registry
from dataflows.detection.rules import rule_texts
from dataflows.flows.in_force import (
    AppliedModels,
    AppliedRules,
    Artifact,
    applied_models,
    decode_control,
    decode_in_force,
    model_outputs,
    open_applied,
)
from dataflows.flows.payments import REQUESTS
from dataflows.flows.topology import MODELS
from dataflows.runtime.recovery import reset_recovery
from services.broker.broker import Broker
from services.models.standing import put_in_force, standing
from services.rules.apply import apply
from services.status.slots import slot_statuses

Make = Callable[..., Bench]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def promote(bench: Bench, models: Path, champion: str | None, *challengers: str) -> None:
    put_in_force(bench.shop, Registry(models), champion, challengers, "a test")


def judges(score: dict[str, Any]) -> tuple[str | None, dict[str, float]]:
    others = {each["model"]: each["score"] for each in score.get("challengers", ())}
    return score.get("model"), others


@pytest.mark.parametrize("batch", [1, 3, 1_000])
@pytest.mark.parametrize("between", [False, True], ids=["at the end", "in between"])
def test_each_payment_is_scored_by_the_models_before_it(
    bench: Make, models: Path, batch: int, between: bool
) -> None:
    made = bench(slots__batch_records=batch, models=str(models))
    first, second = keep_model(models, 0.001), keep_model(models, -0.001)
    pay(made, 3)
    for champion, challengers in ((first, ()), (first, (second,)), (second, (first,)), (None, ())):
        promote(made, models, champion, *challengers)
        pay(made, 3)
        if between:
            made.run("score")
    made.run("score")
    high, low = score_of(0.001, 2_000), score_of(-0.001, 2_000)
    assert [judges(score) for score in scores(made)] == [
        *[(None, {})] * 3,
        *[(first, {})] * 3,
        *[(first, {second: low})] * 3,
        *[(second, {first: high})] * 3,
        *[(None, {})] * 3,
    ]
    thought = [score.get("model_score") for score in scores(made)]
    assert thought == [*[None] * 3, *[high] * 6, *[low] * 3, *[None] * 3]
    assert {score["score"] for score in scores(made)} == {0.1}  # no rule reads it
    (status,) = slot_statuses(made.shop, ("score",))
    assert (status.records_in, status.difference) == (15, 0)


def test_after_a_crash_and_without_its_folder_it_goes_on_with_the_models_in_force(
    bench: Make, models: Path, tmp_path: Path
) -> None:
    made = bench(models=str(models))
    first, second = keep_model(models, 0.001), keep_model(models, 0.002)
    promote(made, models, first)
    pay(made, 3)
    made.run("score")
    (slot,) = made.shop.slots("score")
    shutil.copytree(slot.directory, tmp_path / "before")
    promote(made, models, second, first)
    pay(made, 3)
    made.run("score")
    published = made.records("scores")

    # What kill -9 leaves, on a machine that has never seen the models.
    shutil.rmtree(slot.directory)
    shutil.copytree(tmp_path / "before", slot.directory)
    again = bench(models=str(tmp_path / "elsewhere"))
    pay(again, 3)
    again.run("score")
    assert again.records("scores")[:6] == published
    assert [judges(score) for score in scores(again)[6:]] == [
        (second, {first: score_of(0.001, 2_000)})
    ] * 3
    reset_recovery(slot.directory)
    bench(models=str(tmp_path / "elsewhere")).run("score")
    assert again.records("scores")[:6] == published


def test_rules_and_models_change_apart(bench: Make, models: Path) -> None:
    made = bench(models=str(models))
    version = keep_model(models, 0.001)
    promote(made, models, version)
    texts = rule_texts(Path(made.shop.config.rules))
    weight = ("weight: 0.1", "weight: 0.7")
    applied = apply(made.shop, texts | {"high_amount": texts["high_amount"].replace(*weight)}, "")
    pay(made, 1)
    made.run("score")
    (score,) = scores(made)
    assert (score["score"], score["rule_set"]) == (0.7, applied.version)
    assert score["model"] == version


def test_a_rule_reads_the_champion_alone(bench: Make, models: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    shutil.copytree(bench().shop.config.rules, rules)
    (rules / "suspects.yaml").write_text(
        "id: suspects\ndescription: d\nowner: me\nstate: live\nwhen: model_score >= 0.5\n"
        'weight: 0.5\nreason: "{model_score}"\n'
    )
    made = bench(models=str(models), rules=str(rules))
    low, high = keep_model(models, -0.001), keep_model(models, 0.001)
    promote(made, models, low, high)
    pay(made, 1)
    promote(made, models, high, low)
    pay(made, 1)
    made.run("score")
    assert ["suspects" in score["rules"] for score in scores(made)] == [False, True]


def test_what_cannot_serve_never_comes_into_the_log(bench: Make, models: Path) -> None:
    made = bench(models=str(models))
    good, bad = keep_model(models, 0.001), keep_model(models, 0.002)
    card = models / NAME / bad / CARD
    card.write_text(card.read_text().replace('"here"', '"there"'))
    promote(made, models, good)
    with pytest.raises(ModelError, match="the card was changed since it was written: restore it"):
        promote(made, models, bad)
    with pytest.raises(ModelError, match="cannot be read"):
        promote(made, models, good, "nowhere")
    pay(made, 1)
    made.run("score")
    assert [judges(score) for score in scores(made)] == [(good, {})]
    assert standing(made.log, Registry(models)).champion == good


def test_a_model_that_the_log_does_not_hold_stops_the_slot_loudly(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataflows.flows.in_force._PATIENCE_S", 0.5)
    made = bench()
    nowhere = AppliedModels(number=1, champion="feed", challengers=(), applied_at="", by="")
    damaged = Artifact(b"{}", b"no zlib")
    writer = made.log.writer(MODELS)
    writer.commit(model_outputs(nowhere, {"beef": damaged}, 1), Marker(seq=1, next_offset=1))
    pay(made, 1)
    with pytest.raises(ModelError, match=r"control\.models: does not hold model feed: promote it"):
        made.run("score")
    with pytest.raises(ModelError, match=r"control\.models: model beef: is damaged"):
        open_applied(made.log, made.shop.config.models_path, "beef")


def test_control_records_of_before_there_were_models_are_rules() -> None:
    former = b'{"number":2,"version":"v","applied_at":"","by":"me","files":{}}'
    applied = decode_control(former)
    assert isinstance(applied, AppliedRules)
    assert decode_in_force(former).rules == applied
    assert decode_in_force(former).models is None
    assert decode_control(msgspec.json.encode(applied)) == applied


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_on_kafka_the_model_is_there_when_its_control_record_is(
    bench: Make, models: Path, broker: Broker
) -> None:
    made = bench(bus=broker.url, models=str(models))
    for weight in (0.001, 0.002, 0.003):
        promote(made, models, keep_model(models, weight))
        pay(made, 1)
        made.run("score")
    expected = [score_of(weight, 2_000) for weight in (0.001, 0.002, 0.003)]
    assert [score["model_score"] for score in scores(made)] == expected
    assert [each.number for each in applied_models(made.log)] == [1, 2, 3]
    assert made.log.offsets(REQUESTS, 0)[1] >= 6


@pytest.fixture
def tidegate(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    monkeypatch.setenv("TIDEGATE_MODELS", str(models))
    return CommandLine(tmp_path, monkeypatch, capfd)


def test_promote_challenge_withdraw_and_roll_back(tidegate: CommandLine, models: Path) -> None:
    first, second = keep_model(models, 0.001), keep_model(models, 0.002, precision=0.6)
    worse = keep_model(models, 0.003, precision=0.1)

    def of_models(*words: str) -> str:
        done = tidegate("-d", "shop", "models", *words)
        assert done.code == 0, done.err
        return str(done.out)

    assert "No model was put in force yet" in of_models("history")
    on = "from the next payment on\n"
    assert of_models("promote", NAME, first) == f"payments: {first} is the champion, {on}"
    assert of_models("challenge", NAME, second) == f"payments: {second} is a challenger, {on}"
    assert [line.split()[-1] for line in of_models("list").splitlines()] == [
        *("champion", "challenger"),
        "0.100)",
    ]
    refused = tidegate("-d", "shop", "models", "promote", NAME, worse)
    assert refused.code == 78
    assert "say --force to promote it all the same" in refused.err
    of_models("promote", NAME, second, "--note", "won in shadow")
    assert "champion again" in of_models("rollback", NAME)
    of_models("challenge", NAME, worse)
    assert of_models("withdraw", NAME, worse[:8]) == f"payments: {worse} is no challenger, {on}"
    applied = json.loads(of_models("history", "--json"))
    assert [(each["champion"], each["challengers"]) for each in applied] == [
        *((first, []), (first, [second])),
        *((second, []), (first, [])),
        *((first, [worse]), (first, [])),
    ]
    assert applied[2]["note"] == "won in shadow"
    assert "won in shadow" in of_models("history").splitlines()[2]
    assert [each.version for each in Registry(models).champions(NAME)] == [first, second, first]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("challenge", "fraud", "1"), "only models called payments have challengers"),
        (("withdraw", NAME, "1"), "1: is not one of the challengers: there are none"),
        (("challenge", NAME, "xyz"), "no version begins with 'xyz'"),
        (("rollback", NAME), "there was no champion before"),
    ],
)
def test_who_cannot_be_put_in_force_is_named(
    words: tuple[str, ...], says: str, tidegate: CommandLine, models: Path
) -> None:
    keep_model(models, 0.001)
    refused = tidegate("-d", "shop", "models", *words)
    assert refused.code != 0
    assert says in " ".join(refused.err.replace("│", " ").split())
