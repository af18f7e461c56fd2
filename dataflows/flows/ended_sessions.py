"""Behaviour of sessions: those on which one fires are incidents, revision by revision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.connectors.records import Output, Records
from dataflows.contracts.timestamps import parse_timestamps
from dataflows.decodable import make_decodable
from dataflows.detection.behaviours import Behaviours
from dataflows.detection.decision import Severity
from dataflows.detection.incidents import Incident, incident_id
from dataflows.detection.rules import CompiledRule
from dataflows.detection.session_model import (
    NAME,
    EndedSessions,
    SessionModel,
    session_columns,
)
from dataflows.errors import TidegateError
from dataflows.eventtime.funnel import FUNNEL
from dataflows.eventtime.watermark import START_OF_TIME_US
from dataflows.flows.dead_letters import Rejection, dead_letters
from dataflows.flows.decoding import parse
from dataflows.flows.in_force import (
    Applied,
    AppliedAt,
    AppliedModels,
    decode_control,
)
from dataflows.flows.topology import SESSIONS
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime
from dataflows.runtime.fates import Fates
from dataflows.runtime.handover import controlled
from dataflows.runtime.sink import Processed

_MOST: Final = 2**31


class Ended(msgspec.Struct, gc=False):
    """What behaviour needs of a revision of a session."""

    session_id: str
    user_id: str
    started_at: str
    ended_at: str
    event_count: Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
    funnel_stage: Literal["visit", "product_view", "cart", "checkout", "purchase"]
    superseded_by: str | None = None


make_decodable(Ended)
_decoder = msgspec.json.Decoder(Ended)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Revisions:
    """A batch of revisions of sessions, None where there is none; times in microseconds."""

    records: Records
    sessions: list[Ended | None]
    started_us: NDArray[np.int64]
    ended_us: NDArray[np.int64]
    fates: Fates
    rejections: list[Rejection]

    def at(self, row: int) -> Ended:
        """The session at a row, which must hold one."""
        session = self.sessions[row]
        assert session is not None
        return session


def decode_sessions(records: Records) -> Revisions:
    """Sessions, as sessionize wrote them."""
    parsed = parse(_decoder, records)
    sessions = parsed.contents
    started_us, started = parse_timestamps([each.started_at if each else 0 for each in sessions])
    ended_us, ended = parse_timestamps([each.ended_at if each else 0 for each in sessions])
    rejections = list(parsed.rejections)
    for row, session in enumerate(sessions):
        if session is None:
            continue
        if not started[row]:
            message = f"$.started_at: {session.started_at!r} is no instant"
            rejections.append(Rejection(row, "bad_timestamp", message))
        elif not ended[row]:
            message = f"$.ended_at: {session.ended_at!r} is no instant"
            rejections.append(Rejection(row, "bad_timestamp", message))
        elif not session.event_count and session.superseded_by is None:
            message = "$.event_count: a session that counts has events"
            rejections.append(Rejection(row, "invalid", message))
    codes = np.full(len(records), fates.GOOD, np.uint8)
    codes[parsed.heartbeats] = fates.HEARTBEAT
    for rejection in rejections:
        codes[rejection.row] = fates.failed(rejection.reason)
    return Revisions(records, sessions, started_us, ended_us, codes, rejections)


class Told(msgspec.Struct, gc=False):
    """The incidents of a session, the last revision of each by behaviour; no revision of the
    session comes behind one that ended after `until_us`."""

    until_us: int
    incidents: dict[str, Incident]


class _Saved(msgspec.Struct, frozen=True):
    """The state of a slot, as it is kept."""

    newest_us: int = START_OF_TIME_US
    models: AppliedModels | None = None
    told: dict[str, Told] = {}


make_decodable(_Saved)
_decode_saved = msgspec.json.Decoder(_Saved).decode


class SessionWatch:
    """Holds every revision of a session against behaviours.

    Its state: which model was applied last, as its control records have it, and the incidents of
    sessions that may still be revised.
    """

    def __init__(
        self,
        settings: EventTime,
        behaviours: Behaviours,
        open_model: Callable[[str], SessionModel],
        earlier: Sequence[AppliedAt],
        saved: bytes | None,
    ) -> None:
        self._behaviours, self._open_model = behaviours, open_model
        self._revised_for_us = (
            int(settings.max_duration)
            + int(settings.gap)
            + int(settings.lateness)
            + int(settings.bound)
        )
        state = _decode_saved(saved) if saved else _Saved()
        self._newest_us, self._applied, self._told = state.newest_us, state.models, state.told
        # Whoever begins without state may begin behind control records that retention has removed.
        self._earlier = earlier if saved is None else ()
        self._model: SessionModel | None = None

    def snapshot(self) -> bytes:
        return _encode(_Saved(self._newest_us, self._applied, self._told))

    def process(self, revisions: Revisions) -> Processed:
        records = revisions.records
        self._put_in_force(records)
        good = revisions.fates == fates.GOOD
        newest_us = np.where(good, revisions.ended_us, START_OF_TIME_US)
        newest_us = np.maximum.accumulate(np.maximum(newest_us, self._newest_us))
        told = list(self._revise(revisions, np.flatnonzero(good), newest_us))
        self._newest_us = int(newest_us[-1])
        self._told = {
            name: each for name, each in self._told.items() if each.until_us >= self._newest_us
        }
        rows = np.array([row for row, _ in told], np.int64)
        incidents = [incident for _, incident in told]
        return Processed(
            offsets=records.offsets,
            arrival_us=records.arrival_us,
            fates=revisions.fates,
            outputs=[
                Output(
                    topic="incidents",
                    causes=records.offsets[rows],
                    keys=[(incident.user_id or "").encode() for incident in incidents],
                    values=list(map(_encode, incidents)),
                    partition=records.partition,
                ),
                dead_letters("dlq.watch", records, revisions.rejections, SESSIONS, partition=0),
            ],
            watermark_us=self._newest_us,
        )

    def _put_in_force(self, records: Records) -> None:
        first_us = records.arrival_us.item(0)
        applied: list[Applied] = [a.applied for a in self._earlier if a.arrival_us < first_us]
        self._earlier = ()
        content = controlled(records)
        if content is not None:
            applied.append(decode_control(content))
        for each in applied:
            if not isinstance(each, AppliedModels) or each.name != NAME:
                raise TidegateError(
                    f"{SESSIONS}: a control record puts something in force that is no model of "
                    "sessions; start the version of Tidegate that wrote it"
                )
            self._applied, self._model = each, None

    def _champion(self) -> SessionModel | None:
        version = self._applied.champion if self._applied else None
        if version is not None and self._model is None:
            self._model = self._open_model(version)
        return self._model

    def _revise(
        self, revisions: Revisions, rows: NDArray[np.int64], newest_us: NDArray[np.int64]
    ) -> Iterator[tuple[int, Incident]]:
        """What is told of the sessions at these rows."""
        firing = self._firing(revisions, rows)
        for row in rows.tolist():
            session = revisions.at(row)
            told = self._told.get(session.session_id)
            if told is not None and told.until_us < newest_us[row]:
                told = None
            fired = firing.get(row, [])
            if told is None and fired:
                until_us = revisions.started_us.item(row) + self._revised_for_us
                told = self._told[session.session_id] = Told(until_us, {})
            if told is not None:
                for incident in self._revised(told, fired, session, revisions.started_us.item(row)):
                    yield row, incident

    def _firing(
        self, revisions: Revisions, rows: NDArray[np.int64]
    ) -> dict[int, list[tuple[CompiledRule, str]]]:
        """By row the behaviours that fire there, by id, and what they say."""
        counting = [row for row in rows.tolist() if revisions.at(row).superseded_by is None]
        firing: dict[int, list[tuple[CompiledRule, str]]] = {}
        if not counting or not self._behaviours.of_sessions:
            return firing
        columns = session_columns(_ended(revisions, counting), self._champion())
        for compiled in self._behaviours.of_sessions:
            for place in np.flatnonzero(compiled.predicate.holds(columns)).tolist():
                row = counting[place]
                user, time_us = revisions.at(row).user_id, revisions.started_us.item(row)
                if compiled.rule.counts_for(user, time_us):
                    said = compiled.sentence.render(columns, place)
                    firing.setdefault(row, []).append((compiled, said))
        return firing

    def _revised(
        self,
        told: Told,
        fired: Sequence[tuple[CompiledRule, str]],
        session: Ended,
        started_us: int,
    ) -> Iterator[Incident]:
        """The next revisions of a session's incidents."""
        version = self._behaviours.rules.version
        for compiled, said in fired:
            rule = compiled.rule
            before = told.incidents.get(rule.id)
            incident = told.incidents[rule.id] = Incident(
                incident_id=incident_id(rule.id, session.user_id, started_us),
                behaviour=rule.id,
                owner=rule.owner,
                severity=rule.severity or Severity.MEDIUM,
                weight=rule.weight,
                user_id=session.user_id,
                device_id=None,
                started_at=session.started_at,
                ended_at=session.ended_at,
                events=session.event_count,
                is_over=True,
                revision=before.revision + 1 if before else 1,
                text=said,
                rule_set=version,
            )
            yield incident
        still = {compiled.rule.id for compiled, _ in fired}
        for name, before in sorted(told.incidents.items()):
            if name not in still and before.events:
                taken_back = told.incidents[name] = msgspec.structs.replace(
                    before,
                    events=0,
                    revision=before.revision + 1,
                    text=_taken_back(session),
                    rule_set=version,
                )
                yield taken_back


def _taken_back(session: Ended) -> str:
    if session.superseded_by is not None:
        return f"taken back: the session has become part of session {session.superseded_by}"
    return "taken back: as the session is now, the behaviour does not fire on it"


def _ended(revisions: Revisions, rows: Sequence[int]) -> EndedSessions:
    sessions = list(map(revisions.at, rows))
    return EndedSessions(
        started_us=revisions.started_us[rows],
        ended_us=revisions.ended_us[rows],
        events=np.array([session.event_count for session in sessions], np.int64),
        stages=np.array([FUNNEL.index(session.funnel_stage) for session in sessions], np.int64),
    )
