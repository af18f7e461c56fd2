"""A rule that floods is throttled and told, and alerts of a device are grouped, on the stream."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flow_bench import Bench
from payments_to_score import START, request, scores

from dataflows.connectors.log import Log
from dataflows.connectors.records import heartbeat
from dataflows.flows.payments import REQUESTS

Make = Callable[..., Bench]
LIMIT = 20
RULE = """
id: {id}
description: A rule.
when: {when}
weight: 0.6
reason: "{{total_amount}}"
owner: fraud
state: live
{more}
"""


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """Everything over 100 is suspicious, but at most twenty times an hour; over 5,000 always."""
    folder = tmp_path / "rules"
    folder.mkdir()
    flooding = RULE.format(
        id="large", when="total_amount >= 100", more=f"max_alerts_per_hour: {LIMIT}"
    )
    (folder / "large.yaml").write_text(flooding)
    (folder / "huge.yaml").write_text(RULE.format(id="huge", when="total_amount >= 5000", more=""))
    return str(folder)


def payments() -> list[bytes | None]:
    """Three hours: one that floods, one that nearly does, one that does; some are huge."""
    euros = [
        200 if number < 60 or number >= 120 or number % 3 == 0 else 50 for number in range(180)
    ]
    euros[30] = euros[45] = 9_000
    return [request(number, each, f"d{number % 2}") for number, each in enumerate(euros)]


def documents(bench: Bench, topic: str) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in bench.records(topic) if record.value]


def end(log: Log) -> None:
    at_us = int((START + timedelta(days=1)).timestamp() * 1e6)
    log.append([heartbeat(REQUESTS, 0, at_us)])


@pytest.mark.parametrize("batch", [1, 7, 1_000])
@pytest.mark.parametrize("crash", [False, True], ids=["undisturbed", "state of long ago"])
def test_alerts_beyond_the_limit_are_held_back_and_told(
    bench: Make, rules: str, tmp_path: Path, batch: int, crash: bool
) -> None:
    made = bench(rules=rules, slots__batch_records=batch)
    everything = payments()
    made.publish(REQUESTS, everything[:70])
    made.run("score")
    (slot,) = made.shop.slots("score")
    shutil.copytree(slot.directory, tmp_path / "before")
    made.publish(REQUESTS, everything[70:])
    made.run("score")
    if crash:
        shutil.rmtree(slot.directory)
        shutil.copytree(tmp_path / "before", slot.directory)
        made = bench(rules=rules, slots__batch_records=batch)
    end(made.log)
    made.run("score")

    suspicious = [s["transaction_id"] for s in scores(made) if s["decision"] != "allow"]
    published = [alert["transaction_id"] for alert in documents(made, "alerts")]
    minutes = [int(name[1:]) for name in published]
    assert len(scores(made)) == 180
    assert minutes == [
        *range(20),  # of the first hour the first twenty, and what is huge
        *(30, 45),
        *range(60, 120, 3),
        *range(120, 140),
    ]
    floods = documents(made, "floods")
    assert [(f["rule"], f["is_over"], f["alerts"], f["held_back"]) for f in floods] == [
        ("large", False, 21, 1),
        ("large", True, 60, 38),
        ("large", False, 21, 1),
        ("large", True, 60, 40),
    ]
    assert {f["first_held_back"] for f in floods} == {"t20", "t140"}
    held_back = sum(f["held_back"] for f in floods if f["is_over"])
    assert len(published) + held_back == len(suspicious)


def test_the_alerts_of_a_device_are_a_group(bench: Make, rules: str) -> None:
    made = bench(rules=rules)
    made.publish(REQUESTS, payments())
    made.run("score")
    alerts = documents(made, "alerts")
    first = {device: next(a for a in alerts if a["device_id"] == device) for device in ("d0", "d1")}
    for device, opener in first.items():
        group = [alert for alert in alerts if alert["device_id"] == device]
        assert {alert["group_id"] for alert in group} == {opener["alert_id"]}
        assert [alert["group_alerts"] for alert in group] == list(range(1, len(group) + 1))


def test_who_is_denied_is_told_whatever_floods(bench: Make, rules: str) -> None:
    lists = Path(rules) / "lists"
    lists.mkdir()
    (lists / "stolen.yaml").write_text(
        "id: stolen\ndescription: Devices.\nowner: fraud\neffect: deny\nof: device_id\n"
        "entries:\n  - {value: d1, note: reported}\n"
    )
    made = bench(rules=rules)
    made.publish(REQUESTS, payments()[:60])
    made.run("score")
    by_device = [alert["device_id"] for alert in documents(made, "alerts")]
    assert by_device.count("d1") == 30
