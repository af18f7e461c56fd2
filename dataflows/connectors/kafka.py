"""A log in Kafka: topics, committed records, transactions of outputs with the slot's marker.

What a commit returned for is as safe as the cluster keeps it (replication factor and
min.insync.replicas are the broker's defaults); a transaction that was open when its process died
is ended by the slot's next writer. Offsets have holes: every transaction takes one in each
partition it wrote to.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from dataflows.connectors.kafka_cluster import CALL_S, MAX_RECORD_BYTES, Cluster
from dataflows.connectors.kafka_markers import (
    PREFIX,
    MarkerReader,
    Place,
    marker_topic,
    until_ends,
)
from dataflows.connectors.kafka_reader import KafkaReader
from dataflows.connectors.kafka_writer import Appender, Input, KafkaWriter, Placed, place
from dataflows.connectors.log import LogError, Marker, TopicInfo, UnknownTopic
from dataflows.connectors.records import Output

TAIL = 64  # as few offsets are read to tell records from the markers of transactions

_TOPIC = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_RECORD_BYTES)}
_MARKER_TOPIC = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 * 2**20),
    "min.cleanable.dirty.ratio": "0.1",
}


class KafkaLog:
    """A log at `kafka://host:port[,host:port...]`.

    Args:
        url: some brokers of the cluster.
        settings: of librdkafka, how to reach them; those in `kafka_cluster.SETTINGS`.

    Raises:
        LogError: no broker answers, or refuses us; says what to do.
    """

    contiguous = False

    def __init__(self, url: str, settings: Mapping[str, str] | None = None):
        self._cluster = Cluster(url, settings or {})
        self._admin: AdminClient = self._cluster.admin()
        # Ends include open transactions, so that whoever reads to an end misses no commit that has
        # returned but does not show yet.
        self._asking = self._cluster.consumer(isolation_level="read_uncommitted")
        self._counting: Consumer | None = None
        self._partitions: dict[str, int] = {}
        self._appender = Appender(self._cluster)
        self._markers = MarkerReader(self._cluster, self._ends)
        self._lock = threading.Lock()
        self._refresh()

    def _refresh(self) -> dict[str, int]:
        """The topics there are now, and how many partitions each has."""
        found = self._cluster.ask("topics", lambda: self._admin.list_topics(timeout=CALL_S))
        self._partitions = {
            name: len(topic.partitions)
            for name, topic in found.topics.items()
            if topic.error is None and not name.startswith("__")
        }
        return self._partitions

    def create_topics(self, partitions: Mapping[str, int]) -> None:
        there = self._refresh()
        for topic, count in partitions.items():
            if count < 1:
                raise LogError(f"topic {topic}: needs at least one partition, not {count}")
            if there.get(topic, count) != count:
                raise LogError(
                    f"topic {topic} has {there[topic]} partition(s) in {self._cluster.url}, not "
                    f"{count}: keys and state hang on that number, so it cannot change; configure "
                    f"{there[topic]}, or start with new topics on another cluster"
                )
        missing = {topic: count for topic, count in partitions.items() if topic not in there}
        self._create([NewTopic(topic, count, config=_TOPIC) for topic, count in missing.items()])

    def _create(self, topics: Sequence[NewTopic]) -> None:
        if not topics:
            return
        made = self._admin.create_topics(list(topics), request_timeout=CALL_S)
        for name, future in made.items():
            try:
                self._cluster.ask(f"making topic {name}", future.result)
            except LogError as error:
                if not _is_there_already(error):
                    raise
        self._cluster.ask("waiting for leaders", lambda: self._await_leaders(set(made)))
        self._refresh()

    def _await_leaders(self, topics: set[str]) -> None:
        found = self._admin.list_topics(timeout=CALL_S).topics
        led = {
            name
            for name, topic in found.items()
            if topic.partitions and all(p.leader >= 0 for p in topic.partitions.values())
        }
        if not topics <= led:
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))

    def topics(self) -> dict[str, TopicInfo]:
        there = {n: c for n, c in self._refresh().items() if not n.startswith(PREFIX)}
        places = [(topic, p) for topic, count in there.items() for p in range(count)]
        lows = self._list_offsets(places, OffsetSpec.earliest())
        highs = self._list_offsets(places, OffsetSpec.latest())
        records = dict.fromkeys(there, 0)
        for place_ in places:
            records[place_[0]] += highs[place_] - lows[place_]
        return {topic: TopicInfo(count, records[topic], None) for topic, count in there.items()}

    def _list_offsets(self, places: Sequence[Place], spec: OffsetSpec) -> dict[Place, int]:
        if not places:
            return {}

        def ask() -> dict[Place, int]:
            asked: dict[TopicPartition, Future[Any]] = self._admin.list_offsets(
                {TopicPartition(topic, partition): spec for topic, partition in places},
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=CALL_S,
            )
            return {(at.topic, at.partition): f.result().offset for at, f in asked.items()}

        return self._cluster.ask("offsets", ask)

    def _ends(self, topics: list[str]) -> dict[str, int]:
        ends = self._list_offsets([(topic, 0) for topic in topics], OffsetSpec.latest())
        return {topic: end for (topic, _), end in ends.items()}

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        self._require(topic, partition)
        at = TopicPartition(topic, partition)
        low, high = self._cluster.ask(
            f"offsets of {topic} partition {partition}",
            lambda: self._asking.get_watermark_offsets(at, timeout=CALL_S),
        )
        return low, high

    def _require(self, topic: str, partition: int) -> int:
        """The topic's partition count, if it has this partition."""
        count = self._partitions.get(topic) or self._refresh().get(topic)
        if count is None:
            raise UnknownTopic(f"{self._cluster.url} has no topic {topic}")
        if not 0 <= partition < count:
            raise UnknownTopic(
                f"topic {topic} has {count} partition(s) in {self._cluster.url}, no partition "
                f"{partition}"
            )
        return count

    def unread(self, places: Mapping[Place, int]) -> dict[Place, int]:
        ends = self._list_offsets(list(places), OffsetSpec.latest())
        left = {place_: max(0, ends[place_] - start) for place_, start in places.items()}
        short = {place_: places[place_] for place_, count in left.items() if 0 < count <= TAIL}
        if short:
            left |= self._count_records(short, {place_: ends[place_] for place_ in short})
        return left

    def _count_records(
        self, starts: Mapping[Place, int], ends: Mapping[Place, int]
    ) -> dict[Place, int]:
        """How many records are committed from each start to the end."""
        counts = dict.fromkeys(starts, 0)
        with self._lock:
            if self._counting is None:
                self._counting = self._cluster.consumer()
            self._counting.assign(
                [TopicPartition(*where, start) for where, start in starts.items()]
            )
            try:
                for messages in until_ends(self._counting, ends):
                    for message in messages:
                        counts[message.topic() or "", message.partition() or 0] += 1
            except KafkaException as error:
                raise self._cluster.trouble("counting records", error) from error
            finally:
                self._counting.unassign()
        return counts

    def reader(self, topic: str, partition: int, offset: int) -> KafkaReader:
        return KafkaReader(
            self._cluster, topic, partition, offset, lambda: self.offsets(topic, partition)
        )

    def append(self, outputs: Sequence[Output]) -> None:
        self._appender.append(self._placing(outputs))

    def _placing(self, outputs: Sequence[Output]) -> list[Placed]:
        return [place(o, self._require(o.topic, o.partition or 0)) for o in outputs]

    def writer(self, slot: str) -> KafkaWriter:
        topic = marker_topic(slot)
        if topic not in self._partitions and topic not in self._refresh():
            self._create([NewTopic(topic, 1, config=_MARKER_TOPIC)])
        return KafkaWriter(
            self._cluster,
            slot,
            self._placing,
            lambda: self._markers.last([topic]).get(topic),
            self._input_of(slot),
        )

    def _input_of(self, slot: str) -> Input | None:
        """A slot's name says what it reads: `<flow>.<topic>.<partition>`."""
        flow, _, rest = slot.partition(".")
        topic, _, partition = rest.rpartition(".")
        if topic in self._partitions and partition.isdecimal():
            return Input(flow, topic, int(partition))
        return None

    def markers(self) -> dict[str, Marker]:
        topics = [topic for topic in self._refresh() if topic.startswith(PREFIX)]
        found = self._markers.last(topics)
        return {topic.removeprefix(PREFIX): marker for topic, marker in found.items()}

    def apply_retention(self, now_us: int, keep: Mapping[str, float]) -> None:
        """Nothing: retention.ms of each topic is the broker's business."""

    def close(self) -> None:
        self._appender.close()
        self._markers.close()
        self._asking.close()
        if self._counting is not None:
            self._counting.close()


def _is_there_already(error: LogError) -> bool:
    cause = error.__cause__
    return isinstance(cause, KafkaException) and (
        cause.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    )
