"""A decision comes out again as the stream made it, and each rule's part in it is right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from command_line import CommandLine
from past import Past

from dataflows.connectors.lake import lake_files
from dataflows.detection.rules import RuleSet
from services.explain.explain import Explanation, explain

UNSUSPICIOUS = 20


def explained(past: Past, name: str, rules: RuleSet | None = None) -> Explanation:
    return explain(
        past.bench.shop.config, past.history, lambda _: rules or past.rules, lambda _: None, name
    )


def test_alerts_come_out_again_bit_for_bit(past: Past) -> None:
    assert len(past.alerts) > 20
    for alert in past.alerts[::5]:
        found = explained(past, alert["alert_id"])
        assert found.is_repeated, found.differences
        assert (found.severity, found.transaction_id) == (
            alert["severity"],
            alert["transaction_id"],
        )
        assert [msgspec.to_builtins(each.reason) for each in found.reasons] == alert["reasons"]
        assert found.is_fraud == past.is_fraud.get(alert["transaction_id"])


def test_what_would_be_without_a_rule_is_the_other_rules_together(past: Past) -> None:
    weights = {compiled.rule.id: compiled.rule.weight for compiled in past.rules.rules}
    alert = max(past.alerts, key=lambda alert: len(alert["reasons"]))
    found = explained(past, alert["transaction_id"])
    assert len(found.reasons) >= 3
    for each in found.reasons:
        others = [weights[rule] for rule in found.said.rules if rule != each.reason.rule]
        assert each.score_without == pytest.approx(1 - prod(1 - weight for weight in others))
    read = {rule for value in found.values for rule in value.read_by}
    assert read == {each.reason.rule for each in found.reasons}
    near = [a for a in past.alerts if a["user_id"] == alert["user_id"] and a is not alert]
    assert found.alerts_near <= len(near)


def test_a_payment_without_an_alert_is_explained_too(past: Past) -> None:
    alerted = {alert["transaction_id"] for alert in past.alerts}
    quiet = [s for s in past.scores if s["transaction_id"] not in alerted]
    for score in quiet[:UNSUSPICIOUS]:
        found = explained(past, score["transaction_id"])
        assert found.is_repeated
        assert (found.alert_id, found.said.decision) == (None, "allow")
        assert found.said.score == score["score"]


def test_with_other_rules_it_says_what_they_would_decide(past: Past) -> None:
    alert = max(past.alerts, key=lambda alert: len(alert["reasons"]))
    first = alert["reasons"][0]["rule"]
    fewer = RuleSet(tuple(c for c in past.rules.rules if c.rule.id != first))
    found = explained(past, alert["alert_id"], fewer)
    assert found.said.rule_set != found.again.rule_set
    assert found.again.score < found.said.score
    assert any(difference.startswith("score ") for difference in found.differences)
    reworded = tuple(
        replace(c, rule=msgspec.structs.replace(c.rule, description="Other words."))
        for c in past.rules.rules
    )
    assert explained(past, alert["alert_id"], RuleSet(reworded)).is_repeated


@pytest.fixture
def tidegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    return CommandLine(tmp_path, monkeypatch, capfd)


def test_what_people_and_programs_read(past: Past, tidegate: Callable[..., Any]) -> None:
    data, alert = past.bench.shop.config.data_path, past.alerts[0]
    told = tidegate("-d", data, "explain", alert["alert_id"])
    assert told.code == 0, told.err
    lines = told.out.splitlines()
    assert lines[0].startswith(f"{alert['decision']}: payment {alert['transaction_id']}, score ")
    assert lines[3] == "why, and what it would be without:"
    assert lines[4].startswith(f"  1. {alert['reasons'][0]['text']} [{alert['reasons'][0]['rule']}")
    assert "again: the same score, decision and reasons, bit for bit" in told.out
    as_json = json.loads(tidegate("-d", data, "explain", alert["alert_id"], "--json").out)
    assert as_json["said"]["score"] == alert["score"]
    refused = tidegate("-d", data, "explain", "nobody")
    assert refused.code == 78
    assert refused.err.startswith("tidegate: nobody: no alert and no scored payment in ")


def test_a_decision_that_cannot_be_repeated_is_said_and_the_exit_code_is_1(
    past: Past, tidegate: Callable[..., Any], tmp_path: Path
) -> None:
    shutil.copytree(past.bench.shop.config.lake_path, tmp_path / "forged" / "lake")
    alert = past.alerts[0]
    for file in lake_files(tmp_path / "forged" / "lake", "scores"):
        table = pq.read_table(file, partitioning=None)
        at = table.schema.get_field_index("score")
        is_it = pc.equal(table["transaction_id"], alert["transaction_id"])
        forged = pc.if_else(is_it, pa.scalar(0.123), table["score"])
        pq.write_table(table.set_column(at, "score", forged), file)
    told = tidegate("-d", "forged", "explain", alert["alert_id"])
    assert told.code == 1
    assert f"it differs: score 0.123 then, {alert['score']} now" in told.out
