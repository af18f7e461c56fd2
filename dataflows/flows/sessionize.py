"""sessionize: events.clickstream -> sessions, late.sessionize, dlq.sessionize

    read -> decode -> sessionize -> publish

Sessions are emitted when they close, and again, as a new revision, when late events change them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import msgspec
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.operators import map_value

from dataflows.connectors.records import Output, Records, taken
from dataflows.contracts.timestamps import format_timestamps
from dataflows.eventtime.funnel import FUNNEL
from dataflows.eventtime.sessions import SessionRows, Sessions, SessionSettings, session_id
from dataflows.eventtime.snapshots import Buffer
from dataflows.flows.dead_letters import dead_letters
from dataflows.flows.decoding import Events, Timed, decode_events
from dataflows.flows.shop import Shop
from dataflows.flows.topology import SESSIONS
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime
from dataflows.runtime.sink import Processed, publish
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.state import keep_large_state

_STAGE_OF = {
    "product_view": 1,
    "add_to_cart": 2,
    "view_cart": 2,
    "checkout_start": 3,
    "purchase": 4,
}
EVENT, HEARTBEAT, SKIP = 0, 1, 2


def sessionize(slot: Slot, shop: Shop) -> Dataflow:
    flow = Dataflow("sessionize")
    records = read("read", flow, slot)
    visits = map_value("decode", records, decode)
    restore = partial(SessionState, slot.config.event_time)
    sessions = keep_large_state("sessionize", visits, slot, restore)
    publish("publish", sessions, slot)
    return flow


class Visit(Timed, gc=False, kw_only=True):
    """What a session needs of a clickstream event."""

    user_id: str | None = None
    event_type: str = ""


class Session(msgspec.Struct, gc=False):
    """A revision of a session. The highest revision of an id is the one that counts; one that
    carries `superseded_by` says that the id is gone, and into which session."""

    session_id: str
    user_id: str
    started_at: str
    ended_at: str
    event_count: int
    funnel_stage: str
    capped: bool
    revision: int
    superseded_by: str | None


_decoder = msgspec.json.Decoder(Visit)
_encode = msgspec.json.Encoder().encode


def decode(records: Records) -> Events[Visit]:
    """Visits; one without a user belongs to no session."""
    visits = decode_events(_decoder, records)
    for row, visit in enumerate(visits.events):
        if visit is not None and not visit.user_id and visits.fates[row] == fates.GOOD:
            visits.reject(row, "missing_user", "$.user_id: no user, so no session")
    return visits


class SessionState:
    """The slot's state: every session that may still change."""

    def __init__(self, settings: EventTime, frames: Iterable[Buffer]):
        caps = SessionSettings(
            gap_us=int(settings.gap),
            bound_us=int(settings.bound),
            lateness_us=int(settings.lateness),
            horizon_us=int(settings.horizon),
            max_duration_us=int(settings.max_duration),
            max_events=settings.max_events,
        )
        self._sessions = Sessions.restore(caps, frames)
        self.snapshot, self.changes = self._sessions.snapshot, self._sessions.changes

    @property
    def snapshot_bytes(self) -> int:
        return self._sessions.snapshot_bytes

    def process(self, visits: Events[Visit]) -> Processed:
        codes = visits.fates
        kinds = _KIND_OF_FATE[codes]
        users = [visit.user_id if visit else None for visit in visits.events]
        stages = np.array(
            [_STAGE_OF.get(visit.event_type, 0) if visit else 0 for visit in visits.events],
            np.uint8,
        )
        rows = self._sessions.process(visits.times_us, users, stages, kinds)
        events = kinds == EVENT
        codes[events] = fates.FATE_OF_CLASS[rows.lateness[events]]
        records = visits.records
        return Processed(
            offsets=records.offsets,
            arrival_us=records.arrival_us,
            fates=codes,
            outputs=[
                describe(rows, records),
                set_aside(records, (codes == fates.BUFFERED) | (codes == fates.EXPIRED)),
                dead_letters("dlq.sessionize", records, visits.rejections, "clickstream"),
            ],
            watermark_us=rows.watermark_us,
        )


_KIND_OF_FATE = np.full(len(fates.FATES), SKIP, np.uint8)
_KIND_OF_FATE[fates.GOOD] = EVENT
_KIND_OF_FATE[fates.HEARTBEAT] = HEARTBEAT


def describe(rows: SessionRows, records: Records) -> Output:
    """The revisions as records, keyed by user."""
    users = rows.user
    started = format_timestamps(rows.started_us)
    ended = format_timestamps(rows.ended_us)
    values: list[bytes | None] = [
        _encode(
            Session(
                session_id=session_id(user, started_us),
                user_id=user,
                started_at=started[i],
                ended_at=ended[i],
                event_count=count,
                funnel_stage=FUNNEL[stage],
                capped=capped,
                revision=revision,
                superseded_by=None if count else session_id(user, successor_us),
            )
        )
        for i, (user, started_us, count, stage, capped, revision, successor_us) in enumerate(
            zip(
                users,
                rows.started_us.tolist(),
                rows.event_count.tolist(),
                rows.stage.tolist(),
                rows.capped.tolist(),
                rows.revision.tolist(),
                rows.superseded_by_started_us.tolist(),
                strict=True,
            )
        )
    ]
    return Output(
        topic=SESSIONS,
        causes=records.offsets[rows.row],
        keys=[user.encode() for user in users],
        values=values,
        partition=records.partition,
    )


def set_aside(records: Records, late: np.ndarray) -> Output:
    """Events too late for the stream, as they came."""
    rows = np.flatnonzero(late)
    return Output(
        topic="late.sessionize",
        causes=records.offsets[rows],
        keys=taken(records.keys, rows),
        values=taken(records.values, rows),
        partition=records.partition,
    )
