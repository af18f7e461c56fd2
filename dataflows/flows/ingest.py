"""ingest: raw.* -> events.*, late.*, dlq.*

    read -> decode -> classify -> enrich -> route -> publish

Same partition number in and out, so that a source's event time stays in order per partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.operators import map_value
from numpy.typing import NDArray

from dataflows.connectors.records import Headers, Output, Records, heartbeat_headers, spread, taken
from dataflows.contracts import Contract
from dataflows.eventtime.changed_rows import Changes
from dataflows.eventtime.dedup import Deduplicator
from dataflows.eventtime.lateness import Lateness, classify
from dataflows.eventtime.snapshots import Buffer, prefixed, split_prefix
from dataflows.eventtime.watermark import Watermark
from dataflows.flows.dead_letters import Rejection, dead_letters
from dataflows.flows.enrichment import Enricher
from dataflows.flows.heartbeats import heartbeat_rows
from dataflows.flows.reference import await_reference
from dataflows.flows.shop import Shop
from dataflows.runtime import fates
from dataflows.runtime.fates import Fates
from dataflows.runtime.sink import Processed, publish
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.state import keep_large_state

# Headers of records in late.*: what they were late against, and which raw records they are.
LATE_WATERMARK, LATE_OFFSET, LATE_ARRIVAL = "late-watermark", "late-offset", "late-arrival"
LATE_HEARTBEAT_US = 600_000_000  # event time between heartbeats into late.*, which is mostly idle


def ingest(slot: Slot, shop: Shop) -> Dataflow:
    contract = shop.contract(slot.topic)
    await_reference(shop, slot, contract)
    flow = Dataflow("ingest")
    records = read("read", flow, slot)
    decoded = map_value("decode", records, partial(decode, contract))
    classified = keep_large_state("classify", decoded, slot, partial(Classifier, slot, contract))
    enriched = map_value("enrich", classified, partial(enrich, Enricher(shop.reference, contract)))
    routed = map_value("route", enriched, partial(route, contract))
    publish("publish", routed, slot)
    return flow


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch after its contract; a record is an event, a heartbeat or rejected."""

    records: Records
    events: list[msgspec.Struct | None]
    times_us: NDArray[np.int64]  # event time; 0 where rejected
    extras: list[bytes | None] | None
    heartbeats: NDArray[np.bool_]
    rejections: list[Rejection]


@dataclass(frozen=True, slots=True)
class Classified:
    """A batch with the fate of each record and the watermark after it."""

    decoded: Decoded
    fates: Fates
    watermarks_us: NDArray[np.int64]
    late_heartbeats: NDArray[np.bool_]
    rejections: list[Rejection]
    published: list[bytes | None] = field(default_factory=list)  # the enriched events


def decode(contract: Contract, records: Records) -> Decoded:
    """Judges each record by the contract; what fails keeps its bytes and gets a reason."""
    heartbeats, times_us = heartbeat_rows(records)
    judged = contract.decode(records.values)
    rejections = [Rejection(*failure) for failure in judged.failures if not heartbeats[failure.row]]
    return Decoded(
        records=records,
        events=judged.events,
        times_us=np.where(heartbeats, times_us, judged.times_us),
        extras=judged.extras,
        heartbeats=heartbeats,
        rejections=rejections,
    )


class Classifier:
    """The slot's state: its watermark and the ids it remembers."""

    def __init__(self, slot: Slot, contract: Contract, frames: Iterable[Buffer]):
        self._settings, self._contract = slot.config.event_time, contract
        self._watermark = Watermark(int(self._settings.bound))
        self._dedup = Deduplicator.restore(
            int(self._settings.lateness), slot.config.slots.dedup_max_ids, self._read(frames)
        )

    def _read(self, frames: Iterable[Buffer]) -> Iterator[Buffer]:
        """Takes the watermark from each frame and gives on the rest."""
        for frame in frames:
            saved = split_prefix(frame, "watermark")
            self._watermark = Watermark(int(self._settings.bound), saved.number)
            yield saved.rest

    @property
    def snapshot_bytes(self) -> int:
        return self._dedup.snapshot_bytes

    def snapshot(self) -> bytes:
        return b"".join(prefixed(self._watermark.snapshot(), [self._dedup.snapshot()]))

    def changes(self, everything: bool = False) -> Changes:
        ids, complete = self._dedup.changes(everything)
        return Changes(prefixed(self._watermark.snapshot(), ids), complete)

    def process(self, decoded: Decoded) -> Classified:
        """Future events, then missing users, then lateness, then duplicates among the timely."""
        records, times_us = decoded.records, decoded.times_us
        codes = np.full(len(records), fates.GOOD, np.uint8)
        codes[decoded.heartbeats] = fates.HEARTBEAT
        rejections = list(decoded.rejections)
        for rejection in rejections:
            codes[rejection.row] = fates.failed(rejection.reason)
        rejections += self._reject_future(decoded, codes)
        rejections += self._reject_missing_user(decoded, codes)
        rejected = codes >= fates.failed("empty")
        before_us = self._watermark.value_us
        watermarks_us = self._watermark.advance(times_us, ~rejected)
        self._classify(decoded, codes, watermarks_us)
        return Classified(
            decoded=decoded,
            fates=codes,
            watermarks_us=watermarks_us,
            late_heartbeats=_crossings(before_us, watermarks_us) | decoded.heartbeats,
            rejections=rejections,
        )

    def _reject_future(self, decoded: Decoded, codes: Fates) -> list[Rejection]:
        arrival_us = decoded.records.arrival_us
        ahead = (codes == fates.GOOD) & (decoded.times_us > arrival_us + self._settings.max_future)
        codes[ahead] = fates.failed("future_timestamp")
        limit = self._settings.max_future
        return [
            Rejection(
                row,
                "future_timestamp",
                f"event time is {(times - arrival) / 1e6:.0f} s ahead of its arrival; {limit} is "
                "allowed",
            )
            for row, times, arrival in zip(
                np.flatnonzero(ahead).tolist(),
                decoded.times_us[ahead].tolist(),
                arrival_us[ahead].tolist(),
                strict=True,
            )
        ]

    def _reject_missing_user(self, decoded: Decoded, codes: Fates) -> list[Rejection]:
        if not self._contract.require_user:
            return []
        name = self._contract.user
        assert name is not None
        rows = np.flatnonzero(codes == fates.GOOD)
        users = _values_of(name, decoded, rows)
        if set(map(type, users)) == {str}:
            return []
        missing = rows[[not isinstance(user, str) for user in users]].tolist()
        codes[missing] = fates.failed("missing_user")
        return [
            Rejection(row, "missing_user", f"$.{name}: no user, so no session") for row in missing
        ]

    def _classify(self, decoded: Decoded, codes: Fates, watermarks_us: NDArray[np.int64]) -> None:
        settings = self._settings
        events = np.flatnonzero(codes == fates.GOOD)
        times_us, at_us = decoded.times_us[events], watermarks_us[events]
        classes = classify(times_us, at_us, settings.lateness, settings.horizon)
        codes[events] = fates.FATE_OF_CLASS[classes]
        timely = events[classes <= Lateness.LATE]
        ids = _values_of(self._contract.dedup_key, decoded, timely)
        seen = self._dedup.seen(ids, decoded.times_us[timely], watermarks_us[timely])
        codes[timely[seen]] = fates.DUPLICATE


