"""Publishes to Kafka: for a slot in transactions with its marker, or plainly without one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from dataflows.connectors.kafka_cluster import CALL_S, PATIENCE_S, REQUEST_BYTES, Cluster
from dataflows.connectors.kafka_markers import INPUT_ID, encode, marker_topic
from dataflows.connectors.log import Fenced, LogError, Marker, TopicRecreated
from dataflows.connectors.records import Headers, Output, partition_for

TRANSACTION_S = 60  # after so long the broker gives up on a transaction whose process is gone
PAUSE_S = 0.02  # between attempts at a step that may pass
UNANSWERED_S = 15.0  # a call that takes CALL_S at most is not waited for any longer
TRANSACTIONAL_ID = "tidegate.{slot}"
GROUP = "tidegate.{flow}"

_FENCED = (
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
)


class Placed(NamedTuple):
    """Records of one topic with the partition of each."""

    topic: str
    partitions: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] | None


def place(output: Output, partitions: int) -> Placed:
    if output.partition is not None:
        where: Sequence[int] = [output.partition] * len(output)
    else:
        where = [partition_for(key, partitions) for key in output.keys]
    return Placed(output.topic, where, output.keys, output.values, output.headers)


def produce_all(
    producer: Producer,
    placed: Placed,
    on_delivery: Callable[..., None] | None = None,
) -> None:
    produce = producer.produce
    topic = placed.topic
    headers = placed.headers or [()] * len(placed.values)
    for value, key, partition, header in zip(
        placed.values, placed.keys, placed.partitions, headers, strict=True
    ):
        while True:
            try:
                if header:
                    produce(topic, value, key, partition, on_delivery, headers=list(header))
                else:
                    produce(topic, value, key, partition, on_delivery)
                break
            except BufferError:
                producer.poll(0.1)


class Input(NamedTuple):
    """What a slot reads: where its progress shows in the tools of Kafka."""

    flow: str
    topic: str
    partition: int
    topic_id: str | None  # None where the brokers give none


class KafkaWriter:
    """Publishes for one slot; see `dataflows.connectors.log.Writer`.

    Outputs, marker and the input's offset are one transaction. Making a writer ends what an older
    one of the slot left open, and fences it. Records that go together take at most `request_bytes`.
    """

    def __init__(
        self,
        cluster: Cluster,
        slot: str,
        placing: Callable[[Sequence[Output]], list[Placed]],
        last_marker: Callable[[], tuple[Marker | None, str | None]],
        reads: Input | None,
        request_bytes: int = REQUEST_BYTES,
    ):
        self._cluster, self._slot, self._placing, self._reads = cluster, slot, placing, reads
        self._group = _group_metadata(cluster, reads) if reads else None
        self._fenced = False
        self._producer: Producer | None = cluster.producer(
            transactional_id=TRANSACTIONAL_ID.format(slot=slot),
            transaction_timeout_ms=TRANSACTION_S * 1_000,
            batch_size=request_bytes,
        )
        starting = self._producer
        # The broker may first have to end what a killed process left open, and it may be busy.
        cluster.ask(
            f"slot {slot}: beginning to publish",
            lambda: starting.init_transactions(CALL_S),
            TRANSACTION_S,
        )
        # Only now: whatever was in flight is committed or gone.
        self._marker, input_id = last_marker()
        if reads and input_id and reads.topic_id not in (None, input_id):
            raise TopicRecreated(
                f"{cluster.url}: topic {reads.topic} was deleted and made anew since slot {slot} "
                "last published, so its offsets mean other records; restore it, or delete topic "
                f"{marker_topic(slot)} and `tidegate reset {reads.flow}` to begin with the new one"
            )

    @property
    def marker(self) -> Marker | None:
        return self._marker

    def commit(self, outputs: Sequence[Output], marker: Marker) -> None:
        if self._marker is not None and marker.next_offset < self._marker.next_offset:
            raise ValueError(
                f"slot {self._slot}: the marker goes back from offset {self._marker.next_offset} "
                f"to {marker.next_offset}"
            )
        placed = self._placing(outputs)
        if self._fenced:
            raise self._fencing()
        assert self._producer is not None, "the writer is closed"
        try:
            self._commit(self._producer, placed, marker)
        except (KafkaException, SystemError) as error:
            raise self._failure(self._producer, placed, _by_the_client(error)) from error
        self._marker = marker

    def _commit(self, producer: Producer, placed: Sequence[Placed], marker: Marker) -> None:
        producer.begin_transaction()
        # First, so that whatever a transaction left open holds up tells whose it is.
        noted: Headers = ()
        if self._reads and self._reads.topic_id:
            noted = ((INPUT_ID, self._reads.topic_id.encode()),)
        producer.produce(
            marker_topic(self._slot), encode(marker), self._slot.encode(), 0, headers=list(noted)
        )
        for records in placed:
            produce_all(producer, records)
        if self._reads is not None:
            read_to = TopicPartition(self._reads.topic, self._reads.partition, marker.next_offset)
            # The outputs are on their way at the same time: two requests here, one there.
            _until_done(
                lambda: _answered(
                    lambda: producer.send_offsets_to_transaction([read_to], self._group, CALL_S),
                    meanwhile=lambda: producer.flush(CALL_S),
                )
            )
        _until_done(lambda: producer.commit_transaction(CALL_S))
        producer.poll(0)

    def _failure(
        self, producer: Producer, placed: Sequence[Placed], error: KafkaException
    ) -> LogError:
        """What went wrong, after ending the transaction: a zombie learns only then that it is."""
        if error.args[0].code() == KafkaError._STATE:
            # The transaction has failed meanwhile: why, the attempt to commit it tells.
            try:
                producer.commit_transaction(CALL_S)
            except KafkaException as cause:
                error = cause
        kafka_error = error.args[0]
        if not _is_fencing(kafka_error) and not kafka_error.fatal():
            try:
                producer.abort_transaction(CALL_S)
            except KafkaException as aborting:
                if _is_fencing(aborting.args[0]):
                    kafka_error = aborting.args[0]
        if _is_fencing(kafka_error):
            self._fenced = True
            return self._fencing()
        topics = ", ".join(sorted({records.topic for records in placed}))
        return self._cluster.trouble(f"slot {self._slot}: publishing to {topics}", error)

    def _fencing(self) -> Fenced:
        return Fenced(f"slot {self._slot}: another process has taken it over, this one must stop")

    def close(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._producer = None


def _by_the_client(error: KafkaException | SystemError) -> KafkaException:
    """confluent-kafka raises a fatal error from within its callbacks; where it calls one more, to
    log it, Python says SystemError, because of the first."""
    if isinstance(error, KafkaException):
        return error
    if isinstance(error.__cause__, KafkaException):
        return error.__cause__
    raise error


def _is_fencing(error: KafkaError) -> bool:
    return error.code() in _FENCED


def _until_done(call: Callable[[], object]) -> None:
    """Repeats a step of a transaction while that is safe: the client goes on where it was."""
    give_up = time.monotonic() + TRANSACTION_S
    while True:
        try:
            call()
            return
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > give_up:
                raise
            time.sleep(PAUSE_S)


def _answered(call: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> None:
    """The call beside another, given up when it does not come back.

    Where a connection breaks while offsets are on their way, librdkafka may wait for ever, whatever
    timeout it was given (confluentinc/librdkafka#5456). Then the slot must fail: a restart is soon
    where it was.
    """
    answers: SimpleQueue[BaseException | None] = SimpleQueue()

    def ask() -> None:
        try:
            call()
        except BaseException as error:
            answers.put(error)
        else:
            answers.put(None)

    threading.Thread(target=ask, daemon=True).start()
    meanwhile()
    try:
        error = answers.get(timeout=UNANSWERED_S)
    except Empty:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
    if error is not None:
        raise error


def _group_metadata(cluster: Cluster, reads: Input) -> object:
    consumer = cluster.consumer(group_id=GROUP.format(flow=reads.flow))
    try:
        return consumer.consumer_group_metadata()
    finally:
        consumer.close()


class Appender:
    """Publishes without a slot; for any thread."""

    def __init__(self, cluster: Cluster):
        self._cluster = cluster
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def append(self, placed: Sequence[Placed]) -> None:
        with self._lock:
            if self._producer is None:
                self._producer = self._cluster.producer(message_timeout_ms=int(PATIENCE_S * 1_000))
            refused: list[KafkaError] = []

            def on_delivery(error: KafkaError | None, _message: object) -> None:
                if error is not None:
                    refused.append(error)

            try:
                for records in placed:
                    produce_all(self._producer, records, on_delivery)
                if self._producer.flush(2 * PATIENCE_S):
                    refused.append(KafkaError(KafkaError._TIMED_OUT))
            except KafkaException as error:
                refused.append(error.args[0])
            except SystemError as error:  # a fatal error comes up through whatever was called back
                if not isinstance(error.__cause__, KafkaException):
                    raise
                refused.append(error.__cause__.args[0])
            if refused:
                self._drop()
                first = next((error for error in refused if error.fatal()), refused[0])
                topics = ", ".join(sorted({records.topic for records in placed}))
                raise self._cluster.trouble(f"appending to {topics}", KafkaException(first))

    def _drop(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(0)
            self._producer = None

    def close(self) -> None:
        with self._lock:
            self._drop()
