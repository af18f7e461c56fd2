"""States for more partitions: what each slot must know when a source's partitions are multiplied.

With k times as many, partition p is split into p, p + P, p + 2P, ...: a key's new partition, any
hash modulo its number, leaves the remainder p modulo the old number P. So a new slot's keys come
from one old slot, and time has come as far for them as it had there. Its state is the old slot's,
rebuilt from the log. That it also knows keys of others does no harm where a state speaks only when
a key's record comes: ids seen, payments made. Open sessions close by themselves, so there each slot
gets exactly its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from dataflows.connectors.log import Marker
from dataflows.connectors.records import Records, partition_for
from dataflows.errors import TidegateError
from dataflows.flows.payments import REQUEST_PAYMENTS, REQUESTS, decode_requests
from dataflows.flows.shop import Shop
from dataflows.flows.topology import Topology
from dataflows.runtime import fates
from dataflows.runtime.handover import apart, handed_over
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import records_a_batch

STATEFUL = ("ingest", "sessionize", "features", "score")
SOURCE_OF = {"sessionize": "clickstream", "features": "transactions", "score": "transactions"}
SPEAKS_BY_ITSELF = "sessionize"  # its state makes outputs for keys that have no record

Restore = Callable[[list[bytes]], Any]


def grown_topics(before: Topology, after: Topology) -> dict[str, int]:
    """The topics whose number of partitions differs, with the new one."""
    return {t: count for t, count in after.topics.items() if before.topics[t] != count}


def rebuilt(shop: Shop, slot: Slot, marker: Marker) -> bytes:
    """The state of a drained slot, all its keys."""
    restore, decode = _logic(slot, shop)
    state = restore([])
    for records in _history(slot, marker):
        handed = handed_over(records, slot.flow, slot.log)
        if handed is not None:
            state = restore([handed])
        state.process(decode(records))
    return bytes(state.snapshot())


def divided(shop: Shop, slot: Slot, marker: Marker, partitions: int) -> dict[int, bytes]:
    """The state of a drained slot of sessions, by the new partition of its keys."""
    restore, decode = _logic(slot, shop)
    old = shop.topology.topics[slot.topic]
    states = {p: restore([]) for p in range(slot.partition, partitions, old)}
    for records in _history(slot, marker):
        if handed_over(records, slot.flow, slot.log) is not None:
            raise TidegateError(
                f"slot {slot.name}: its state was handed over by a reshard that the log still "
                "holds, and cannot be divided again before retention has removed that"
            )
        places = _placed(slot, records, old, partitions)
        for partition, state in states.items():
            decoded = decode(records)
            # Events of others only tell the time, as they did before.
            others = (decoded.fates == fates.GOOD) & (places != partition)
            decoded.fates[others] = fates.HEARTBEAT
            state.process(decoded)
    return {partition: bytes(state.snapshot()) for partition, state in states.items()}


def _placed(slot: Slot, records: Records, old: int, new: int) -> np.ndarray:
    """The new partition of each record."""
    for offset, key in zip(records.offsets.tolist(), records.keys, strict=True):
        if key is not None and partition_for(key, old) != slot.partition:
            raise TidegateError(
                f"{slot.topic} partition {slot.partition} offset {offset}: its key belongs to "
                f"partition {partition_for(key, old)} by crc32, so whoever writes raw topics "
                "places keys otherwise, and nobody here can tell where they go; have producers use "
                "librdkafka's partitioner `consistent`, or publish again into a new data_dir"
            )
    return np.array(
        [slot.partition if key is None else partition_for(key, new) for key in records.keys]
    )


def _history(slot: Slot, marker: Marker) -> Iterator[Records]:
    """What the slot has read, as far as the log still holds it."""
    low, _ = slot.log.offsets(slot.topic, slot.partition)
    reader = slot.log.reader(slot.topic, slot.partition, max(low, marker.first_offset))
    held: Records | None = None
    most = records_a_batch(slot, REQUEST_PAYMENTS if slot.topic == REQUESTS else 1)
    try:
        while reader.position < marker.next_offset:
            records = reader.read(most)
            if not len(records):
                slot.stop.wait(slot.config.slots.poll_busy.seconds)
                continue
            batches, held = apart(Records.concat([held, records]) if held else records)
            yield from batches
    finally:
        reader.close()


def _logic(slot: Slot, shop: Shop) -> tuple[Restore, Callable[[Records], Any]]:
    """How a flow makes its state, and what the state processes."""
    settings = slot.config.event_time
    match slot.flow:
        case "ingest":
            from dataflows.flows.ingest import Classifier, decode

            contract = shop.contract(slot.topic)
            return partial(Classifier, slot, contract), partial(decode, contract)
        case "sessionize":
            from dataflows.flows import sessionize

            return partial(sessionize.SessionState, settings), sessionize.decode
        case "features":
            from dataflows.flows import features

            hop = partial(
                features.CustomerHop,
                settings,
                shop.topology.topics[REQUESTS],
                declared=shop.declared.of_customers,
            )
            return hop, features.decode
        case "score":
            from dataflows.flows import score

            declared = shop.declared
            return partial(score.DeviceHop, settings, declared=declared), decode_requests
    raise ValueError(slot.flow)
