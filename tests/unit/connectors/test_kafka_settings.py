"""Which settings of the Kafka client may be chosen, and how they are said."""

from __future__ import annotations

import pytest

from dataflows.connectors.kafka_cluster import Cluster
from dataflows.connectors.log import LogError
from dataflows.runtime.config import load_config


def test_what_the_guarantees_hang_on_may_not_be_set() -> None:
    for name in ("isolation.level", "enable.idempotence", "transactional.id", "nonsense"):
        with pytest.raises(LogError, match=name):
            Cluster("kafka://localhost:9092", {name: "x"})


def test_a_value_that_cannot_be_is_one_line() -> None:
    cluster = Cluster("kafka://localhost:9092", {"security.protocol": "telepathy"})
    with pytest.raises(LogError, match="telepathy") as refusal:
        cluster.admin()
    assert "\n" not in str(refusal.value)


def test_the_environment_names_them_too() -> None:
    config = load_config(None, {"TIDEGATE_KAFKA_SECURITY_PROTOCOL": "ssl"})
    assert config.kafka == {"security.protocol": "ssl"}


@pytest.mark.parametrize(
    "url", ["kafka://", "kafka://host", "kafka://host:9092,", "kafka://u@h:1", "kafka://a b:1"]
)
def test_an_address_names_hosts_and_ports(url: str) -> None:
    with pytest.raises(LogError, match="host:port"):
        Cluster(url, {})
