"""Which flow reads and writes which topics: derived from schemas/ and this one list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from dataflows.contracts import Contract
from dataflows.runtime.config import Config, Retention

DAY_S = 86_400.0
RULE_SETS, MODELS = "control.rules", "control.models"
SESSIONS = "sessions"
FLOWS = (
    *("ingest", "sessionize", "features", "score", "measure", "detect", "watch"),
    *("late", "load"),
)


@dataclass(frozen=True)
class Topology:
    """Topics with their partitions and how long they keep records (seconds), and the input topics
    of each flow."""

    topics: Mapping[str, int]
    keep_s: Mapping[str, float]
    inputs: Mapping[str, tuple[str, ...]]

    def slots(self, flow: str) -> list[tuple[str, int]]:
        """(topic, partition) of each slot of a flow."""
        return [
            (topic, partition)
            for topic in self.inputs[flow]
            for partition in range(self.topics[topic])
        ]

    def writer_names(self) -> list[str]:
        """Whoever leaves a marker: every slot of every flow, and who applies rules or models."""
        slots = [
            f"{flow}.{topic}.{partition}"
            for flow in self.inputs
            for topic, partition in self.slots(flow)
        ]
        return [*slots, RULE_SETS, MODELS]


def topology(contracts: Mapping[str, Contract], config: Config) -> Topology:
    """The whole wiring. Co-partitioned topics share the partition count of their source."""
    partitions = {
        source: config.partitions.get(source, contract.partitions)
        for source, contract in contracts.items()
    }
    topics: dict[str, int] = {}
    for source, count in partitions.items():
        for prefix in ("raw", "events", "late", "dlq", "buffered"):
            topics[f"{prefix}.{source}"] = count
    visits, payments = partitions.get("clickstream", 1), partitions.get("transactions", 1)
    topics |= {SESSIONS: visits, "late.sessionize": visits, "dlq.sessionize": visits}
    topics |= {"scoring.requests": payments, "dlq.features": payments}
    topics |= {"scores": payments, "alerts": payments, "floods": payments, "dlq.score": payments}
    topics |= {"metrics.parts": 1, "metrics": 1, "anomalies": 1, "dlq.measure": 1, "dlq.detect": 1}
    topics |= {"logins": 1, "incidents": visits, "dlq.watch": 1}
    topics |= {RULE_SETS: 1, MODELS: 1, "reprocess.requests": 1, "dlq.late": 1, "dlq.load": 1}
    by_source = {
        prefix: tuple(f"{prefix}.{source}" for source in contracts)
        for prefix in ("raw", "events", "late", "dlq", "buffered")
    }
    return Topology(
        topics=topics,
        keep_s={topic: keep_seconds(topic, contracts, config.retention) for topic in topics},
        inputs={
            "ingest": by_source["raw"],
            "sessionize": ("events.clickstream",),
            "features": ("events.transactions",),
            "score": ("scoring.requests",),
            "measure": by_source["events"],
            "detect": ("metrics.parts",),
            "watch": ("events.clickstream", "logins", SESSIONS),
            "late": by_source["late"],
            "load": (
                *by_source["events"],
                *by_source["buffered"],
                *by_source["dlq"],
                *(SESSIONS, "scores", "alerts", "floods", "metrics", "anomalies"),
                *("incidents", "reprocess.requests"),
                *("dlq.sessionize", "dlq.features", "dlq.score"),
                *("dlq.measure", "dlq.detect", "dlq.watch", "dlq.late"),
            ),
        },
    )


def keep_seconds(topic: str, contracts: Mapping[str, Contract], retention: Retention) -> float:
    """How long a topic keeps its records: a source's as its contract says."""
    kind, _, source = topic.partition(".")
    if kind == "control":
        return inf
    if kind == "dlq":
        return retention.dead_letters.seconds
    if source in contracts:
        return contracts[source].retention_days * DAY_S
    return retention.derived.seconds
