"""Rule files: the shipped ones hold their word; a bad one is refused by file and line."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from dataflows.detection.rules import (
    CompiledRule,
    RuleError,
    RuleSet,
    RuleState,
    load_rules,
    parse_rule,
)
from dataflows.features.catalogue import CATALOGUE
from dataflows.features.columns import Kind

SHIPPED = Path(__file__).parents[3] / "rules"
RULES = load_rules(SHIPPED)
TYPES = {Kind.NUMBER: pa.float64(), Kind.TEXT: pa.string(), Kind.BOOLEAN: pa.bool_()}

GOOD = """\
id: burst
description: Many payments.
owner: fraud
state: live
when: customer_count_10m >= 5
weight: 0.7
reason: "{customer_count_10m} payments in 10 minutes"
examples:
  fires: [{customer_count_10m: 5}]
  silent: [{customer_count_10m: 4}, {}]
"""


@pytest.mark.parametrize("compiled", RULES.rules, ids=lambda c: c.rule.id)
def test_a_shipped_rule_agrees_with_duckdb_on_its_examples(compiled: CompiledRule) -> None:
    examples = compiled.rule.examples
    assert examples.fires
    assert examples.silent
    rows = [*examples.fires, *examples.silent]
    table = pa.table(
        {
            name: pa.array([row.get(name) for row in rows], TYPES[spec.kind])
            for name, spec in CATALOGUE.items()
        }
    )
    with duckdb.connect() as sql:
        sql.register("payments", table)
        for text in (compiled.predicate.sql("duckdb"), compiled.rule.when):
            answers = sql.execute(f"SELECT coalesce({text}, false) FROM payments").fetchall()
            expected = [True] * len(examples.fires) + [False] * len(examples.silent)
            assert [answer for (answer,) in answers] == expected


def test_the_shipped_rules_are_explained_to_their_authors() -> None:
    readme = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert [name for name in CATALOGUE if f"`{name}`" not in readme] == []


def test_no_shipped_rule_with_a_weight_to_alert_alone_is_silent_about_why() -> None:
    assert all(c.sentence.columns for c in RULES.rules if c.rule.weight >= 0.5)


def test_a_rule_file() -> None:
    compiled = parse_rule(GOOD, "burst.yaml")
    assert compiled.rule.state is RuleState.LIVE
    assert compiled.columns == {"customer_count_10m"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("10m >= 5", "10min >= 5", "r.yaml:5: when: unknown column customer_count_10min: did you"),
        ("customer_count_10m >= 5", "total_amount LIKE 3", "r.yaml:5: when: .*LIKE.*outside"),
        ("{customer_count_10m} pay", "{customer_cnt} pay", "r.yaml:7: reason: unknown column"),
        ("{customer_count_10m} pay", "{customer_count_10m:.2f} pay", "must be a column's name"),
        ("{customer_count_10m} pay", "{customer_count_10m pay", "r.yaml:7: reason: .*brace"),
        ("weight: 0.7", "weight: 7", r"r.yaml:6: weight: expected `float` <= 1"),
        ("weight: 0.7", "weight: high", "r.yaml:6: weight: expected `float`"),
        ("state: live", "state: on", "r.yaml:4: state: "),
        (
            "state: live",
            "state: lively",
            "r.yaml:4: state: 'lively' is none of draft, shadow, live, retired",
        ),
        ("owner: fraud", "onwer: fraud", "owner|onwer"),
        (
            "owner: fraud\n",
            "owner: fraud\nonwer: me\n",
            "r.yaml:4: onwer: there is no such field: there are id",
        ),
        ("owner: fraud\n", "", "r.yaml: .*missing required field `owner`"),
        ("weight: 0.7", "weight: 0.7\nweight: 0.1", "r.yaml:7: weight: given twice"),
        ("id: burst", "id: Burst!", "r.yaml:1: id: expected `str` matching"),
        ("fires: [{customer_count_10m: 5}]", "fires: [{}]", r"fires\[0\]: .*does not fire"),
        ("10m: 4}", "10m: 9}", r"r.yaml:10: examples.silent\[0\]: the rule fires on it"),
        ("10m: 4}", "10m: true}", "customer_count_10m is a number, True is not"),
        ("{}]", "{shipping_country: NO}]", "shipping_country is a text, False is not, quote it"),
        ("{}]", "{shiping_country: DE}]", "did you mean shipping_country"),
        ("when: c", "when: [c", "r.yaml:.*not YAML"),
        (GOOD, "", "r.yaml: is not made of `field: value` lines"),
        (GOOD, "- a\n- b\n", "r.yaml: is not made of `field: value` lines"),
        (GOOD, "a: \x00", "r.yaml.*not YAML"),
    ],
)
def test_a_bad_rule_file_is_refused(old: str, new: str, says: str) -> None:
    text = GOOD.replace(old, new)
    assert text != GOOD
    with pytest.raises(RuleError, match=says):
        parse_rule(text, "r.yaml")


def test_a_folder_of_rules(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="no rules here; add a file"):
        load_rules(tmp_path)
    (tmp_path / "other.yaml").write_text(GOOD)
    with pytest.raises(RuleError, match=r"id: burst belongs in burst\.yaml"):
        load_rules(tmp_path)
    (tmp_path / "other.yaml").rename(tmp_path / "burst.yml")
    with pytest.raises(RuleError, match=r"name it burst\.yaml"):
        load_rules(tmp_path)
    (tmp_path / "burst.yml").rename(tmp_path / "burst.yaml")
    assert [c.rule.id for c in load_rules(tmp_path).live] == ["burst"]
    (tmp_path / "burst.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(RuleError, match=r"burst\.yaml: cannot be read"):
        load_rules(tmp_path)
    with pytest.raises(RuleError, match="no rules can be read here"):
        load_rules(tmp_path / "nowhere")


def test_the_version_follows_what_can_change_an_alert() -> None:
    def version(*texts: str) -> str:
        return RuleSet(tuple(parse_rule(text, "r.yaml") for text in texts)).version

    other = GOOD.replace("id: burst", "id: another")
    assert version(GOOD, other) == version(other, GOOD)
    assert version(GOOD) != version(GOOD.replace("0.7", "0.6"))
    assert version(GOOD) != version(GOOD.replace("live", "shadow"))
    assert version(GOOD) == version(GOOD.replace("Many payments.", "A lot of payments."))
    assert version(GOOD) == version(GOOD, other.replace("live", "draft"))
