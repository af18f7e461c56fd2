"""The last records of a topic, also where offsets hold none."""

from __future__ import annotations

from log_backends import Backend

from dataflows.connectors.log import Log, Marker
from dataflows.connectors.records import published
from services.status.peek import peek_records


def test_the_last_records_are_shown_whatever_lies_between_them(backend: Backend, log: Log) -> None:
    topic, slot = backend.name("topic"), backend.name("slot")
    log.create_topics({topic: 1})
    with_transactions = log.writer(slot)
    for number in range(6):  # on Kafka each takes an offset for its end
        record = published(topic, [b"k"], [b"%d" % number], partition=0)
        with_transactions.commit([record], Marker(seq=number, next_offset=number + 1))
    with_transactions.close()
    for count, last in ((1, [b"5"]), (3, [b"3", b"4", b"5"]), (100, [b"%d" % n for n in range(6)])):
        assert [r.value for r in peek_records(log, topic, None, None, count)] == last
