"""The service on a real Kafka, as somebody runs it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient
from kafka_broker import QUIET
from places import CONFIG, Place

from services.broker.broker import Broker

pytestmark = [pytest.mark.slow, pytest.mark.kafka]


@pytest.fixture
def place(tmp_path: Path, broker: Broker) -> Iterator[Place]:
    made = Place(tmp_path, f'bus = "{broker.url}"\n{CONFIG}')
    yield made
    made.clean_up()


def test_a_service_takes_in_a_shop_and_everything_adds_up(place: Place, broker: Broker) -> None:
    service = place.up()
    done = place.tidegate("simulate", "--events", "3000", "--days", "3", "--customers", "30")
    assert done.returncode == 0, done.stderr
    place.wait_until_drained()
    status = json.loads(place.tidegate("status", "--json").stdout)
    assert {slot["lag_records"] for slot in status["slots"]} == {0}
    statuses = place.statuses()
    assert {s.difference for s in statuses} == {0}
    records_in = {flow: sum(s.records_in for s in statuses if s.flow == flow) for flow in FLOWS}
    assert all(records_in.values()), records_in
    assert service.stop() == 0, service.stderr

    sessionized = next(s for s in statuses if s.flow == "sessionize")
    admin = AdminClient({"bootstrap.servers": broker.url.removeprefix("kafka://"), **QUIET})
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("tidegate.sessionize")])
    (group,) = [future.result() for future in asked.values()]
    committed = {(at.topic, at.partition): at.offset for at in group.topic_partitions}
    assert committed[sessionized.topic, sessionized.partition] == sessionized.offset


FLOWS = ("ingest", "sessionize", "features", "score", "late", "load")


@pytest.mark.survives(11)
def test_no_broker_is_said_in_one_line_within_thirty_seconds(tmp_path: Path) -> None:
    place = Place(tmp_path, f'bus = "kafka://127.0.0.1:1"\n{CONFIG}')
    started = time.monotonic()
    done = place.tidegate("up")
    assert time.monotonic() - started < 32
    assert done.returncode == 75
    (line,) = [line for line in done.stderr.splitlines() if "no broker answers" in line]
    assert line.startswith("tidegate: kafka://127.0.0.1:1: topics: no broker answers")
