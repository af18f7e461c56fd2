"""The markers of slots in Kafka: one compacted topic a slot, `tidegate.markers.<slot>`.

A slot has a partition to itself because a reader of committed records stops at the first open
transaction: in a shared partition, that of another slot would hide a marker that was committed,
and what it covers would be published twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from dataflows.connectors.kafka_cluster import PATIENCE_S, Cluster, may_pass
from dataflows.connectors.log import LogError, Marker

PREFIX = "tidegate.markers."
FIRST_WINDOW = 16  # offsets looked at from the end, then more and more
WIDER = 16
INPUT_ID = "tidegate-input-id"  # of which topic the marker's offset is: its id, not its name
ENDING_S = 0.5  # how long a transaction of a live process takes at most to end

Place = tuple[str, int]  # topic, partition

_decode = msgspec.json.Decoder(Marker).decode
encode = msgspec.json.Encoder().encode


def marker_topic(slot: str) -> str:
    return PREFIX + slot


def until_ends(consumer: Consumer, ends: Mapping[Place, int]) -> Iterator[list[Message]]:
    """What is committed up to the ends, once assigned; less where a transaction stays open.

    Raises:
        KafkaException: an error that does not pass, or no answer for long.
    """
    reached = dict.fromkeys(ends, -1)
    behind = set(ends)
    give_up, ended = time.monotonic() + PATIENCE_S, float("inf")
    while behind and time.monotonic() < ended:
        if time.monotonic() > give_up:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        messages = []
        for message in consumer.consume(1_000, timeout=0.005):
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                place = (message.topic() or "", message.partition() or 0)
                reached[place] = message.offset() or 0
                if reached[place] >= ends[place]:
                    behind.discard(place)
            elif not may_pass(KafkaException(error)):
                raise KafkaException(error)
        yield messages
        if ended == float("inf") and min(reached.values()) >= 0:
            ended = time.monotonic() + ENDING_S


class MarkerReader:
    """The last marker of slots. For one thread at a time, as it takes care of itself.

    `ends` gives the end of each topic's only partition, open transactions included. A commit that
    has returned may take a moment to show: readers wait that long for a transaction to end.
    """

    def __init__(self, cluster: Cluster, ends: Callable[[list[str]], Mapping[str, int]]):
        self._cluster, self._ends = cluster, ends
        self._consumer = cluster.consumer(auto_offset_reset="earliest", fetch_wait_max_ms=10)
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, Marker | None]] = {}
        self._input_ids: dict[str, str] = {}

    def last(self, topics: list[str]) -> dict[str, Marker]:
        """By topic, for those that hold one; reads only where something was added."""
        with self._lock:
            ends = self._ends(topics)
            changed = {t: end for t, end in ends.items() if self._known.get(t, (0,))[0] != end}
            window = FIRST_WINDOW
            while changed:
                found = self._newest(changed, window)
                for topic, end in list(changed.items()):
                    if topic in found or window >= end:
                        self._known[topic] = (end, found.get(topic))
                        del changed[topic]
                window *= WIDER
            known = ((topic, self._known.get(topic, (0, None))[1]) for topic in topics)
            return {topic: marker for topic, marker in known if marker is not None}

    def input_id(self, topic: str) -> str | None:
        """The id of the topic that the last marker speaks of, if it was noted."""
        return self._input_ids.get(topic)

    def _newest(self, ends: Mapping[str, int], window: int) -> dict[str, Marker]:
        """The last marker within the last `window` offsets of each topic."""
        self._consumer.assign(
            [TopicPartition(topic, 0, max(0, end - window)) for topic, end in ends.items()]
        )
        try:
            return self._to_the_ends(ends)
        except KafkaException as error:
            raise self._cluster.trouble("reading markers", error) from error
        finally:
            self._consumer.unassign()

    def _to_the_ends(self, ends: Mapping[str, int]) -> dict[str, Marker]:
        found: dict[str, Marker] = {}
        for messages in until_ends(
            self._consumer, {(topic, 0): end for topic, end in ends.items()}
        ):
            for message in messages:
                topic, value = message.topic(), message.value()
                if topic and value:
                    found[topic] = self._read(topic, value)
                    noted = dict(message.headers() or ()).get(INPUT_ID)
                    if isinstance(noted, bytes):
                        self._input_ids[topic] = noted.decode()
        return found

    def _read(self, topic: str, value: bytes) -> Marker:
        try:
            return _decode(value)
        except (msgspec.DecodeError, ValueError) as error:
            raise LogError(
                f"{self._cluster.url}: topic {topic} holds what is no marker ({error}); nobody but "
                "Tidegate may write to it"
            ) from error

    def close(self) -> None:
        with self._lock:
            self._consumer.close()
