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

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaException,
    TopicCollection,
    TopicPartition,
    Uuid,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from dataflows.connectors.kafka_cluster import CALL_S, REQUEST_BYTES, Cluster
from dataflows.connectors.kafka_markers import (
    PREFIX,
    MarkerReader,
    Place,
    marker_topic,
    until_ends,
)
from dataflows.connectors.kafka_reader import KafkaReader
from dataflows.connectors.kafka_topics import ARRIVAL, Topics
from dataflows.connectors.kafka_transactions import committed, held_back
from dataflows.connectors.kafka_writer import Appender, Input, KafkaWriter, Placed, place
from dataflows.connectors.log import (
    Held,
    Marker,
    TopicInfo,
    TopicPolicy,
    TopicStep,
    UnknownTopic,
)
from dataflows.connectors.records import Output

NO_ID = str(Uuid(0, 0))
TAIL = 64  # as few offsets are read to tell records from the markers of transactions


class KafkaLog:
    """A log at `kafka://host:port[,host:port...]`.

    Args:
        url: some brokers of the cluster.
        settings: of librdkafka, how to reach them; those in `kafka_cluster.SETTINGS`.
        policy: for the topics that are made.

    Raises:
        LogError: no broker answers, or refuses us; says what to do.
    """

    contiguous = False

    def __init__(
        self,
        url: str,
        settings: Mapping[str, str] | None = None,
        policy: TopicPolicy | None = None,
    ):
        self._cluster = Cluster(url, settings or {})
        self._admin: AdminClient = self._cluster.admin()
        self._topics = Topics(self._cluster, self._admin, policy or TopicPolicy())
        # Ends include open transactions, so that whoever reads to an end misses no commit that has
        # returned but does not show yet.
        self._asking = self._asker()
        self._counting: Consumer | None = None
        self._appender = Appender(self._cluster)
        self._request_bytes = REQUEST_BYTES
        self._markers = MarkerReader(self._cluster, self._ends)
        self._lock, self._listing = threading.Lock(), threading.Lock()

    def _asker(self) -> Consumer:
        return self._cluster.consumer(isolation_level="read_uncommitted")

    def missing_topics(self, partitions: Mapping[str, int]) -> list[str]:
        return self._topics.missing(partitions)

    def create_topics(
        self, partitions: Mapping[str, int], keep: Mapping[str, float] | None = None
    ) -> None:
        missing = self._topics.missing(partitions)
        self._topics.create({topic: partitions[topic] for topic in missing}, keep or {})

    def grow_topics(self, partitions: Mapping[str, int]) -> None:
        self._topics.grow(partitions)
        # Clients that have asked for the topics before would not know the new ones for long.
        self._appender.close()
        self._asking.close()
        self._asking = self._asker()

    def plan_topics(
        self,
        partitions: Mapping[str, int],
        keep: Mapping[str, float],
        slots: Sequence[str],
        shorten: bool = False,
    ) -> list[TopicStep]:
        return self._topics.plan(partitions, keep, slots, shorten)

    def apply_topics(
        self,
        steps: Sequence[TopicStep],
        partitions: Mapping[str, int],
        keep: Mapping[str, float],
    ) -> None:
        self._topics.apply(steps, partitions, keep)

    def clients_set_arrival(self, topics: Sequence[str]) -> list[str]:
        found = self._topics.settings(topics)
        return [topic for topic in topics if found[topic].get(ARRIVAL) != "LogAppendTime"]

    def topics(self) -> dict[str, TopicInfo]:
        there = {n: c for n, c in self._topics.refresh().items() if not n.startswith(PREFIX)}
        places = [(topic, p) for topic, count in there.items() for p in range(count)]
        lows = self._list_offsets(places, OffsetSpec.earliest())
        highs = self._list_offsets(places, OffsetSpec.latest())
        records = dict.fromkeys(there, 0)
        for place_ in places:
            records[place_[0]] += highs[place_] - lows[place_]
        return {topic: TopicInfo(count, records[topic], None) for topic, count in there.items()}

    def partitions(self, topic: str) -> int:
        self._topics.refresh()
        return self._require(topic, 0)

    def _list_offsets(
        self,
        places: Sequence[Place],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[Place, int]:
        if not places:
            return {}

        def ask() -> dict[Place, int]:
            # librdkafka crashes when it looks for leaders in one call while another call changes
            # what it knows of them: so it shall know them, and there shall be one call at a time.
            with self._listing:
                self._topics.require_leaders(places)
                asked: dict[TopicPartition, Future[Any]] = self._admin.list_offsets(
                    {TopicPartition(topic, partition): spec for topic, partition in places},
                    isolation_level=isolation,
                    request_timeout=CALL_S,
                )
                return {(at.topic, at.partition): f.result().offset for at, f in asked.items()}

        names = ", ".join(sorted({topic for topic, _ in places}))
        return self._cluster.ask(f"offsets of {names}", ask)

    def _ends(self, topics: list[str]) -> dict[str, int]:
        ends = self._list_offsets([(topic, 0) for topic in topics], OffsetSpec.latest())
        return {topic: end for (topic, _), end in ends.items()}

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        self._require(topic, partition)
        at = TopicPartition(topic, partition)

        def ask() -> tuple[int, int]:
            try:
                low, high = self._asking.get_watermark_offsets(at, timeout=CALL_S)
            except KafkaException:
                # The client goes on asking whom it knew to lead, dead or not, until it is told.
                told = self._asking.list_topics(topic, timeout=CALL_S).topics[topic]
                if told.error is not None:
                    raise KafkaException(told.error) from None
                raise
            return low, high

        return self._cluster.ask(f"offsets of {topic} partition {partition}", ask)

    def _require(self, topic: str, partition: int) -> int:
        """The topic's partition count, if it has this partition."""
        count = self._topics.partitions.get(topic) or self._topics.refresh().get(topic)
        if count is None:
            raise UnknownTopic(
                f"{self._cluster.url} has no topic {topic}; `tidegate topics apply` makes what is "
                "missing"
            )
        if not 0 <= partition < count:
            raise UnknownTopic(
                f"topic {topic} has {count} partition(s) in {self._cluster.url}, no partition "
                f"{partition}"
            )
        return count

    def identity(self, topic: str) -> str:
        self._require(topic, 0)
        cluster = self._cluster.ask("cluster", lambda: self._admin.list_topics(timeout=CALL_S))
        return f"kafka:{cluster.cluster_id}/{self._topic_id(topic)}/{topic}"

    def _topic_id(self, topic: str) -> str:
        def ask() -> str:
            asked = self._admin.describe_topics(TopicCollection([topic]), request_timeout=CALL_S)
            return str(asked[topic].result().topic_id)

        return self._cluster.ask(f"topic {topic}", ask)

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

    def prepare(self, slots: Sequence[str], topics: Sequence[str]) -> None:
        self._topics.make_markers(slots)
        self._request_bytes = min(REQUEST_BYTES, self._topics.request_bytes(topics))

    def writer(self, slot: str) -> KafkaWriter:
        topic = marker_topic(slot)
        if topic not in self._topics.partitions:
            self._topics.make_markers([slot])
        return KafkaWriter(
            self._cluster,
            slot,
            self._placing,
            lambda: (self._markers.last([topic]).get(topic), self._markers.input_id(topic)),
            self._input_of(slot),
            self._request_bytes,
        )

    def _input_of(self, slot: str) -> Input | None:
        """A slot's name says what it reads: `<flow>.<topic>.<partition>`."""
        flow, _, rest = slot.partition(".")
        topic, _, partition = rest.rpartition(".")
        if topic in self._topics.partitions and partition.isdecimal():
            topic_id = self._topic_id(topic)
            return Input(flow, topic, int(partition), None if topic_id == NO_ID else topic_id)
        return None

    def markers(self, prefix: str = "") -> dict[str, Marker]:
        begin = marker_topic(prefix)
        topics = [topic for topic in self._topics.refresh() if topic.startswith(begin)]
        found = self._markers.last(topics)
        return {topic.removeprefix(PREFIX): marker for topic, marker in found.items()}

    def held_back(self) -> list[Held]:
        def ends(places: Sequence[Place], isolation: IsolationLevel) -> dict[Place, int]:
            return self._list_offsets(places, OffsetSpec.latest(), isolation)

        there = self._topics.refresh()
        return held_back(ends, [(topic, p) for topic, count in there.items() for p in range(count)])

    def committed(self, flows: Sequence[str]) -> dict[str, int]:
        return committed(self._cluster, self._admin, flows)

    def apply_retention(self, now_us: int, keep: Mapping[str, float]) -> None:
        """Nothing: retention.ms of each topic is the broker's business."""

    def close(self) -> None:
        self._appender.close()
        self._markers.close()
        self._asking.close()
        if self._counting is not None:
            self._counting.close()
