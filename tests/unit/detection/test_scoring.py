"""From columns to scores, decisions, severities and reasons in words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.detection.decision import (
    DECISIONS,
    SEVERITIES,
    Decision,
    DecisionPolicy,
    PolicyError,
    Severity,
    alert_id,
)
from dataflows.detection.rules import RuleError, RuleSet, parse_rule
from dataflows.detection.scoring import Payers, Scorer
from dataflows.detection.sentences import in_words, parse_sentence
from dataflows.features.catalogue import CATALOGUE
from dataflows.features.columns import Columns, ColumnSpec, Kind, Scalar, Unit, from_rows


def rule(name: str, when: str, weight: float, **more: str) -> str:
    lines = {
        "id": name,
        "description": "A rule.",
        "owner": "fraud",
        "state": "live",
        "when": when,
        "weight": weight,
        "reason": f'"{name}: {{total_amount}} {{currency}}"',
        **more,
    }
    return "".join(f"{key}: {value}\n" for key, value in lines.items())


def rules(*texts: str) -> RuleSet:
    return RuleSet(tuple(parse_rule(text, "r.yaml") for text in texts))


RULES = rules(
    rule("a_large", "total_amount >= 100", 0.5),
    rule("b_foreign", "card_country <> customer_country", 0.4),
    rule("c_burst", "customer_count_10m >= 5", 0.95),
    rule("d_shared", "device_customers_24h >= 3", 0.5, severity="high"),
    rule("e_trial", "total_amount >= 1", 0.9, state="shadow"),
    rule("f_idea", "customer_count_1h >= 0", 1.0, state="draft"),
)


def columns(*rows: dict[str, Scalar | None]) -> Columns:
    return from_rows(CATALOGUE, rows)


def test_scores_decisions_and_severities() -> None:
    given_columns = columns(
        {"total_amount": 20.0},
        {"total_amount": 1200.0, "currency": "EUR"},
        {"total_amount": 100.0, "card_country": "US", "customer_country": "DE"},
        {"customer_count_10m": 6, "total_amount": 0.5},
        {"device_customers_24h": 3, "total_amount": 5.0},
        {},
    )
    scores = Scorer(RULES, DecisionPolicy(medium=0.7)).score(given_columns)
    assert scores.score.tolist() == [0.0, 0.5, 0.7, 0.95, 0.5, 0.0]
    assert [DECISIONS[d] for d in scores.decision] == [
        Decision.ALLOW,
        Decision.REVIEW,
        Decision.REVIEW,
        Decision.BLOCK,
        Decision.REVIEW,
        Decision.ALLOW,
    ]
    assert [SEVERITIES[s] for s in scores.severity[1:5]] == [
        Severity.LOW,
        Severity.MEDIUM,
        Severity.CRITICAL,
        Severity.HIGH,
    ]
    assert scores.alerts.tolist() == [1, 2, 3, 4]
    scorer = Scorer(RULES, DecisionPolicy())
    assert [list(ids) for ids in scorer.rule_ids(scores)] == [
        [],
        ["a_large"],
        ["a_large", "b_foreign"],
        ["c_burst"],
        ["d_shared"],
        [],
    ]
    assert [list(ids) for ids in scorer.shadow_rule_ids(scores)] == [
        *[["e_trial"]] * 3,
        [],
        ["e_trial"],
        [],
    ]


def test_reasons_are_ranked_and_in_words() -> None:
    scorer = Scorer(RULES, DecisionPolicy())
    given_columns = columns(
        {"total_amount": 1234.5, "currency": "EUR", "customer_count_10m": 5},
        {"total_amount": 99.0},
    )
    scores = scorer.score(given_columns)
    assert [(r.rule, r.weight, r.text) for r in scorer.reasons(scores, given_columns, 0)] == [
        ("c_burst", 0.95, "c_burst: 1,234.50 EUR"),
        ("a_large", 0.5, "a_large: 1,234.50 EUR"),
    ]
    assert scorer.reasons(scores, given_columns, 1) == []


weights = st.lists(st.floats(0.01, 1), min_size=1, max_size=6)


@given(weights)
def test_more_evidence_never_lowers_a_score(drawn: list[float]) -> None:
    def score(count: int) -> float:
        texts = [rule(f"r{i}", "total_amount > 0", w) for i, w in enumerate(drawn[:count])]
        scored = Scorer(rules(*texts), DecisionPolicy()).score(columns({"total_amount": 1.0}))
        return float(scored.score[0])

    several = [score(count) for count in range(1, len(drawn) + 1)]
    assert several == sorted(several)
    assert 0 < several[0] <= several[-1] <= 1


def test_batches_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    rows: list[dict[str, Scalar | None]] = [
        {"total_amount": float(a), "customer_count_10m": int(c), "device_customers_24h": int(d)}
        for a, c, d in zip(
            rng.uniform(0, 200, 100), rng.integers(0, 8, 100), rng.integers(0, 5, 100), strict=True
        )
    ]
    scorer = Scorer(RULES, DecisionPolicy())
    whole = scorer.score(columns(*rows)).score.tolist()
    assert [float(scorer.score(columns(row)).score[0]) for row in rows] == whole


def test_a_missing_column_is_named() -> None:
    given_columns = dict(columns({}))
    del given_columns["card_country"]
    with pytest.raises(ValueError, match="columns missing that rules need: card_country"):
        Scorer(RULES, DecisionPolicy()).score(given_columns)


@pytest.mark.parametrize(
    "thresholds",
    [{"review": 0.0}, {"review": 0.95}, {"block": 1.5}, {"medium": 0.8}, {"critical": 0.5}],
)
def test_thresholds_that_make_no_sense_are_refused(thresholds: dict[str, float]) -> None:
    with pytest.raises(PolicyError, match="thresholds"):
        DecisionPolicy(**thresholds)


def test_the_alert_id_is_a_function_of_the_payment() -> None:
    assert alert_id("t-1") == alert_id("t-1") == "e58fd113f086bed0710d0bf52117a4f8"
    assert alert_id("t-1") != alert_id("t-2")


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (1234.5, Unit.MONEY, "1,234.50"),
        (7.0, Unit.COUNT, "7"),
        (12.345, Unit.RATIO, "12.3"),
        (3.0, Unit.HOUR, "03:00"),
        (45.0, Unit.SECONDS, "45 s"),
        (200.0, Unit.SECONDS, "3 min"),
        (7200.0, Unit.SECONDS, "2 h"),
        (400_000.0, Unit.SECONDS, "5 d"),
        (0.5, Unit.NONE, "0.5"),
        (None, Unit.MONEY, "unknown"),
    ],
)
def test_values_in_words(value: float | None, unit: Unit, words: str) -> None:
    assert in_words(value, ColumnSpec("x", Kind.NUMBER, "", unit)) == words


def test_texts_and_booleans_in_words() -> None:
    sentence = parse_sentence("{{{currency}}}, new: {customer_new_device}", CATALOGUE)
    given_columns = columns({"currency": "EUR", "customer_new_device": True}, {})
    assert sentence.render(given_columns, 0) == "{EUR}, new: yes"
    assert sentence.render(given_columns, 1) == "{unknown}, new: unknown"


# --- rolled out in part, snoozed -----------------------------------------------------------------

NOON_US = 1_780_000_000_000_000
MANY = 2_000


def partly(**more: str) -> Scorer:
    live = rule("partly", "total_amount >= 100", 0.6, **more)
    return Scorer(rules(live, RULES_TEXT_SHADOW), DecisionPolicy())


RULES_TEXT_SHADOW = rule("a_trial", "total_amount >= 150", 0.9, state="shadow")


@given(st.integers(1, 100))
def test_a_rollout_counts_for_its_share_and_keeps_whom_it_has(percent: int) -> None:
    users = [f"u{n}" for n in range(MANY)]
    payers = Payers(users, [None] * MANY, np.full(MANY, NOON_US))
    paid = from_rows(CATALOGUE, [{"total_amount": 100.0}] * MANY)
    counted = partly(rollout=str(percent)).score(paid, payers).fired[0]
    assert abs(counted.mean() - percent / 100) < 0.05
    more = partly(rollout=str(min(100, percent + 10))).score(paid, payers).fired[0]
    assert (more | ~counted).all()


def test_where_it_does_not_count_it_is_in_shadow() -> None:
    scorer = partly(snoozed_until="1970-01-01T00:00:10Z")
    paid = columns({"total_amount": 100.0}, {"total_amount": 200.0}, {"total_amount": 200.0})
    payers = Payers(["u"] * 3, [None] * 3, np.array([9_999_999, 9_999_999, 10_000_000]))
    scores = scorer.score(paid, payers)
    assert scores.score.tolist() == [0.0, 0.0, 0.6]
    assert scorer.rule_ids(scores) == [(), (), ["partly"]]
    assert scorer.shadow_rule_ids(scores) == [["partly"], ["a_trial", "partly"], ["a_trial"]]
    everybody = scorer.score(paid)
    assert everybody.score.tolist() == [0.6] * 3
    assert scorer.shadow_rule_ids(everybody) == [(), ["a_trial"], ["a_trial"]]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"rollout": "0"}, "rollout: "),
        ({"rollout": "101"}, "rollout: "),
        ({"snoozed_until": "tomorrow"}, "snoozed_until: "),
        ({"snoozed_until": "2026-12-01"}, "snoozed_until: "),
        ({"state": "alive"}, "state: 'alive' is none of draft, shadow, live, retired"),
    ],
)
def test_what_a_rule_cannot_be_is_named(more: dict[str, str], says: str) -> None:
    with pytest.raises(RuleError, match=r"r\.yaml:\d+: ") as caught:
        rules(rule("r", "total_amount >= 1", 0.5, **more))
    assert says in str(caught.value)


OF_KIND = {
    Kind.NUMBER: st.floats(allow_nan=False) | st.integers(-(2**63), 2**63 - 1),
    Kind.TEXT: st.text(),
    Kind.BOOLEAN: st.booleans(),
}


@given(
    st.sampled_from(list(CATALOGUE.values())).flatmap(
        lambda spec: st.tuples(st.just(spec), st.none() | OF_KIND[spec.kind])
    )
)
def test_no_value_makes_a_reason_raise(shown: tuple[ColumnSpec, Scalar | None]) -> None:
    spec, value = shown
    sentence = parse_sentence(f"so: {{{spec.name}}}", CATALOGUE)
    row = from_rows({spec.name: spec}, [{spec.name: value}])
    assert sentence.render(row, 0).startswith("so: ")