def _values_of(field: str, decoded: Decoded, rows: NDArray[np.int64]) -> list[Any]:
    """A field of the events of some rows."""
    return list(map(attrgetter(field), taken(decoded.events, rows)))


def _crossings(before_us: int, watermarks_us: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where the watermark enters another interval of LATE_HEARTBEAT_US."""
    intervals = np.concatenate(([before_us], watermarks_us)) // LATE_HEARTBEAT_US
    return np.diff(intervals) > 0


_LATENESS = np.full(len(fates.FATES), "", object)
_LATENESS[fates.GOOD], _LATENESS[fates.LATE] = "on_time", "late"


def enrich(enricher: Enricher, classified: Classified) -> Classified:
    """Encodes the timely events with what is known about them."""
    decoded, codes = classified.decoded, classified.fates
    timely = np.flatnonzero((codes == fates.GOOD) | (codes == fates.LATE))
    lateness = _LATENESS[codes[timely]].tolist()
    encoded = enricher.encode(
        decoded.records, decoded.events, decoded.times_us, decoded.extras, timely, lateness
    )
    return replace(classified, published=spread(encoded, timely, len(codes)))


def route(contract: Contract, classified: Classified) -> Processed:
    """Timely events on, late ones aside, rejected ones to the dead letters, each as one output."""
    records, codes = classified.decoded.records, classified.fates
    rejected = dead_letters(
        f"dlq.{contract.source}",
        records,
        classified.rejections,
        f"{contract.source}/{contract.version}",
    )
    return Processed(
        offsets=records.offsets,
        arrival_us=records.arrival_us,
        fates=codes,
        outputs=[_timely(contract, classified), _too_late(contract, classified), rejected],
        watermark_us=int(classified.watermarks_us[-1]),
    )


def _timely(contract: Contract, classified: Classified) -> Output:
    records, decoded = classified.decoded.records, classified.decoded
    codes = classified.fates
    heartbeats = decoded.heartbeats
    rows = np.flatnonzero((codes == fates.GOOD) | (codes == fates.LATE) | heartbeats)
    keys, values = records.keys, classified.published
    headers = None
    if heartbeats.any():
        headers = [
            heartbeat_headers(int(decoded.times_us[row])) if heartbeats[row] else ()
            for row in rows.tolist()
        ]
    return Output(
        topic=f"events.{contract.source}",
        causes=records.offsets[rows],
        keys=taken(keys, rows),
        values=taken(values, rows),
        headers=headers,
        partition=records.partition,
    )


def _too_late(contract: Contract, classified: Classified) -> Output:
    """The raw bytes, with the watermark they were late against; heartbeats so that time passes."""
    records, codes = classified.decoded.records, classified.fates
    late = (codes == fates.BUFFERED) | (codes == fates.EXPIRED)
    heartbeat = classified.late_heartbeats & ~late
    rows = np.flatnonzero(late | heartbeat)
    return Output(
        topic=f"late.{contract.source}",
        causes=records.offsets[rows],
        keys=[records.keys[row] if late[row] else None for row in rows.tolist()],
        values=[records.values[row] if late[row] else None for row in rows.tolist()],
        headers=[
            (*_original(records, row), *_late_headers(records, row, watermark))
            if late[row]
            else heartbeat_headers(watermark)
            for row, watermark in zip(
                rows.tolist(), classified.watermarks_us[rows].tolist(), strict=True
            )
        ],
        partition=records.partition,
    )


def _original(records: Records, row: int) -> Headers:
    return records.headers[row] if records.headers else ()


def _late_headers(records: Records, row: int, watermark_us: int) -> Headers:
    return (
        (LATE_WATERMARK, b"%d" % watermark_us),
        (LATE_OFFSET, b"%d" % records.offsets[row]),
        (LATE_ARRIVAL, b"%d" % records.arrival_us[row]),
    )
