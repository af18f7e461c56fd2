"""`tidegate reshard`: drains a source's flows, multiplies its partitions, hands the states over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import msgspec

from dataflows.connectors.log import Log, Marker
from dataflows.connectors.records import Output
from dataflows.errors import TidegateError
from dataflows.flows.opening import builder
from dataflows.flows.resharding import (
    SOURCE_OF,
    SPEAKS_BY_ITSELF,
    STATEFUL,
    divided,
    grown_topics,
    rebuilt,
)
from dataflows.flows.shop import Shop
from dataflows.flows.topology import FLOWS, topology
from dataflows.runtime.config import Config
from dataflows.runtime.handover import BEGUN, GROWN, RESHARD, VOUCHED, digest, handover, unfinished
from dataflows.runtime.recovery import Lease
from dataflows.runtime.slot import Slot, run_slot
from services.status.slots import slot_statuses

Say = Callable[[str], None]


def source_of(name: str, shop: Shop) -> str:
    """The source whose partitions are those of a flow; a source may be named itself.

    Raises:
        TidegateError: it is neither, or cannot be resharded.
    """
    source = SOURCE_OF.get(name, name)
    if source not in shop.contracts:
        why = "its slots are those of all sources" if name in FLOWS else "it is no flow"
        others = ", ".join(s for s, c in shop.contracts.items() if not c.reference)
        raise TidegateError(
            f"{name} cannot be resharded: {why}; name {', '.join(SOURCE_OF)}, or a source: {others}"
        )
    if shop.contracts[source].reference:
        raise TidegateError(
            f"{source} cannot be resharded: every process that enriches reads all of it, so more "
            "partitions would gain nothing"
        )
    return source


def reshard(shop: Shop, source: str, partitions: int, say: Say) -> None:
    """Gives the source's topics `partitions` partitions, and their slots the states for it.

    Killed at any point it can be run again, and then goes on where it was.

    Raises:
        TidegateError: the number cannot be had, something still runs, or the log fails.
    """
    shop, marker = _as_before(shop, source, partitions)
    grown = _growing(shop, source, partitions)
    slots = [slot for flow in FLOWS for slot in shop.slots(flow) if slot.topic in grown]
    with ExitStack() as leases:
        wait = shop.config.slots.lease_wait
        leases.callback(Lease(shop.config.data_path, "data directory", wait).release)
        _drain(shop, slots, say)
        for slot in slots:
            leases.callback(Lease(slot.directory, f"slot {slot.name}", wait).release)
            slot.log.writer(slot.name).close()  # ends one that runs on another machine
        _hand_over(shop, source, grown, slots, marker, say)


def _as_before(shop: Shop, source: str, partitions: int) -> tuple[Shop, Marker | None]:
    """The shop with the number of partitions that its states were made with, whatever it is
    configured to have by now; and what earlier reshards have left."""
    marker = shop.log.markers().get(RESHARD + source)
    begun = marker.counts.get(BEGUN) if marker else None
    raw = f"raw.{source}"
    if not begun:
        there = shop.log.topics().get(raw)
        if there is None:
            raise TidegateError(f"{shop.config.bus_url} has no topic {raw}; nothing to reshard")
        return Shop(_with(shop.config, source, there.partitions), shop.log), marker
    if begun["to"] != partitions:
        raise TidegateError(
            f"{source}: a reshard to {begun['to']} partitions was begun and not finished; say "
            f"--partitions {begun['to']} to finish it"
        )
    return Shop(_with(shop.config, source, begun["from"]), shop.log), marker


def _with(config: Config, source: str, partitions: int) -> Config:
    return msgspec.structs.replace(config, partitions={**config.partitions, source: partitions})


def _growing(shop: Shop, source: str, partitions: int) -> dict[str, int]:
    now = shop.topology.topics[f"raw.{source}"]
    if partitions == now:
        raise TidegateError(f"{source} has {now} partition(s) already; nothing to do")
    if partitions < now or partitions % now:
        raise TidegateError(
            f"{source} has {now} partition(s) and cannot have {partitions}: only a multiple keeps "
            f"each key's history in one place ({2 * now}, {3 * now}, ...); with another number "
            "publish its events again into a new data_dir"
        )
    return grown_topics(
        shop.topology, topology(shop.contracts, _with(shop.config, source, partitions))
    )


def _drain(shop: Shop, slots: list[Slot], say: Say) -> None:
    """Each flow after those whose outputs it reads, to the end of what is there."""
    for flow in FLOWS:
        own = [slot for slot in slots if slot.flow == flow]
        lag = sum(_lags(shop, flow, own).values())
        if not lag:
            continue
        say(f"draining {flow}: {lag:,} records")
        with ThreadPoolExecutor(len(own)) as pool:
            for slot in own:
                slot.stop_at_end = True
            runs = [pool.submit(run_slot, slot, builder(shop, flow)) for slot in own]
        for run in runs:
            run.result()
    _refuse_more(shop, slots)


def _refuse_more(shop: Shop, slots: list[Slot]) -> None:
    left = {name: lag for flow in FLOWS for name, lag in _lags(shop, flow, slots).items() if lag}
    if left:
        raise TidegateError(
            f"records still come in ({', '.join(left)}): stop whoever writes to the source's raw "
            "topic first, and start it again afterwards"
        )


def _lags(shop: Shop, flow: str, slots: list[Slot]) -> dict[str, int]:
    names = {slot.name for slot in slots if slot.flow == flow}
    found = {f"{s.flow}.{s.topic}.{s.partition}": s for s in slot_statuses(shop, (flow,))}
    return {name: found[name].lag_records for name in names}


def _hand_over(
    shop: Shop,
    source: str,
    grown: Mapping[str, int],
    slots: list[Slot],
    before: Marker | None,
    say: Say,
) -> None:
    name, log = RESHARD + source, shop.log
    log.apply_topics(log.plan_topics({}, {}, [name]), {}, {})
    states = _states(shop, grown, slots)
    _refuse_more(shop, slots)  # whoever wrote meanwhile did not know of the new partitions
    say(f"{len(states)} states rebuilt from the log; adding partitions to {len(grown)} topics")
    writer = log.writer(name)
    try:
        to = grown[f"raw.{source}"]
        numbers = {"from": shop.topology.topics[f"raw.{source}"], "to": to}
        known = dict(before.counts) if before else {}
        seq = before.seq + 1 if before else 1
        begun = Marker(seq=seq, next_offset=to, counts={**known, BEGUN: numbers})
        writer.commit([], begun)
        log.grow_topics(grown)
        vouched = known.get(VOUCHED, {}) | {digest(state): 1 for _, state in states}
        counts = {VOUCHED: vouched, GROWN: known.get(GROWN, {}) | dict(grown)}
        outputs = [output for output, _ in states]
        writer.commit(outputs, Marker(seq=seq + 1, next_offset=to, counts=counts))
    finally:
        writer.close()


def _states(shop: Shop, grown: Mapping[str, int], slots: list[Slot]) -> list[tuple[Output, bytes]]:
    """What is handed to which partition, and the state in it."""
    markers = shop.log.markers()
    made: list[tuple[Output, bytes]] = []
    for slot in slots:
        marker = markers.get(slot.name)
        if slot.flow not in STATEFUL or slot.topic not in grown or marker is None:
            continue
        count, old = grown[slot.topic], shop.topology.topics[slot.topic]
        if slot.flow == SPEAKS_BY_ITSELF:
            states = divided(shop, slot, marker, count)
        else:
            new = range(slot.partition + old, count, old)
            states = dict.fromkeys(new, rebuilt(shop, slot, marker))
        newest_us = marker.watermark_us + shop.config.event_time.bound
        made += [
            (handover(slot.flow, slot.topic, partition, newest_us, state), state)
            for partition, state in states.items()
        ]
    return made


def refuse_unfinished(log: Log) -> None:
    """
    Raises:
        TidegateError: a reshard was begun and not finished: the states do not fit the topics.
    """
    for source in unfinished(log):
        raise TidegateError(
            f"{source}: a reshard was begun and not finished; run the same `tidegate reshard` again"
        )
