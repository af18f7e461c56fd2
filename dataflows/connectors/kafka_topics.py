"""Topics in Kafka: which there are, how they should be, and what would have to be done for that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from math import inf
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

from dataflows.connectors.kafka_cluster import CALL_S, MAX_RECORD_BYTES, Cluster
from dataflows.connectors.kafka_markers import PREFIX, Place, marker_topic
from dataflows.connectors.log import (
    LogError,
    LogUnreachable,
    TopicPolicy,
    TopicStep,
    UnknownTopic,
    refuse_any,
)

ARRIVAL = "message.timestamp.type"
LARGEST = "max.message.bytes"
RETENTION = "retention.ms"
MIN_INSYNC = "min.insync.replicas"
FOREVER = -1  # what retention.ms says of a topic that keeps everything

_RECORDS = {
    ARRIVAL: "LogAppendTime",
    LARGEST: str(MAX_RECORD_BYTES),
    "cleanup.policy": "delete",
}
_MARKERS = {"cleanup.policy": "compact"}
_MARKERS_WHEN_MADE = {
    **_MARKERS,
    "segment.bytes": str(16 * 2**20),
    "min.cleanable.dirty.ratio": "0.1",
}


class Topics:
    """The topics of a cluster, but for Kafka's own. For several threads."""

    def __init__(self, cluster: Cluster, admin: AdminClient, policy: TopicPolicy):
        self._cluster, self._admin, self._policy = cluster, admin, policy
        self.partitions: dict[str, int] = {}
        """How many each topic had when last asked."""
        self.refresh()

    def refresh(self) -> dict[str, int]:
        """The topics there are now, and how many partitions each has."""
        self.partitions = {name: len(found.partitions) for name, found in self._describe().items()}
        return self.partitions

    def _describe(self) -> dict[str, TopicMetadata]:
        found = self._cluster.ask("topics", lambda: self._admin.list_topics(timeout=CALL_S))
        return {
            name: topic
            for name, topic in found.topics.items()
            if topic.error is None and not name.startswith("__")
        }

    def missing(self, partitions: Mapping[str, int]) -> list[str]:
        there = self.refresh()
        for topic, count in partitions.items():
            if count < 1:
                raise LogError(f"topic {topic}: needs at least one partition, not {count}")
            if there.get(topic, count) != count:
                raise LogError(
                    f"topic {topic} has {there[topic]} partition(s) in {self._cluster.url}, not "
                    f"{count}: keys and state hang on that number; configure {there[topic]}, and "
                    "have `tidegate reshard` change it"
                )
        return [topic for topic in partitions if topic not in there]

    def create(self, partitions: Mapping[str, int], keep: Mapping[str, float]) -> None:
        """Makes topics, of records or of markers, and waits until they can be used."""
        if not partitions:
            return
        copies = self._policy.replication_factor or -1
        new = [
            NewTopic(topic, count, copies, config=self._made(topic, keep))
            for topic, count in partitions.items()
        ]
        names = ", ".join(partitions)
        self._cluster.ask(f"making topics {names}", lambda: self._create(new))
        places = [(topic, p) for topic, count in partitions.items() for p in range(count)]
        self._cluster.ask("waiting for leaders", lambda: self.require_leaders(places))
        self.refresh()

    def _create(self, topics: list[NewTopic]) -> None:
        """Asks again for all of them: some may be there since a request that was not answered."""
        for future in self._admin.create_topics(topics, request_timeout=CALL_S).values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def grow(self, partitions: Mapping[str, int]) -> None:
        there = self.refresh()
        more = [
            NewPartitions(topic, count)
            for topic, count in partitions.items()
            if there[topic] < count
        ]
        if not more:
            return
        grown = self._admin.create_partitions(more, request_timeout=CALL_S)
        for name, future in grown.items():
            self._cluster.ask(f"adding partitions to topic {name}", future.result)
        places = [(topic, p) for topic, count in partitions.items() for p in range(count)]
        self._cluster.ask("waiting for leaders", lambda: self.require_leaders(places))
        self.refresh()

    def make_markers(self, slots: Sequence[str]) -> None:
        """Makes the topics that are missing for the markers of slots, all in one request.

        Raises:
            LogError: they may not be made here.
        """
        there = self.refresh()
        missing = [topic for topic in map(marker_topic, slots) if topic not in there]
        if missing and not self._policy.create:
            raise UnknownTopic(
                f"{self._cluster.url} has no topic {missing[0]}, and topics.create is off; "
                "make it with `tidegate topics apply`"
            )
        self.create(dict.fromkeys(missing, 1), {})

    def request_bytes(self, topics: Sequence[str]) -> int:
        """How large a request each of the topics takes; Tidegate's own bound where their settings
        may not be seen."""
        try:
            found = self.settings(topics)
        except LogUnreachable:
            raise
        except LogError:
            return MAX_RECORD_BYTES
        return min((int(settings[LARGEST]) for settings in found.values()), default=2**31)

    def _made(self, topic: str, keep: Mapping[str, float]) -> dict[str, str]:
        return (_MARKERS_WHEN_MADE if topic.startswith(PREFIX) else {}) | self._wanted(topic, keep)

    def _wanted(self, topic: str, keep: Mapping[str, float]) -> dict[str, str]:
        """The settings that matter, however the topic came to be."""
        wanted = dict(_MARKERS if topic.startswith(PREFIX) else _RECORDS)
        if topic in keep:
            forever = keep[topic] == inf
            wanted[RETENTION] = str(FOREVER if forever else round(keep[topic] * 1_000))
        if self._policy.min_insync_replicas:
            wanted[MIN_INSYNC] = str(self._policy.min_insync_replicas)
        return wanted

    def require_leaders(self, places: Sequence[Place]) -> None:
        """
        Raises:
            KafkaException: a partition is not there, or nobody leads it; both may pass.
        """
        found = self._admin.list_topics(timeout=CALL_S).topics
        for topic, partition in places:
            there = found[topic].partitions.get(partition) if topic in found else None
            if there is None:
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
            if there.leader < 0:
                why = f"{topic}/{partition} has no leader"
                raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE, why))

    def plan(
        self,
        partitions: Mapping[str, int],
        keep: Mapping[str, float],
        slots: Sequence[str],
        shorten: bool,
    ) -> list[TopicStep]:
        wanted = {**partitions, **{marker_topic(slot): 1 for slot in slots}}
        there = self._describe()
        settings = self.settings([topic for topic in wanted if topic in there])
        steps: list[TopicStep] = []
        for topic, count in wanted.items():
            if topic in there:
                steps += self._copies(topic, count, there[topic])
                steps += _differences(settings[topic], self._wanted(topic, keep), topic, shorten)
            else:
                made = ", ".join(f"{k}={v}" for k, v in self._made(topic, keep).items())
                steps.append(TopicStep(topic, "create", "partitions", None, str(count), made))
        return steps

    def _copies(self, topic: str, count: int, found: TopicMetadata) -> Iterator[TopicStep]:
        now = len(found.partitions)
        if now != count:
            yield TopicStep(
                *(topic, "refuse", "partitions", str(now), str(count)),
                "keys and state hang on that number; configure the one it has, and have `tidegate "
                "reshard` change it",
            )
        factor = self._policy.replication_factor
        copies = min((len(p.replicas) for p in found.partitions.values()), default=0)
        if factor and copies != factor:
            yield TopicStep(
                *(topic, "hold", "replication factor", str(copies), str(factor)),
                "the brokers move copies: kafka-reassign-partitions does it while everything runs",
            )

    def settings(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """The settings in force for each topic."""
        if not topics:
            return {}

        def ask() -> dict[str, dict[str, str]]:
            asked: dict[ConfigResource, Future[Any]] = self._admin.describe_configs(
                [ConfigResource(ResourceType.TOPIC, topic) for topic in topics],
                request_timeout=CALL_S,
            )
            return {
                resource.name: {name: entry.value for name, entry in future.result().items()}
                for resource, future in asked.items()
            }

        return self._cluster.ask("settings of topics", ask)

    def apply(
        self,
        steps: Sequence[TopicStep],
        partitions: Mapping[str, int],
        keep: Mapping[str, float],
    ) -> None:
        refuse_any(steps)
        new = [step.topic for step in steps if step.do == "create"]
        self.create({topic: partitions.get(topic, 1) for topic in new}, keep)
        changed: dict[str, list[ConfigEntry]] = {}
        for step in steps:
            if step.do == "set":
                entry = ConfigEntry(
                    step.setting, step.wanted, incremental_operation=AlterConfigOpType.SET
                )
                changed.setdefault(step.topic, []).append(entry)
        if not changed:
            return
        asked = self._admin.incremental_alter_configs(
            [
                ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
                for topic, entries in changed.items()
            ],
            request_timeout=CALL_S,
        )
        for resource, future in asked.items():
            self._cluster.ask(f"settings of topic {resource.name}", future.result)
        self._cluster.ask("settings of topics", lambda: self._require_settings(changed))

    def _require_settings(self, changed: Mapping[str, Sequence[ConfigEntry]]) -> None:
        """
        Raises:
            KafkaException: they are written, but brokers do not go by all of them yet.
        """
        found = self.settings(list(changed))
        for topic, entries in changed.items():
            if any(found[topic].get(entry.name) != entry.value for entry in entries):
                why = f"settings of topic {topic} are not in force yet"
                raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT, why))


def _differences(
    now: Mapping[str, str], wanted: Mapping[str, str], topic: str, shorten: bool
) -> Iterator[TopicStep]:
    for name, value in wanted.items():
        found = now.get(name, "")
        if found == value or (name == LARGEST and int(found) > int(value)):
            continue
        if name == RETENTION and not shorten and _is_longer(found, value):
            advice = "records would be removed earlier than now: say --shorten if they may"
            yield TopicStep(topic, "hold", name, found, value, advice)
        else:
            yield TopicStep(topic, "set", name, found, value)


def _is_longer(retention_ms: str, other: str) -> bool:
    found, wanted = int(retention_ms), int(other)
    return wanted != FOREVER and (found == FOREVER or found > wanted)
