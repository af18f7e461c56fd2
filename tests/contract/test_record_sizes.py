"""How large records are is measured alike in every log."""

from __future__ import annotations

from log_backends import Backend

from dataflows.connectors.log import Log, Marker
from dataflows.connectors.records import HEARTBEAT_HEADER, published
from services.cost.log import record_sizes


def test_sizes_are_of_key_value_and_headers_without_heartbeats(backend: Backend, log: Log) -> None:
    topic, slot = backend.name("topic"), backend.name("slot")
    log.create_topics({topic: 2})
    with_transactions = log.writer(slot)
    for number in range(5):  # on Kafka each takes an offset for its end
        record = published(topic, [b"key"], [b"v" * number], [(("n", b"12"),)], partition=0)
        with_transactions.commit([record], Marker(seq=number, next_offset=number + 1))
    with_transactions.close()
    beat = ((HEARTBEAT_HEADER, b"1"),)
    log.append([published(topic, [None, None], [None, b"1234"], [beat, ()], partition=1)])
    assert sorted(record_sizes(log, topic)) == [4, 6, 7, 8, 9, 10]
