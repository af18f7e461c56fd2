"""What a Kafka client's errors lead to: another attempt, or a line that names the cause."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import KafkaError, KafkaException

from dataflows.connectors.kafka_cluster import PATIENCE_S, Cluster
from dataflows.connectors.log import LogError, LogUnreachable

BUSY = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.CONCURRENT_TRANSACTIONS,
)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster("kafka://127.0.0.1:1", {})


class FailsFirst:
    def __init__(self, code: int, times: int):
        self._code, self._times = code, times

    def __call__(self) -> str:
        self._times -= 1
        if self._times >= 0:
            raise KafkaException(KafkaError(self._code))
        return "done"


@pytest.mark.parametrize("code", BUSY)
def test_a_busy_broker_is_asked_again(cluster: Cluster, code: int) -> None:
    assert cluster.ask("slot s", FailsFirst(code, times=2)) == "done"


@pytest.mark.parametrize("code", BUSY)
def test_a_broker_that_stays_busy_is_not_called_silent(cluster: Cluster, code: int) -> None:
    cluster._note(KafkaError(KafkaError._TRANSPORT, "Disconnected"))
    with pytest.raises(LogUnreachable, match="slot s: the broker is busy") as raised:
        cluster.ask("slot s", FailsFirst(code, times=1_000), patience_s=0)
    assert "no broker answers" not in str(raised.value)
    assert "Disconnected" not in str(raised.value)


def test_an_error_that_will_not_pass_ends_the_attempts_at_once(cluster: Cluster) -> None:
    cluster._note(KafkaError(KafkaError._RESOLVE, "no such host"))
    with pytest.raises(LogError, match="the host is unknown"):
        cluster.ask("topics", FailsFirst(KafkaError._TIMED_OUT, times=1))


def test_an_error_of_long_ago_explains_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster._note(KafkaError(KafkaError._RESOLVE, "no such host"))
    long_after = time.monotonic() + PATIENCE_S + 1
    monkeypatch.setattr("dataflows.connectors.kafka_cluster.time.monotonic", lambda: long_after)
    assert cluster.ask("topics", FailsFirst(KafkaError._TIMED_OUT, times=1)) == "done"
