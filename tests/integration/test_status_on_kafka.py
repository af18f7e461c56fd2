"""What `status` says of a Kafka: transactions that hang, groups that strayed, settings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from flow_bench import Bench
from kafka_broker import QUIET

from dataflows.connectors.kafka_markers import marker_topic
from services.broker.broker import Broker
from services.status.bus import BusFindings, bus_findings
from services.status.slots import slot_statuses

pytestmark = pytest.mark.kafka

SLOT = "sessionize.events.clickstream.0"
EVENT = {
    "event_id": "e1",
    "event_type": "page_view",
    "user_id": "u1",
    "event_timestamp": "2026-05-01T12:00:00Z",
}


@pytest.fixture
def shop(broker: Broker, tmp_path: Path) -> Iterator[Bench]:
    """Clicks that have gone through ingest and sessionize."""
    bench = Bench(tmp_path / "data", bus=broker.url)
    events = [json.dumps(EVENT | {"event_id": f"e{n}"}).encode() for n in range(5)]
    bench.publish("raw.clickstream", list(events))
    bench.run("ingest", topic="raw.clickstream")
    bench.run("sessionize")
    yield bench
    bench.log.close()


def findings(bench: Bench) -> BusFindings:
    return bus_findings(bench.shop, slot_statuses(bench.shop, ("ingest", "sessionize")))


def test_what_is_wrong_is_named_and_nothing_else(broker: Broker, shop: Bench) -> None:
    servers: dict[str, str | int | float | bool] = {
        "bootstrap.servers": broker.url.removeprefix("kafka://")
    }
    admin = AdminClient(servers | QUIET)
    assert list(findings(shop).lines()) == []

    hanging = Producer({**servers, "transactional.id": f"tidegate.{SLOT}"})
    hanging.init_transactions(10)
    hanging.begin_transaction()
    hanging.produce(marker_topic(SLOT), b"never committed", SLOT.encode(), 0)
    hanging.produce("sessions", b"never committed", b"u1", 0)
    hanging.flush(10)
    group = ConsumerGroupTopicPartitions(
        "tidegate.ingest", [TopicPartition("raw.clickstream", 0, 2)]
    )
    for future in admin.alter_consumer_group_offsets([group]).values():
        future.result()
    entry = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, "sessions", incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()

    found = findings(shop)
    assert {(h.topic, h.partition, h.slot) for h in found.hanging} == {
        (marker_topic(SLOT), 0, SLOT),
        ("sessions", 0, None),
    }
    (marked,) = [h for h in found.hanging if h.slot]
    assert marked.published_by is not None
    assert marked.published_by.endswith(f"/{os.getpid()}")
    assert [(s.slot, s.committed, s.offset) for s in found.strayed] == [
        ("ingest.raw.clickstream.0", 2, 5)
    ]
    assert found.topics == 1
    lines = list(found.lines())
    assert any(f"transaction of slot {SLOT} (last published by" in line for line in lines)

    shop.log.writer(SLOT).close()  # as its next start does
    assert findings(shop).hanging == []
