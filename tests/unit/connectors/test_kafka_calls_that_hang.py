"""A call into the Kafka client that never returns is given up; one that fails says how."""

from __future__ import annotations

import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from dataflows.connectors import kafka_writer


def test_a_call_that_does_not_return_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_writer, "UNANSWERED_S", 0.05)
    released = threading.Event()
    with pytest.raises(KafkaException) as caught:
        kafka_writer._answered(released.wait)
    assert caught.value.args[0].code() == KafkaError._TIMED_OUT
    released.set()


def test_a_call_that_fails_raises_what_it_raised() -> None:
    def refuse() -> None:
        raise KafkaException(KafkaError(KafkaError._FENCED))

    with pytest.raises(KafkaException) as caught:
        kafka_writer._answered(refuse)
    assert caught.value.args[0].code() == KafkaError._FENCED
    kafka_writer._answered(lambda: None)
