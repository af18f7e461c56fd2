"""Reads one partition of a Kafka topic, in batches that never wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import compress
from operator import itemgetter

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from numpy.typing import NDArray

from dataflows.connectors.kafka_cluster import Cluster
from dataflows.connectors.log import LogError, OffsetOutOfRange
from dataflows.connectors.records import Headers, Records

logger = logging.getLogger(__name__)

PIECE_RECORDS = 1_000  # one consume() of many is slower than several of this


class KafkaReader:
    """See `dataflows.connectors.log.Reader`. Sees what is committed, up to the first open
    transaction; `ends` gives (low, high) of the partition."""

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        partition: int,
        offset: int,
        ends: Callable[[], tuple[int, int]],
    ):
        low, high = ends()
        if not low <= offset <= high:
            raise OffsetOutOfRange(topic, partition, offset, low, high)
        self._cluster, self._topic, self._partition = cluster, topic, partition
        self._ends = ends
        self._position = offset
        self._arrival_us = 0
        self._none = _records(topic, partition, [], np.zeros(0, np.int64), 0)
        self._trouble: LogError | None = None
        # Fetching begins with the first read: until then retention may still overtake.
        self._assigned = False
        self._consumer: Consumer | None = cluster.consumer()

    @property
    def position(self) -> int:
        return self._position

    def read(self, max_records: int) -> Records:
        if self._trouble is not None:
            raise self._trouble
        since = self._position  # an end of the partition moves it beyond what is taken with it
        messages, offsets = self._only_new(self._take(max_records), since)
        if not messages:
            if self._trouble is not None:
                raise self._trouble
            return self._none
        records = _records(self._topic, self._partition, messages, offsets, self._arrival_us)
        self._arrival_us = int(records.arrival_us[-1])
        self._position = max(self._position, int(offsets[-1]) + 1)
        return records

    def _take(self, max_records: int) -> list[Message]:
        assert self._consumer is not None, "the reader is closed"
        taken: list[Message] = []
        try:
            if not self._assigned:
                place = TopicPartition(self._topic, self._partition, self._position)
                self._consumer.assign([place])
                self._assigned = True
            while (wanted := min(max_records - len(taken), PIECE_RECORDS)) > 0:
                piece = self._consumer.consume(wanted, timeout=0)
                taken += self._without_events(piece)
                if len(piece) < wanted or self._trouble is not None:
                    break
        except KafkaException as error:
            self._trouble = self._cluster.trouble(self._place(), error)
        return taken

    def _only_new(
        self, messages: list[Message], since: int
    ) -> tuple[list[Message], NDArray[np.int64]]:
        """Those from an offset on that come for the first time, and their offsets. The client may
        deliver again what it has delivered (confluentinc/librdkafka#4637 is one such case); a state
        must not see a record twice."""
        offsets = np.fromiter(map(Message.offset, messages), np.int64, len(messages))
        before = np.maximum.accumulate(np.append(since - 1, offsets))[:-1]
        is_new = offsets > before
        if is_new.all():
            return messages, offsets
        again = offsets[~is_new]
        logger.warning(
            "%s: the client delivered %d records again, from offset %d on: left out",
            *(self._place(), len(again), again.min()),
        )
        return list(compress(messages, is_new.tolist())), offsets[is_new]

    def _without_events(self, messages: list[Message]) -> list[Message]:
        if not any(map(Message.error, messages)):
            return messages
        for message in messages:
            error = message.error()
            if error is not None:
                self._handle(error, message.offset())
        return [message for message in messages if message.error() is None]

    def _handle(self, error: KafkaError, offset: int | None) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            # Beyond the last record lie the markers of its transaction.
            self._position = max(self._position, offset or 0)
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            low, high = self._ends()
            self._trouble = OffsetOutOfRange(
                self._topic, self._partition, self._position, low, high
            )
        elif not (error.retriable() or error.code() in _RECONNECTING):
            self._trouble = self._cluster.trouble(self._place(), KafkaException(error))

    def _place(self) -> str:
        return f"reading {self._topic} partition {self._partition}"

    def high_watermark(self) -> int:
        return self._ends()[1]

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            # librdkafka's own threads wait by the wall clock: where that went back, this may take
            # as long. There is nothing that would have to be waited for.
            threading.Thread(target=consumer.close, daemon=True).start()


_SECOND = itemgetter(1)
_RECONNECTING = (
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
)


def _records(
    topic: str,
    partition: int,
    messages: list[Message],
    offsets: NDArray[np.int64],
    since_us: int,
) -> Records:
    """The messages as columns. Arrival times are the broker's, and stand still where they step
    back."""
    count = len(messages)
    milliseconds = map(_SECOND, map(Message.timestamp, messages))
    arrival_us = np.fromiter(milliseconds, np.int64, count) * 1_000
    if count:
        arrival_us[0] = max(int(arrival_us[0]), since_us)
        np.maximum.accumulate(arrival_us, out=arrival_us)
    return Records(
        topic,
        partition,
        offsets,
        arrival_us,
        list(map(Message.key, messages)),
        list(map(Message.value, messages)),
        _headers(messages),
    )


def _headers(messages: list[Message]) -> list[Headers] | None:
    found = list(map(Message.headers, messages))
    if found.count(None) == len(found):
        return None
    return [tuple(headers) if headers else () for headers in found]  # type: ignore[arg-type]
