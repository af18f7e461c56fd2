"""What separates two rule sets: every difference that decides is seen, and nothing else."""

from __future__ import annotations

import msgspec
import pytest

from dataflows.detection.rules import RuleSet, parse_rules
from services.rules.plan import Kind, plan_rules
from services.rules.terminal import plan_lines

CARD = """\
id: card
description: Many cards.
owner: fraud
state: live
when: customer_distinct_cards_1h >= 3
weight: 0.8
reason: many cards
"""
NIGHT = CARD.replace("card\n", "night\n", 1).replace("live", "shadow")


def rules(*texts: str) -> RuleSet:
    return parse_rules({text.split()[1]: text for text in texts}, "rules")


def test_the_same_texts_are_no_difference() -> None:
    plan = plan_rules(rules(CARD, NIGHT), rules(NIGHT, CARD))
    assert plan.changes_nothing
    assert "rules/ is the same" in plan_lines(plan)[0]


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("state: live", "state: retired", "state"),
        ("weight: 0.8", "weight: 0.7", "weight"),
        (">= 3", ">= 4", "when"),
        ("reason: many", "reason: very many", "reason"),
        ("owner: fraud", "owner: risk", "owner"),
        ("weight: 0.8", "weight: 0.8\nseverity: high", "severity"),
        ("weight: 0.8", "weight: 0.8\nrollout: 5", "rollout"),
        ("weight: 0.8", "weight: 0.8\nsnoozed_until: 2026-12-01T08:00:00Z", "snoozed_until"),
    ],
)
def test_each_field_that_is_changed_is_named(old: str, new: str, field: str) -> None:
    before, after = rules(CARD), rules(CARD.replace(old, new))
    (step,) = plan_rules(before, after).steps
    assert (step.do, step.rule, [each.field for each in step.fields]) == (
        Kind.CHANGE,
        "card",
        [field],
    )
    assert (before.version == after.version) == (field == "owner")


def test_the_plan_as_people_read_it() -> None:
    changed = CARD.replace("weight: 0.8", "weight: 0.6\nrollout: 5")
    other = CARD.replace("card\n", "device\n", 1)
    plan = plan_rules(rules(CARD, NIGHT), rules(changed, other))
    assert plan_lines(plan)[1:] == [
        "change  card",
        "        rollout: 100 -> 5",
        "        weight: 0.8 -> 0.6",
        "add     device: state live",
        "      ! goes live without having been in shadow: `tidegate rules backtest device`",
        "remove  night",
    ]
    assert msgspec.json.decode(msgspec.json.encode(plan))["steps"][1]["do"] == "add"


def test_a_first_plan_says_that_the_log_takes_over() -> None:
    lines = plan_lines(plan_rules(None, rules(CARD)))
    assert lines[0].startswith("In force: nothing that was applied; in rules/: ")
    assert "only applied sets count" in lines[1]
    assert lines[2:] == ["add     card: state live"]


LIST = """\
id: stolen
description: Devices that were stolen.
owner: fraud
effect: deny
of: device_id
entries:
  - {value: d1, note: police report}
  - {value: d2, note: police report, until: 2026-12-01T00:00:00Z}
"""


def with_list(text: str) -> RuleSet:
    return parse_rules({"card": CARD, "lists/stolen": text}, "rules")


def test_entries_of_lists_are_named() -> None:
    changed = LIST.replace("d1", "d3").replace("2026-12-01", "2026-12-02")
    assert plan_lines(plan_rules(with_list(LIST), with_list(changed)))[1:] == [
        "change  lists/stolen",
        "        d1: until ever -> not set",
        "        d2: until 2026-12-01 00:00:00+00:00 -> until 2026-12-02 00:00:00+00:00",
        "        d3: not set -> until ever",
    ]
    assert with_list(LIST).version != with_list(changed).version
    (step,) = plan_rules(rules(CARD), with_list(LIST)).steps
    assert (step.do, step.rule) == (Kind.ADD, "lists/stolen")
