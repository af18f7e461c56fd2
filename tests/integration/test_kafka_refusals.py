"""What goes wrong with topics and groups: one line within 30 s, and no offset that moves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import numpy as np
import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka_broker import QUIET
from places import wait_until

from dataflows.connectors.kafka import KafkaLog
from dataflows.connectors.kafka_cluster import Cluster
from dataflows.connectors.log import (
    LogError,
    Marker,
    OffsetOutOfRange,
    Reader,
    TopicRecreated,
    UnknownTopic,
)
from dataflows.connectors.records import Output

pytestmark = pytest.mark.kafka

WITHIN_S = 30.0


class Ground:
    """An input of five records, an output, and a slot that has published the first three."""

    def __init__(self, url: str):
        self.address, self._url = url.removeprefix("kafka://"), url
        self.admin = AdminClient({"bootstrap.servers": self.address, **QUIET})
        run = uuid4().hex[:8]
        self.events, self.results = f"events-{run}", f"results-{run}"
        self.flow = f"flow-{run}"
        self.slot = f"{self.flow}.{self.events}.0"
        self.group = f"tidegate.{self.flow}"
        self._logs: list[KafkaLog] = []
        self.make(self.events)
        self.make(self.results, **{"max.message.bytes": "10000"})
        log = self.open()
        log.append([output(self.events, 5)])
        self.commit(log, 3)

    def open(self) -> KafkaLog:
        self._logs.append(KafkaLog(self._url))
        return self._logs[-1]

    def make(self, topic: str, **settings: str) -> None:
        (made,) = self.admin.create_topics([NewTopic(topic, 1, config=settings)]).values()
        made.result()

    def remove(self, topic: str) -> None:
        (removed,) = self.admin.delete_topics([topic]).values()
        removed.result()
        # The broker hears of it a moment later.
        wait_until(lambda: topic not in self.admin.list_topics(timeout=10).topics, "it to be gone")

    def recreate(self, topic: str, records: int) -> None:
        self.remove(topic)
        eventually(lambda: self.make(topic))
        log = self.open()
        eventually(lambda: log.append([output(topic, records)]))

    def commit(self, log: KafkaLog, next_offset: int, size: int = 1) -> None:
        writer = log.writer(self.slot)
        seq = writer.marker.seq + 1 if writer.marker else 1
        try:
            writer.commit([output(self.results, 1, size)], Marker(seq=seq, next_offset=next_offset))
        finally:
            writer.close()

    def marker(self) -> Marker:
        return self.open().markers()[self.slot]

    def at_end(self, log: KafkaLog) -> Reader:
        reader = log.reader(self.events, 0, 0)
        while reader.position < 5:
            reader.read(10)
            time.sleep(0.01)
        return reader

    def close(self) -> None:
        for log in self._logs:
            log.close()


def output(topic: str, count: int = 1, size: int = 1) -> Output:
    values: list[bytes | None] = [os.urandom(size) for _ in range(count)]  # nothing to compress
    return Output(topic, np.zeros(count, np.int64), values, values)


def read_for(reader: Reader, seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        reader.read(10)
        time.sleep(0.01)


def eventually(call: Callable[[], object]) -> None:
    """Topics go and come in their own time."""
    give_up = time.monotonic() + WITHIN_S
    while True:
        try:
            call()
            return
        except (KafkaException, LogError):
            assert time.monotonic() < give_up
            time.sleep(0.1)


@pytest.fixture
def ground(kafka_url: str) -> Iterator[Ground]:
    made = Ground(kafka_url)
    yield made
    made.close()


def test_a_record_that_is_too_large_is_named_with_its_topic(ground: Ground) -> None:
    for attempt in (
        lambda: ground.commit(ground.open(), 5, size=20_000),
        lambda: ground.open().append([output(ground.results, 1, 20_000)]),
    ):
        with pytest.raises(LogError) as error:
            attempt()
        assert f"to {ground.results}: a record is larger than the topic takes" in str(error.value)
    assert ground.marker().next_offset == 3


def test_records_that_are_too_large_together_go_apart(ground: Ground) -> None:
    log = ground.open()

    def commit_many() -> None:
        writer = log.writer(ground.slot)
        try:
            writer.commit([output(ground.results, 30, 1_000)], Marker(seq=9, next_offset=5))
        finally:
            writer.close()

    with pytest.raises(LogError, match=f"to {ground.results}: .*several that go together"):
        commit_many()
    assert ground.marker().next_offset == 3
    log.prepare([ground.slot], [ground.events, ground.results])
    commit_many()
    assert ground.marker().next_offset == 5


def test_a_topic_made_anew_is_refused_until_its_slot_begins_anew(ground: Ground) -> None:
    ground.recreate(ground.events, 10)  # more than before: offsets alone would not tell
    with pytest.raises(TopicRecreated) as error:
        ground.open().writer(ground.slot)
    markers = f"tidegate.markers.{ground.slot}"
    assert f"topic {ground.events} was deleted and made anew" in str(error.value)
    assert f"delete topic {markers} and `tidegate reset {ground.flow}`" in str(error.value)
    assert ground.marker().next_offset == 3
    assert not error.value.may_pass

    ground.remove(markers)
    eventually(lambda: ground.commit(ground.open(), 1))
    assert ground.marker().next_offset == 1


def test_a_topic_made_anew_under_a_reader_is_noticed(ground: Ground) -> None:
    reader = ground.at_end(ground.open())
    ground.recreate(ground.events, 1)
    with pytest.raises(OffsetOutOfRange, match="was never written"):
        read_for(reader, WITHIN_S)


def test_a_topic_that_is_gone_is_named(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster.ask, "__defaults__", (WITHIN_S / 6,))  # nobody has that patience
    log = ground.open()
    reader = ground.at_end(log)
    ground.remove(ground.events)
    for ask in (
        reader.high_watermark,
        lambda: log.unread({(ground.events, 0): 0}),
        lambda: ground.open().reader(ground.events, 0, 0),
    ):
        started = time.monotonic()
        with pytest.raises(UnknownTopic) as error:
            ask()
        assert time.monotonic() - started < WITHIN_S
        assert ground.events in str(error.value)
        assert "`tidegate topics apply` makes what is missing" in str(error.value)


def test_offsets_that_somebody_else_commits_for_a_flow_change_nothing(ground: Ground) -> None:
    moved = ConsumerGroupTopicPartitions(ground.group, [TopicPartition(ground.events, 0, 0)])
    for done in ground.admin.alter_consumer_group_offsets([moved]).values():
        done.result()
    assert committed(ground) == 0
    assert ground.marker().next_offset == 3
    ground.commit(ground.open(), 4)
    wait_until(lambda: committed(ground) == 4, "the group to show it", 0.05)


def test_a_consumer_that_joins_the_group_of_a_flow_does_not_stop_it(ground: Ground) -> None:
    settings: dict[str, str | int | float | bool] = {
        "bootstrap.servers": ground.address,
        "group.id": ground.group,
    }
    stranger = Consumer(settings)
    stranger.subscribe([ground.events])
    while not stranger.assignment():
        stranger.poll(0.1)
    ground.commit(ground.open(), 4)
    stranger.close()
    assert ground.marker().next_offset == 4


def committed(ground: Ground) -> int:
    asked = ground.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(ground.group)])
    (group,) = [future.result() for future in asked.values()]
    (place,) = group.topic_partitions
    return int(place.offset)
