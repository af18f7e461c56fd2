"""What transactions do to readers: where one stays open, and how far groups are committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException
from confluent_kafka.admin import AdminClient

from dataflows.connectors.kafka_cluster import CALL_S, Cluster
from dataflows.connectors.kafka_markers import PREFIX, Place
from dataflows.connectors.kafka_writer import GROUP, TRANSACTION_S
from dataflows.connectors.log import Held

LIVELY_S = 1.0  # a transaction of a live process moves on within that

Ends = Callable[[Sequence[Place], IsolationLevel], Mapping[Place, int]]


def held_back(ends: Ends, places: Sequence[Place]) -> list[Held]:
    """The places where readers of committed records have not come further for LIVELY_S, though
    there is more. Every transaction of a slot writes its marker: so that tells whose it is."""
    waiting = _waiting(ends, places)
    if not waiting:
        return []
    time.sleep(LIVELY_S)
    still = _waiting(ends, list(waiting))
    return [
        Held(*place, offset, TRANSACTION_S, _slot(place[0]))
        for place, offset in still.items()
        if waiting[place] == offset
    ]


def _waiting(ends: Ends, places: Sequence[Place]) -> dict[Place, int]:
    """Where the last stable offset lies before the end."""
    stable = ends(places, IsolationLevel.READ_COMMITTED)
    # The ends are asked for later: a place that moves on in between is looked at once more.
    last = ends(places, IsolationLevel.READ_UNCOMMITTED)
    return {place: stable[place] for place in places if stable[place] < last[place]}


def _slot(topic: str) -> str | None:
    return topic.removeprefix(PREFIX) if topic.startswith(PREFIX) else None


def committed(cluster: Cluster, admin: AdminClient, flows: Sequence[str]) -> dict[str, int]:
    """The offsets that the groups of flows have committed, by slot."""
    found: dict[str, int] = {}
    for flow in flows:
        group = GROUP.format(flow=flow)

        def ask(group: str = group) -> list[ConsumerGroupTopicPartitions]:
            asked = admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=CALL_S
            )
            return [future.result() for future in asked.values()]

        for answer in cluster.ask(f"offsets of group {group}", ask):
            for at in answer.topic_partitions or ():
                if at.error is not None:
                    raise cluster.trouble(f"group {group}", KafkaException(at.error))
                found[f"{flow}.{at.topic}.{at.partition}"] = at.offset
    return found
