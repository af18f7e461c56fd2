"""A log under test, whichever it is."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from kafka_broker import QUIET

from dataflows.connectors.log import Log


@dataclass
class Backend:
    """A running log. It may hold topics and slots of other tests: names are made here."""

    url: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _run: str = field(default_factory=lambda: secrets.token_hex(3))

    tells_bytes = True
    offsets_a_commit = 0  # that hold no record, in each partition that a commit writes to
    model_examples = 60

    def name(self, what: str) -> str:
        """A topic or slot that nobody else uses."""
        return f"{what}.{self._run}.{next(self._numbers)}"

    def remove(self, log: Log, now_us: int, keep: Mapping[str, float]) -> None:
        """Retention, by whoever is in charge of it."""
        log.apply_retention(now_us, keep)

    def settle(self, log: Log, slot: str) -> None:
        """What a process that was killed had in flight is committed or gone afterwards."""


@dataclass
class KafkaBackend(Backend):
    """Retention is the broker's: the tests ask it to remove what it would."""

    tells_bytes = False
    offsets_a_commit = 1
    model_examples = 6

    def remove(self, log: Log, now_us: int, keep: Mapping[str, float]) -> None:
        log.apply_retention(now_us, keep)  # must do no harm
        servers: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.url.removeprefix("kafka://")
        }
        consumer = Consumer(servers | {"group.id": "retention"})
        cuts = [
            TopicPartition(topic, partition, int(now_us / 1e3 - seconds * 1e3))
            for topic, seconds in keep.items()
            for partition in range(log.topics()[topic].partitions)
        ]
        cuts = consumer.offsets_for_times(cuts, timeout=10)
        consumer.close()
        admin = AdminClient(servers | QUIET)
        for future in admin.delete_records(cuts).values():  # an offset of -1: up to the end
            future.result()

    def settle(self, log: Log, slot: str) -> None:
        log.writer(slot).close()
