"""Who is on a list: denied, or never alerted, for as long as the entry says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataflows.detection.decision import DECISIONS, Decision, DecisionPolicy
from dataflows.detection.rules import RuleError, load_rules, parse_rules, rule_texts
from dataflows.detection.scoring import Payers, Scorer
from dataflows.features.catalogue import CATALOGUE
from dataflows.features.columns import from_rows

RULE = """\
id: large
description: A large payment.
owner: fraud
state: live
when: total_amount >= 100
weight: 0.7
reason: large
"""
STOLEN = """\
id: stolen
description: Devices that were stolen.
owner: fraud
effect: deny
of: device_id
entries:
  - {value: d1, note: police report 4711}
  - {value: d2, note: returned on the first, until: "1970-01-01T00:00:10Z"}
"""
TRUSTED = """\
id: trusted
description: Buyers for the company itself.
owner: fraud
effect: allow
of: user_id
entries:
  - {value: u1, note: our own office}
"""
TEXTS = {"large": RULE, "lists/stolen": STOLEN, "lists/trusted": TRUSTED}
SCORER = Scorer(parse_rules(TEXTS, "rules"), DecisionPolicy())


def test_deny_blocks_allow_lets_pass_and_deny_has_the_last_word() -> None:
    payers = Payers(
        ["u0", "u0", "u0", "u1", "u1", "u0"],
        ["d1", "d2", "d2", "d9", "d1", None],
        np.array([0, 9_999_999, 10_000_000, 0, 0, 0]),
    )
    paid = from_rows(CATALOGUE, [{"total_amount": amount} for amount in (5, 5, 5, 500, 5, 500)])
    scores = SCORER.score(paid, payers)
    block, allow, review = (
        DECISIONS.index(each) for each in (Decision.BLOCK, Decision.ALLOW, Decision.REVIEW)
    )
    assert scores.decision.tolist() == [block, block, allow, allow, block, review]
    assert scores.score.tolist() == [1.0, 1.0, 0.0, 0.7, 1.0, 0.7]
    assert scores.alerts.tolist() == [0, 1, 4, 5]
    assert [list(ids) for ids in SCORER.rule_ids(scores)] == [
        ["stolen"],
        ["stolen"],
        [],
        ["large", "trusted"],
        ["stolen", "trusted"],
        ["large"],
    ]
    (reason,) = SCORER.reasons(scores, paid, 0, payers)
    assert (reason.rule, reason.weight) == ("stolen", 1.0)
    assert reason.text == "device_id d1 is on the list stolen: police report 4711"


def test_lists_stand_in_a_folder_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    assert rule_texts(tmp_path) == TEXTS
    assert load_rules(tmp_path).version == SCORER.rules.version
    assert [each.id for each in SCORER.rules.lists] == ["stolen", "trusted"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("effect: deny", "effect: block", r"stolen.yaml:4: effect: 'block' is none of deny, allow"),
        ("of: device_id", "of: card_id", r"stolen.yaml:5: of: 'card_id' is none of user_id, dev"),
        ("value: d2", "value: d1", r"stolen.yaml:8: entries\[1\].value: d1 is there twice"),
        (", note: police report 4711", "", r"stolen.yaml:7: entries\[0\]: .*missing.* `note`"),
        ("note: police", "why: police", r"entries\[0\].why: there is no such field: there are val"),
        ("until: ", "til: ", r"entries\[1\].til: there is no such field"),
        ("id: stolen", "id: lost", r"lists/stolen.yaml: id: lost belongs in lost.yaml"),
        ('"1970-01-01T00:00:10Z"', "soon", r"stolen.yaml:8: entries\[1\].until: "),
    ],
)
def test_a_bad_list_is_refused(old: str, new: str, says: str) -> None:
    assert old in STOLEN
    with pytest.raises(RuleError, match=says):
        parse_rules(TEXTS | {"lists/stolen": STOLEN.replace(old, new)}, "rules")


def test_a_list_is_called_otherwise_than_every_rule() -> None:
    other = STOLEN.replace("id: stolen", "id: large")
    with pytest.raises(RuleError, match=r"lists/large.yaml: id: a rule is called so, too"):
        parse_rules({"large": RULE, "lists/large": other}, "rules")
