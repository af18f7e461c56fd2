"""A backtest sees what the stream saw, and its figures are those of plain counting."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import date
from math import prod
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command_line import CommandLine
from past import Past

from dataflows.detection.rules import parse_rule
from services.backtest.backtest import backtest
from services.history.features import open_history
from services.history.payments import AT_ONCE

DRAFT = """\
id: cheap
description: Small payments.
owner: me
state: draft
when: total_amount < 60 AND customer_count_24h >= 2
weight: 0.5
reason: "{total_amount} {currency}"
"""


def test_every_rule_fires_on_the_payments_on_which_it_fired_on_the_stream(past: Past) -> None:
    seen = {
        score["transaction_id"]: {*score["rules"], *score["shadow_rules"]} for score in past.scores
    }
    running = (*past.rules.live, *past.rules.shadow)
    found: dict[str, set[str]] = {name: set() for name in seen}
    for rule in running:
        query = f"SELECT transaction_id FROM read_parquet(?) WHERE {rule.predicate.sql('duckdb')}"
        for (name,) in duckdb.execute(query, [str(past.history.payments)]).fetchall():
            found[name].add(rule.rule.id)
    assert found == seen
    fired = Counter(rule for rules in seen.values() for rule in rules)
    assert len(fired) >= 8  # or this would prove little


def test_figures_of_a_live_rule_are_those_of_plain_counting(past: Past) -> None:
    rule = max(
        ("card_burst", "foreign_card", "takeover_spending"), key=lambda r: past.run(r).hits.fraud
    )
    answer = past.run(rule, first=date(2026, 3, 2), last=date(2026, 4, 11))
    hits = [score for score in past.scores if rule in score["rules"]]
    fraud, legitimate, _ = past.verdicts(hits)
    all_fraud = past.verdicts(past.scores)[0]
    assert fraud > 0
    assert (answer.hits.fraud, answer.hits.legitimate, answer.hits.unlabelled) == past.verdicts(
        hits
    )
    assert answer.payments.payments == len(past.scores)
    assert answer.precision == fraud / (fraud + legitimate)
    assert answer.least_precision == fraud / len(hits)
    assert answer.recall == fraud / all_fraud
    amounts = [
        float(s["total_amount"]) for s in past.scores if past.is_fraud.get(s["transaction_id"])
    ]
    caught = [float(s["total_amount"]) for s in hits if past.is_fraud.get(s["transaction_id"])]
    assert answer.recall_of_amount == pytest.approx(sum(caught) / sum(amounts))
    assert answer.alone.payments == sum(score["rules"] == [rule] for score in hits)
    others = Counter(other for score in hits for other in score["rules"] if other != rule)
    assert {o.rule: o.hits for o in answer.overlap} == others
    decided = Counter(score["decision"] for score in past.scores)
    assert answer.alerts_with.reviewed == pytest.approx(decided["review"] / answer.days)
    assert answer.alerts_with.blocked == pytest.approx(decided["block"] / answer.days)
    without = [noisy_or(past, set(score["rules"]) - {rule}) for score in past.scores]
    assert answer.alerts_without.blocked == pytest.approx(
        sum(s >= 0.9 for s in without) / answer.days
    )
    reviewed = sum(0.5 <= score < 0.9 for score in without)
    assert answer.alerts_without.reviewed == pytest.approx(reviewed / answer.days)


def noisy_or(past: Past, rules: set[str]) -> float:
    weights = {compiled.rule.id: compiled.rule.weight for compiled in past.rules.rules}
    return round(1 - prod(1 - weights[rule] for rule in rules), 6)


def test_a_draft_is_judged_beside_the_live_rules_on_the_days_asked_for(past: Past) -> None:
    first, last = date(2026, 3, 8), date(2026, 3, 10)
    answer = past.run(DRAFT, first=first, last=last)
    there = [s for s in past.scores if str(first) <= s["event_timestamp"][:10] <= str(last)]
    assert answer.days == 3
    assert answer.payments.payments == len(there)
    decided = Counter(score["decision"] for score in there)
    assert answer.alerts_without.reviewed == pytest.approx(decided["review"] / 3)
    assert answer.alerts_with.reviewed > answer.alerts_without.reviewed
    assert all(case.total_amount < 60 for case in answer.cases)
    assert len({case.transaction_id for case in answer.cases}) == len(answer.cases) == 10
    assert answer == past.run(DRAFT, first=first, last=last)
    alone = [s for s in there if not s["rules"]]
    assert 0 < answer.alone.payments <= len(alone)


def test_a_rule_that_never_fires(past: Past, tidegate: Callable[..., Any]) -> None:
    never = DRAFT.replace("total_amount < 60", "total_amount < 0")
    answer = backtest(past.history, parse_rule(never, "draft.yaml"), [], date(2026, 3, 2))
    assert answer.payments.payments == len(past.scores)
    assert (answer.hits.payments, answer.precision, answer.recall) == (0, None, 0.0)
    assert (answer.alerts_with.reviewed, answer.cases) == (0.0, [])
    (past.bench.shop.config.data_path / "never.yaml").write_text(never)
    told = tidegate("backtest", past.bench.shop.config.data_path / "never.yaml")
    assert told.out.splitlines()[-1] == "it fires on none of them"


def test_the_past_is_made_once_until_the_lake_has_changed(past: Past) -> None:
    config = past.bench.shop.config
    said: list[int] = []
    assert open_history(config, said.append).payments == past.history.payments
    assert said == []
    (config.data_path / "history" / "making").mkdir()  # one that was killed
    (config.data_path / "history" / "making" / "half").touch()
    newer = sorted((config.lake_path / "transactions").rglob("*.parquet"))[-1]
    away = newer.rename(newer.with_suffix(".away"))
    fewer = open_history(config, said.append)
    away.rename(newer)
    assert 0 < said[-1] < len(past.scores) < AT_ONCE
    assert not past.history.payments.exists()
    assert fewer.payments.exists()
    assert open_history(config).payments == past.history.payments


@pytest.fixture
def tidegate(
    past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    (tmp_path / "draft.yaml").write_text(DRAFT)
    command = CommandLine(tmp_path, monkeypatch, capfd)
    data = past.bench.shop.config.data_path
    return lambda *words: command("-d", data, "rules", *words)


def test_what_people_and_programs_read(past: Past, tidegate: Callable[..., Any]) -> None:
    told = tidegate("backtest", "draft.yaml", "--cases", "2")
    assert told.code == 0, told.err
    answer = past.run(DRAFT, cases=2)
    lines = told.out.splitlines()
    assert lines[0] == "cheap (draft): total_amount < 60 AND customer_count_24h >= 2"
    assert f"{answer.payments.payments:,} payments, of which" in lines[1]
    assert [line.split()[0] for line in lines[3:10]] == [
        *("hits", "verdicts", "precision", "recall", "alone", "overlap", "alerts")
    ]
    assert [
        case.transaction_id in line for case, line in zip(answer.cases, lines[12:], strict=True)
    ] == [True, True]
    as_json = json.loads(tidegate("backtest", "draft.yaml", "--cases", "0", "--json").out)
    assert as_json["hits"]["fraud"] == answer.hits.fraud
    listed = tidegate("list")
    assert (
        listed.out.splitlines()[-1]
        == f"{len(past.rules.rules)} rules, version {past.rules.version}"
    )


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (
            "card_brust",
            78,
            "card_brust: there is no such rule, and it is no .yaml file: did you mean card_burst?",
        ),
        ("none.yaml", 78, "none.yaml: cannot be read"),
        ("bad.yaml", 78, "bad.yaml:5: when: unknown column amount"),
        ("card_burst --from 2026-3-1", 2, "--from '2026-3-1': write a day as 2026-05-31"),
        (
            "card_burst --from 2026-03-05 --to 2026-03-04",
            78,
            "--from 2026-03-05 is after --to 2026-03-04",
        ),
        ("card_burst --to 2020-01-01", 78, "there is no payment from 2019-12-03 to 2020-01-01"),
    ],
)
def test_what_is_wrong_is_named(
    words: str, code: int, says: str, tidegate: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text(DRAFT.replace("total_amount < 60", "amount < 60"))
    refused = tidegate("backtest", *words.split())
    assert refused.code == code
    assert says in " ".join(refused.err.split())
    assert refused.out == ""


def test_without_a_lake_it_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = CommandLine(tmp_path, monkeypatch, capfd)(
        "-d", "empty", "rules", "backtest", "card_burst"
    )
    assert refused.code == 78
    assert "empty/lake: no payments in the lake" in refused.err
