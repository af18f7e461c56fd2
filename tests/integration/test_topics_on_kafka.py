"""`tidegate topics plan` and `apply` against a real broker: settings that hold, nothing lost."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from kafka_broker import QUIET
from places import wait_until

from dataflows.connectors.kafka import KafkaLog
from dataflows.connectors.log import LogError, Marker, TopicPolicy, UnknownTopic

pytestmark = pytest.mark.kafka

HOUR_S, HOUR_MS = 3_600.0, "3600000"


@pytest.fixture
def log(kafka_url: str) -> Iterator[KafkaLog]:
    opened = KafkaLog(kafka_url)
    yield opened
    opened.close()


@pytest.fixture
def topic(kafka_url: str) -> Callable[[Mapping[str, str]], str]:
    """Makes a topic as somebody else would, with these settings."""
    name = f"foreign.{secrets.token_hex(4)}"

    def make(settings: Mapping[str, str]) -> str:
        client = admin(kafka_url)
        made = client.create_topics([NewTopic(name, 1, 1, config=dict(settings))])
        made[name].result()
        wait_until(lambda: known(kafka_url, name), "the broker to know the topic")
        return name

    return make


def admin(url: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": url.removeprefix("kafka://"), **QUIET})


def known(url: str, topic: str) -> bool:
    client = admin(url)
    return topic in client.list_topics(timeout=10).topics


def await_setting(url: str, topic: str, name: str, value: str) -> None:
    """Brokers learn of a change a moment after it was answered."""
    wait_until(lambda: settings(url, topic)[name] == value, f"{name} of {topic} to be {value}")


def settings(url: str, topic: str) -> dict[str, str]:
    client = admin(url)  # kept: its requests end with it
    (found,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return {name: entry.value for name, entry in found.result().items()}


def alter(url: str, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client = admin(url)  # kept: its requests end with it
    for future in client.incremental_alter_configs([resource]).values():
        future.result()
    await_setting(url, topic, name, value)


def test_a_foreign_topic_gets_the_settings_that_matter(
    kafka_url: str, log: KafkaLog, topic: Callable[[Mapping[str, str]], str]
) -> None:
    name = topic({"retention.ms": "1000", "cleanup.policy": "compact"})
    assert log.clients_set_arrival([name]) == [name]
    wanted, keep = {name: 1}, {name: HOUR_S}
    steps = log.plan_topics(wanted, keep, [])
    assert {(s.setting, s.now, s.wanted) for s in steps if s.do == "set"} == {
        ("message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("max.message.bytes", "1048588", str(16 * 2**20)),
        ("cleanup.policy", "compact", "delete"),
        ("retention.ms", "1000", HOUR_MS),
    }
    log.apply_topics(steps, wanted, keep)
    await_setting(kafka_url, name, "retention.ms", HOUR_MS)
    assert log.plan_topics(wanted, keep, []) == []
    assert log.clients_set_arrival([name]) == []


@pytest.mark.parametrize("now", ["86400000", "-1"])
def test_records_are_kept_shorter_only_by_an_explicit_word(
    kafka_url: str, log: KafkaLog, topic: Callable[[Mapping[str, str]], str], now: str
) -> None:
    name = topic({"retention.ms": now, "max.message.bytes": str(64 * 2**20)})
    wanted, keep = {name: 1}, {name: HOUR_S}
    held = [s for s in log.plan_topics(wanted, keep, []) if s.do == "hold"]
    assert [(s.setting, s.now, s.wanted) for s in held] == [("retention.ms", now, HOUR_MS)]
    log.apply_topics(log.plan_topics(wanted, keep, []), wanted, keep)
    assert settings(kafka_url, name)["retention.ms"] == now
    log.apply_topics(log.plan_topics(wanted, keep, [], shorten=True), wanted, keep)
    await_setting(kafka_url, name, "retention.ms", HOUR_MS)
    assert settings(kafka_url, name)["max.message.bytes"] == str(64 * 2**20)  # never lowered


def test_markers_are_compacted_whatever_somebody_did(kafka_url: str, log: KafkaLog) -> None:
    slot = "flow.somewhere.0"
    marker_topic = f"tidegate.markers.{slot}"
    (step,) = log.plan_topics({}, {}, [slot])
    assert (step.topic, step.do) == (marker_topic, "create")
    log.apply_topics([step], {}, {})
    await_setting(kafka_url, marker_topic, "cleanup.policy", "compact")
    log.writer(slot).commit([], Marker(seq=1, next_offset=7))
    alter(kafka_url, marker_topic, "cleanup.policy", "delete")
    (step,) = log.plan_topics({}, {}, [slot])
    log.apply_topics([step], {}, {})
    await_setting(kafka_url, marker_topic, "cleanup.policy", "compact")
    assert log.markers()[slot].next_offset == 7


def test_copies_are_asked_for_when_a_topic_is_made_and_named_afterwards(
    kafka_url: str, topic: Callable[[Mapping[str, str]], str]
) -> None:
    name = topic({})
    log = KafkaLog(kafka_url, None, TopicPolicy(replication_factor=3, min_insync_replicas=2))
    steps = {s.setting: s for s in log.plan_topics({name: 1}, {}, [])}
    assert steps["replication factor"].do == "hold"
    assert "kafka-reassign-partitions" in steps["replication factor"].advice
    assert steps["min.insync.replicas"].wanted == "2"
    with pytest.raises(LogError, match=r"not so many brokers.*replication_factor"):
        log.create_topics({f"{name}.copies": 1})
    log.close()


def test_nobody_makes_topics_where_that_is_off(kafka_url: str) -> None:
    log = KafkaLog(kafka_url, None, TopicPolicy(create=False))
    with pytest.raises(UnknownTopic, match=r"topics.create is off.*`tidegate topics apply`"):
        log.writer("off.somewhere.0")
    log.close()
