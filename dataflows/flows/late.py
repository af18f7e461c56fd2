"""late: late.* -> buffered.*, reprocess.requests, dlq.late

    read -> decode -> buffer -> publish

Events too late for the stream are kept for the warehouse, and each event date they touch is asked
to be reprocessed once event time has gone on a while without another late event for that date.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.operators import map_value
from numpy.typing import NDArray

from dataflows.connectors.records import END_OF_TIME_US, Headers, Output, Records, taken
from dataflows.contracts import Contract
from dataflows.contracts.timestamps import format_timestamps
from dataflows.eventtime.lateness import Lateness, classify
from dataflows.flows.dead_letters import Rejection, dead_letters
from dataflows.flows.enrichment import Enricher
from dataflows.flows.ingest import (
    LATE_ARRIVAL,
    LATE_OFFSET,
    LATE_WATERMARK,
    Decoded,
    decode,
)
from dataflows.flows.shop import Shop
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime
from dataflows.runtime.fates import Fates
from dataflows.runtime.sink import Processed, publish
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.state import keep_state

BEFORE_TIME_US = -(2**62)
_DECIMAL = re.compile(rb"-?[0-9]{1,19}")
DAY_US = 86_400_000_000


def late(slot: Slot, shop: Shop) -> Dataflow:
    contract = shop.contract(slot.topic)
    flow = Dataflow("late")
    records = read("read", flow, slot)
    decoded = map_value("decode", records, partial(decode, contract))
    buffered = keep_state(
        "buffer", decoded, slot, partial(LateBuffer, slot.config.event_time, contract.source)
    )
    enriched = map_value(
        "enrich", buffered, partial(enrich, Enricher(shop.reference, contract), contract)
    )
    publish("publish", enriched, slot)
    return flow


class ReprocessRequest(msgspec.Struct):
    """Late events have been buffered for this date of this source: merge them."""

    source: str
    event_date: str
    late_events: int
    first_event_at: str
    last_event_at: str


class Pending(msgspec.Struct, array_like=True):
    """Late events of one date that no request covers yet."""

    count: int
    first_us: int
    last_us: int
    quiet_until_us: int


class _Saved(msgspec.Struct, array_like=True):
    watermark_us: int
    pending: dict[int, Pending]


_decode_saved = msgspec.msgpack.Decoder(_Saved).decode


@dataclass(frozen=True, slots=True)
class Buffered:
    """A batch with the fate of each record, and the requests that fell due."""

    decoded: Decoded
    fates: Fates
    requests: Output
    rejections: list[Rejection]
    watermark_us: int


class LateBuffer:
    """The slot's state: what waits to be asked for, by event date (days since the epoch)."""

    def __init__(self, settings: EventTime, source: str, blob: bytes | None):
        self._settings, self._source = settings, source
        saved = _decode_saved(blob) if blob else _Saved(BEFORE_TIME_US, {})
        self._watermark_us, self._pending = saved.watermark_us, saved.pending

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_Saved(self._watermark_us, self._pending))

    def process(self, decoded: Decoded) -> Buffered:
        records, times_us = decoded.records, decoded.times_us
        watermarks_us = self._advance(decoded)
        codes = np.full(len(records), fates.BUFFERED, np.uint8)
        codes[decoded.heartbeats] = fates.HEARTBEAT
        rejections = list(decoded.rejections)
        for rejection in rejections:
            codes[rejection.row] = fates.failed(rejection.reason)
        lateness = classify(
            times_us, watermarks_us, self._settings.lateness, self._settings.horizon
        )
        expired = (codes == fates.BUFFERED) & (lateness == Lateness.EXPIRED)
        codes[expired] = fates.failed("too_late")
        for row in np.flatnonzero(expired).tolist():
            behind = (int(watermarks_us[row]) - int(times_us[row])) / DAY_US
            message = f"{behind:.1f} days behind the watermark; the horizon is "
            rejections.append(Rejection(row, "too_late", message + str(self._settings.horizon)))
        requests = self._collect(decoded, codes, watermarks_us)
        return Buffered(decoded, codes, requests, rejections, self._watermark_us)

    def _advance(self, decoded: Decoded) -> NDArray[np.int64]:
        """The watermark in force at each record: what ingest wrote, or the events' own time."""
        reached = np.full(len(decoded.events), BEFORE_TIME_US, np.int64)
        headers = decoded.records.headers
        for row, event in enumerate(decoded.events):
            if decoded.heartbeats[row]:
                reached[row] = decoded.times_us[row]
            elif event is not None:
                told = _number(headers[row], LATE_WATERMARK) if headers else None
                own = int(decoded.times_us[row]) - self._settings.bound
                reached[row] = own if told is None else told
        watermarks_us = np.maximum(np.maximum.accumulate(reached), self._watermark_us)
        self._watermark_us = int(watermarks_us[-1])
        return watermarks_us

    def _collect(self, decoded: Decoded, codes: Fates, watermarks_us: NDArray[np.int64]) -> Output:
        """Adds each buffered event to its date, and asks for dates that have been quiet."""
        causes: list[int] = []
        requests: list[ReprocessRequest] = []
        for code, time_us, watermark_us, offset in zip(
            codes.tolist(),
            decoded.times_us.tolist(),
            watermarks_us.tolist(),
            decoded.records.offsets.tolist(),
            strict=True,
        ):
            if code == fates.BUFFERED:
                self._add(time_us, watermark_us)
            for request in self._due(watermark_us) if self._pending else ():
                causes.append(offset)
                requests.append(request)
        return Output(
            topic="reprocess.requests",
            causes=np.array(causes, np.int64),
            keys=[f"{r.source}/{r.event_date}".encode() for r in requests],
            values=[msgspec.json.encode(request) for request in requests],
            partition=0,
        )

    def _add(self, time_us: int, watermark_us: int) -> None:
        quiet_until_us = watermark_us + self._settings.reprocess_quiet
        found = self._pending.get(time_us // DAY_US)
        if found is None:
            self._pending[time_us // DAY_US] = Pending(1, time_us, time_us, quiet_until_us)
            return
        found.count += 1
        found.first_us = min(found.first_us, time_us)
        found.last_us = max(found.last_us, time_us)
        found.quiet_until_us = quiet_until_us

    def _due(self, watermark_us: int) -> list[ReprocessRequest]:
        due = sorted(
            day for day, pending in self._pending.items() if pending.quiet_until_us <= watermark_us
        )
        return [self._request(day, self._pending.pop(day)) for day in due]

    def _request(self, day: int, pending: Pending) -> ReprocessRequest:
        first, last = format_timestamps(np.array([pending.first_us, pending.last_us]))
        return ReprocessRequest(
            self._source, str(np.datetime64(day, "D")), pending.count, first, last
        )


def _number(headers: Headers, name: str) -> int | None:
    """The value of ingest's header, which comes after whatever the client sent; None if it is no
    number that ingest would write."""
    value = next((value for known, value in reversed(headers) if known == name), b"")
    number = int(value) if _DECIMAL.fullmatch(value) else None
    return number if number is not None and abs(number) <= END_OF_TIME_US else None


def as_ingested(records: Records, source: str) -> Records:
    """The raw records that these are copies of; they are their own where no header tells."""
    offsets, arrival_us = records.offsets.copy(), records.arrival_us.copy()
    for row, headers in enumerate(records.headers or ()):
        offset, arrival = _number(headers, LATE_OFFSET), _number(headers, LATE_ARRIVAL)
        if offset is not None and arrival is not None:
            offsets[row], arrival_us[row] = offset, arrival
    return replace(records, topic=f"raw.{source}", offsets=offsets, arrival_us=arrival_us)


def enrich(enricher: Enricher, contract: Contract, buffered: Buffered) -> Processed:
    """The buffered events as ingest would have published them."""
    decoded, codes = buffered.decoded, buffered.fates
    records = decoded.records
    origin = as_ingested(records, contract.source)
    rows = np.flatnonzero(codes == fates.BUFFERED)
    events = enricher.encode(
        origin,
        decoded.events,
        decoded.times_us,
        decoded.extras,
        rows,
        ["buffered"] * len(rows),
    )
    output = Output(
        topic=f"buffered.{contract.source}",
        causes=records.offsets[rows],
        keys=taken(records.keys, rows),
        values=list(events),
        partition=records.partition,
    )
    version = f"{contract.source}/{contract.version}"
    return Processed(
        offsets=records.offsets,
        arrival_us=records.arrival_us,
        fates=codes,
        outputs=[
            output,
            buffered.requests,
            dead_letters(
                "dlq.late", origin, buffered.rejections, version, 0, causes=records.offsets
            ),
        ],
        watermark_us=buffered.watermark_us,
    )
