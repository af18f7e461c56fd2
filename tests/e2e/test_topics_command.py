"""`tidegate topics` as an operator uses it, on a real Kafka."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from kafka_broker import QUIET
from places import CONFIG, Place

from dataflows.contracts import load_contracts
from dataflows.flows.topology import topology
from dataflows.runtime.config import Config
from services.broker.broker import Broker

pytestmark = pytest.mark.kafka


def admin(url: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": url.removeprefix("kafka://"), **QUIET})


def setting(url: str, topic: str, name: str) -> str:
    client = admin(url)  # kept: its requests end with it
    (found,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return str(found.result()[name].value)


def alter(url: str, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client = admin(url)  # kept: its requests end with it
    for future in client.incremental_alter_configs([resource]).values():
        future.result()


def test_topics_of_a_shop_from_nothing_to_ready(broker: Broker, tmp_path: Path) -> None:
    off = "\n[topics]\ncreate = false\n"
    place = Place(tmp_path, f'bus = "{broker.url}"\n{CONFIG}{off}')
    refused = place.tidegate("up")
    assert refused.returncode == 78
    assert "`tidegate topics apply`" in refused.stderr.splitlines()[-1]

    planned = place.tidegate("topics", "plan", "--json")
    assert planned.returncode == 1
    steps = json.loads(planned.stdout)["steps"]
    wiring = topology(load_contracts(Path(Config().schemas)), Config())
    markers = {f"tidegate.markers.{slot}" for slot in wiring.writer_names()}
    assert {s["topic"] for s in steps} == {*wiring.topics, *markers}
    assert {s["do"] for s in steps} == {"create"}

    applied = place.tidegate("topics", "apply")
    assert applied.returncode == 0, applied.stderr
    assert len(applied.stdout.splitlines()) == len(steps)
    again = place.tidegate("topics", "plan")
    assert (again.returncode, again.stdout.count("\n")) == (0, 1)
    for topic in ("raw.product_catalog", "events.product_catalog"):
        assert setting(broker.url, topic, "retention.ms") == str(365 * 86_400_000)

    service = place.up()
    assert service.stop() == 0, service.stderr
    alter(broker.url, "raw.labels", "message.timestamp.type", "CreateTime")
    refused = place.tidegate("up")
    assert refused.returncode == 78
    assert "raw.labels: records arrive when their client says" in refused.stderr

    place.configure("[partitions]\nclickstream = 3\n")
    planned = place.tidegate("topics", "plan")
    assert "refuse  raw.clickstream: partitions 2 -> 3" in planned.stdout
    refused = place.tidegate("topics", "apply")
    assert refused.returncode == 78
    assert "nothing was done" in refused.stderr
    assert setting(broker.url, "raw.labels", "message.timestamp.type") == "CreateTime"
    place.clean_up()
