"""A rule set that is applied holds from its control record on, whatever happens before or after."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from command_line import CommandLine
from flow_bench import Bench
from payments_to_score import START, pay, scores

from dataflows.connectors.log import Log
from dataflows.detection.rules import RuleError, rule_texts
from dataflows.flows.in_force import applied_rules
from dataflows.flows.payments import REQUESTS
from dataflows.flows.topology import RULE_SETS
from dataflows.runtime.config import load_config
from dataflows.runtime.recovery import reset_recovery
from services.broker.broker import Broker
from services.rules.apply import apply
from services.status.slots import slot_statuses

Make = Callable[..., Bench]
HOUSE_RULES = Path(load_config().rules)


def put_in_force(bench: Bench, **changed: tuple[str, str]) -> str:
    """Applies the house's rules with a text in a rule replaced; the version."""
    texts = rule_texts(HOUSE_RULES)
    for rule, (old, new) in changed.items():
        assert old in texts[rule]
        texts[rule] = texts[rule].replace(old, new)
    return apply(bench.shop, texts, "a test").version


def sets_of(bench: Bench) -> list[str]:
    return [score["rule_set"] for score in scores(bench)]


HEAVIER = ("weight: 0.1", "weight: 0.7")


@pytest.mark.parametrize("batch", [1, 3, 1_000])
@pytest.mark.parametrize("between", [False, True], ids=["at the end", "in between"])
def test_each_payment_is_judged_by_the_set_before_it(
    bench: Make, batch: int, between: bool
) -> None:
    made = bench(slots__batch_records=batch)
    expected = []
    for change in ({}, {"high_amount": HEAVIER}, {"card_burst": ("0.75", "0.9")}):
        version = put_in_force(made, **change) if change else made.shop.rules.version
        pay(made, 5)
        expected += [version] * 5
        if between:
            made.run("score")
    made.run("score")
    assert sets_of(made) == expected
    assert [score["score"] for score in scores(made)] == [0.1] * 5 + [0.7] * 5 + [0.1] * 5
    (status,) = slot_statuses(made.shop, ("score",))
    assert (status.records_in, status.difference) == (15, 0)


def test_after_a_crash_it_goes_on_with_the_set_that_was_in_force(
    bench: Make, tmp_path: Path
) -> None:
    rules = tmp_path / "rules"
    shutil.copytree(HOUSE_RULES, rules)
    made = bench(rules=str(rules))
    pay(made, 3)
    made.run("score")
    (slot,) = made.shop.slots("score")
    shutil.copytree(slot.directory, tmp_path / "before")
    version = put_in_force(made, high_amount=HEAVIER)
    pay(made, 3)
    made.run("score")
    published = made.records("scores")

    # What kill -9 leaves; and a folder that nobody could start with.
    shutil.rmtree(slot.directory)
    shutil.copytree(tmp_path / "before", slot.directory)
    again = bench(rules=str(rules))
    pay(again, 3)
    again.run("score")
    assert again.records("scores")[:6] == published
    assert sets_of(again)[6:] == [version] * 3
    (rules / "broken.yaml").write_text("id: broken")
    with pytest.raises(RuleError, match="broken"):
        _ = bench(rules=str(rules)).shop.rules
    broken = bench(rules=str(rules))
    pay(broken, 1)
    broken.run("score")
    assert sets_of(broken)[9:] == [version]


def test_without_state_it_finds_the_set_that_retention_has_removed(bench: Make) -> None:
    now = [START]
    made = bench(clock=lambda: int(now[0].timestamp() * 1e6))
    version = put_in_force(made, high_amount=HEAVIER)
    pay(made, 2)
    made.run("score")
    now[0] += timedelta(days=90)
    pay(made, 2)
    keep = {topic: made.shop.topology.keep_s[topic] for topic in (REQUESTS, RULE_SETS)}
    made.log.apply_retention(int(now[0].timestamp() * 1e6), keep)
    low, high = made.log.offsets(REQUESTS, 0)
    assert high - low == 2
    (slot,) = made.shop.slots("score")
    reset_recovery(slot.directory)
    made.run("score")
    assert sets_of(made)[-2:] == [version] * 2
    pay(made, 1)
    made.run("score")
    assert sets_of(made)[-1] == version


