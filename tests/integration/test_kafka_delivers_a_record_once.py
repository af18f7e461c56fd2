"""What Kafka's client delivers again is not read again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from dataflows.connectors.kafka_reader import KafkaReader
from dataflows.connectors.records import published
from dataflows.flows.opening import open_shop
from dataflows.runtime.config import load_config
from services.broker.broker import Broker

pytestmark = pytest.mark.kafka

TOPIC, COUNT = "raw.clickstream", 500


def read_until(reader: KafkaReader, offset: int, at_once: int) -> list[int]:
    offsets: list[int] = []
    give_up = time.monotonic() + 60
    while reader.position < offset:
        assert time.monotonic() < give_up
        offsets += reader.read(at_once).offsets.tolist()
        time.sleep(0.001)
    return offsets


@pytest.mark.parametrize("back_to", [0, 150])
def test_a_client_that_goes_back_gives_no_record_twice(
    broker: Broker, tmp_path: Path, back_to: int
) -> None:
    log = open_shop(load_config(None, {}, {"data_dir": str(tmp_path), "bus": broker.url})).log
    low = log.offsets(TOPIC, 0)[1]
    values: list[bytes | None] = [b"%d" % n for n in range(COUNT)]
    log.append([published(TOPIC, [None] * COUNT, values, partition=0)])
    reader = log.reader(TOPIC, 0, low)
    assert isinstance(reader, KafkaReader)
    offsets = read_until(reader, low + 200, 40)
    assert reader._consumer is not None
    reader._consumer.seek(TopicPartition(TOPIC, 0, low + back_to))
    offsets += read_until(reader, low + COUNT, 70)
    assert offsets == list(range(low, low + COUNT))
    reader.close()
    log.close()
