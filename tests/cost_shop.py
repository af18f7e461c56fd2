"""A log from which a small shop's lake could have been loaded, with the flows' counts in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
from warehouse_shop import Delivery

from dataflows.connectors.log import Log, Marker
from dataflows.connectors.records import published
from dataflows.flows.opening import open_shop
from dataflows.runtime.config import Config, load_config

KEY = b"key"
RAW = b"as it came"  # of every raw record, whatever became of it
DUPLICATES = 5  # that ingest found of each source


def config_of(directory: Path, bus: str = "") -> Config:
    return load_config(None, {}, {"data_dir": str(directory), "bus": bus})


def put_log(config: Config, deliveries: Iterable[Delivery]) -> dict[str, list[int]]:
    """Publishes what was delivered, and the markers of ingest and load; for an empty log.

    Returns:
        Bytes of each record by topic.
    """
    values: dict[str, list[bytes]] = {}
    for delivery in deliveries:
        values.setdefault(delivery.topic, []).append(msgspec.json.encode(delivery.document))
    for topic in [*values]:
        kind, _, source = topic.partition(".")
        if kind == "events":
            values[f"raw.{source}"] = [RAW] * (len(values[topic]) + DUPLICATES)
    payments = len(values["events.transactions"])
    values["scoring.requests"] = [b"?"] * payments
    shop = open_shop(config)
    try:
        for topic, some in values.items():
            shop.log.append([published(topic, [KEY] * len(some), list(some), partition=0)])
            if topic in shop.topology.inputs["load"]:
                _count(shop.log, f"load.{topic}.0", {"good": len(some)})
        for topic, some in values.items():
            if topic.startswith("raw."):
                late = len(values.get(topic.replace("raw.", "buffered."), ()))
                good = len(some) - late - DUPLICATES
                fates = {"good": good, "buffered": late, "duplicate": DUPLICATES, "heartbeat": 7}
                _count(shop.log, f"ingest.{topic}.0", fates)
        _count(shop.log, "score.scoring.requests.0", {"good": payments})
    finally:
        shop.log.close()
    return {topic: [len(KEY) + len(value) for value in some] for topic, some in values.items()}


def _count(log: Log, slot: str, fates: dict[str, int]) -> None:
    writer = log.writer(slot)
    total = sum(fates.values())
    writer.commit([], Marker(seq=1, next_offset=total, counts={"2026-03-09": dict(Counter(fates))}))
    writer.close()