def test_a_rule_rolled_out_or_snoozed_is_in_shadow_for_others(bench: Make) -> None:
    made = bench()
    until = (START + timedelta(minutes=30)).isoformat()
    put_in_force(
        made,
        high_amount=("state: live", f"state: live\nrollout: 40\nsnoozed_until: {until}"),
    )
    pay(made, 230)
    made.run("score")
    found = scores(made)
    for score in found:
        fired = score["rules"] + score["shadow_rules"]
        assert fired == ["high_amount"]
        assert (score["score"] == 0.1) == ("high_amount" in score["rules"])
    snoozed = [score for score in found if score["event_timestamp"] < until[:19]]
    later = found[len(snoozed) :]
    assert len(snoozed) == 29  # one offset is the control record's
    assert not any(score["rules"] for score in snoozed)
    assert 0.25 < sum(bool(score["rules"]) for score in later) / len(later) < 0.55


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_on_kafka_every_partition_has_it_at_once(bench: Make, broker: Broker) -> None:
    made = bench(bus=broker.url, partitions={"transactions": 3})
    applied = put_in_force(made, high_amount=HEAVIER)
    pay(made, 3)
    made.run("score")
    assert sets_of(made) == [applied] * 3
    assert controls(made.log) == [1, 1, 1]
    with_note = apply(made.shop, rule_texts(HOUSE_RULES), "back again")
    assert (with_note.number, controls(made.log)) == (2, [2, 2, 2])
    assert [each.number for each in applied_rules(made.log)] == [1, 2]


def controls(log: Log) -> list[int]:
    """How many control records each partition holds."""
    found = []
    for partition in range(3):
        low, high = log.offsets(REQUESTS, partition)
        reader = log.reader(REQUESTS, partition, low)
        count = 0
        while reader.position < high:
            records = reader.read(1_000)
            count += sum(len(headers) == 2 for headers in records.headers or ())
        reader.close()
        found.append(count)
    return found


@pytest.fixture
def tidegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    shutil.copytree(HOUSE_RULES, tmp_path / "rules")
    monkeypatch.setenv("TIDEGATE_RULES", str(tmp_path / "rules"))
    return CommandLine(tmp_path, monkeypatch, capfd)


def test_plan_apply_and_history(tidegate: CommandLine, tmp_path: Path) -> None:
    first = tidegate("-d", "shop", "rules", "plan")
    assert first.code == 1
    assert "In force: nothing that was applied" in first.out
    assert "No rule set was applied yet" in tidegate("-d", "shop", "rules", "history").out
    done = tidegate("-d", "shop", "rules", "apply", "--note", "to begin with")
    assert done.code == 0
    assert "Applied as number 1: rule set " in done.out
    same = tidegate("-d", "shop", "rules", "plan")
    assert (same.code, "rules/ is the same" in same.out) == (0, True)
    rule = tmp_path / "rules" / "night_owl.yaml"
    rule.write_text(rule.read_text().replace("state: shadow", "state: live"))
    (tmp_path / "rules" / "card_burst.yaml").unlink()
    changed = tidegate("-d", "shop", "rules", "plan")
    assert changed.code == 1
    assert changed.out.splitlines()[1:] == [
        "remove  card_burst",
        "      ! it was live: `state: retired` would keep it to be read",
        "change  night_owl",
        "        state: shadow -> live",
    ]
    again = json.loads(tidegate("-d", "shop", "rules", "apply", "--json").out)
    assert again["applied"] == 2
    nothing = json.loads(tidegate("-d", "shop", "rules", "apply", "--json").out)
    assert nothing["applied"] is None
    kept = json.loads(tidegate("-d", "shop", "rules", "history", "--json").out)
    assert [(each["number"], each["note"]) for each in kept] == [(1, "to begin with"), (2, "")]
    assert "card_burst" in kept[0]["files"]
    assert "card_burst" not in kept[1]["files"]


def test_a_rule_that_cannot_be_used_is_named_and_nothing_is_applied(
    tidegate: CommandLine, tmp_path: Path
) -> None:
    rule = tmp_path / "rules" / "night_owl.yaml"
    rule.write_text(rule.read_text().replace("state: shadow", "state: alive"))
    refused = tidegate("-d", "shop", "rules", "apply")
    assert refused.code == 78
    assert "night_owl.yaml:6: state: " in refused.err
    assert "No rule set was applied yet" in tidegate("-d", "shop", "rules", "history").out
