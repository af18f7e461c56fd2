"""watch: events.clickstream -> incidents, logins, dlq.watch; logins, sessions -> incidents,
dlq.watch

    read -> decode -> watch -> publish

Clicks are keyed by user, so what a user did is one slot's state. Logins go on, keyed by device, to
the one slot that knows what each device did with the accounts of all users. Where a behaviour
fires, an incident is told when it begins, and again when it is over. Sessions are looked at once
they have ended, by the model of sessions that is in force, and again with each revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.operators import map_value
from numpy.typing import NDArray

from dataflows.connectors.records import Output, Records, spread
from dataflows.detection import session_model
from dataflows.detection.behaviours import (
    LOGIN,
    LOGIN_FAILED,
    Clicks,
    DeviceBehaviour,
    Logins,
    UserBehaviour,
)
from dataflows.detection.incidents import Incident, Incidents, OpenIncident, told
from dataflows.detection.rules import CompiledRule
from dataflows.eventtime.changed_rows import Changes
from dataflows.eventtime.lateness import classify
from dataflows.eventtime.snapshots import Buffer, decode_snapshot, prefixed, split_prefix
from dataflows.eventtime.timelines import Timelines
from dataflows.eventtime.watermark import END_OF_TIME_US, START_OF_TIME_US, Watermark
from dataflows.features.columns import Columns
from dataflows.flows.dead_letters import dead_letters
from dataflows.flows.decoding import Events, Timed, decode_events
from dataflows.flows.ended_sessions import SessionWatch, decode_sessions
from dataflows.flows.in_force import models_applied_before, open_applied_to_sessions
from dataflows.flows.logins import LOGINS, Login, decode_logins
from dataflows.flows.metric_parts import instants
from dataflows.flows.shop import Shop
from dataflows.flows.topology import SESSIONS
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime
from dataflows.runtime.sink import Processed, publish
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.state import keep_large_state, keep_state

SNAPSHOT_VERSION: Final = 1
BESIDE: Final = "incidents"
MOST_PIECES: Final = 10**9  # of a click
TELL_TIME_US: Final = 600_000_000  # event time between two words of it into logins


def watch(slot: Slot, shop: Shop) -> Dataflow:
    settings, behaviours = slot.config.event_time, shop.behaviours
    version = behaviours.rules.version
    flow = Dataflow("watch")
    records = read("read", flow, slot)
    if slot.topic == LOGINS:
        logins = map_value("decode", records, decode_logins)
        restore = partial(DeviceWatch, settings, behaviours.of_devices, version)
        incidents = keep_large_state("watch", logins, slot, restore)
    elif slot.topic == SESSIONS:
        sessions = map_value("decode", records, decode_sessions)
        earlier = models_applied_before(shop, session_model.NAME)
        open_model = partial(open_applied_to_sessions, shop.log, slot.config.models_path)
        look_at = partial(SessionWatch, settings, behaviours, open_model, earlier)
        incidents = keep_state("watch", sessions, slot, look_at, is_handed_over=False)
    else:
        clicks = map_value("decode", records, decode)
        place = slot.partition, shop.topology.topics[slot.topic]
        restore_users = partial(UserWatch, settings, behaviours.of_users, version, place)
        incidents = keep_large_state("watch", clicks, slot, restore_users)
    publish("publish", incidents, slot)
    return flow


class Device(msgspec.Struct, gc=False, frozen=True):
    device_id: str | None = None


class Geo(msgspec.Struct, gc=False, frozen=True):
    country: str | None = None


class Click(Timed, gc=False, kw_only=True):
    """What behaviour needs of a clickstream event."""

    user_id: str | None = None
    event_type: str = ""
    product_id: str | None = None
    quantity: Annotated[int, msgspec.Meta(ge=-MOST_PIECES, le=MOST_PIECES)] | None = None
    device: Device = Device()
    geo: Geo = Geo()


_decoder = msgspec.json.Decoder(Click)
_encode = msgspec.json.Encoder().encode
_fields = attrgetter(
    "user_id", "event_type", "product_id", "quantity", "geo.country", "device.device_id"
)


def decode(records: Records) -> Events[Click]:
    """Clicks; one without a user is nobody's behaviour."""
    clicks = decode_events(_decoder, records)
    for row, click in enumerate(clicks.events):
        if click is not None and not click.user_id and clicks.fates[row] == fates.GOOD:
            clicks.reject(row, "missing_user", "$.user_id: no user, so nobody's behaviour")
    return clicks


class _Saved(msgspec.Struct, array_like=True):
    """What is kept beside the timelines."""

    snapshot_version: int
    partitions: int = 1
    watermarks_us: dict[int, int] = {}  # of the partitions of the clicks, as logins told them
    incidents: list[OpenIncident] = []


class _Watch:
    """The state of a slot: timelines of its subjects, and the incidents that are not over."""

    def __init__(
        self,
        settings: EventTime,
        rules: Sequence[CompiledRule],
        rule_set: str,
        timelines: Timelines,
        frames: Iterable[Buffer],
    ):
        self._settings, self._rules, self._rule_set = settings, rules, rule_set
        self._timelines = timelines
        self._newest_us, self._saved = START_OF_TIME_US, _Saved(SNAPSHOT_VERSION)
        timelines.restore(self._read(frames))
        self._incidents = Incidents(int(settings.lateness), self._saved.incidents)

    def _read(self, frames: Iterable[Buffer]) -> Iterator[Buffer]:
        """Takes what is kept beside the timelines from each frame and gives on the rest."""
        for frame in frames:
            saved = split_prefix(frame, "behaviour")
            self._newest_us = saved.number
            beside = saved.beside[BESIDE]
            self._saved = decode_snapshot(beside, _Saved, (SNAPSHOT_VERSION,), "behaviour")
            yield saved.rest

    def _framed(self, parts: Sequence[Buffer]) -> list[Buffer]:
        self._saved.incidents = self._incidents.open
        return prefixed(self._newest_us, parts, {BESIDE: msgspec.msgpack.encode(self._saved)})

    @property
    def snapshot_bytes(self) -> int:
        return self._timelines.nbytes

    def snapshot(self) -> bytes:
        return b"".join(self._framed([self._timelines.snapshot()]))

    def changes(self, everything: bool = False) -> Changes:
        parts, complete = self._timelines.changes(everything)
        return Changes(self._framed(parts), complete)

    def _timely(self, events: Events[Any], watermarks_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """Gives the good events their lateness; the rows of those that the stream still takes."""
        codes, times_us, settings = events.fates, events.times_us, self._settings
        rows = np.flatnonzero(codes == fates.GOOD)
        classes = classify(times_us[rows], watermarks_us[rows], settings.lateness, settings.horizon)
        codes[rows] = fates.FATE_OF_CLASS[classes]
        return np.flatnonzero((codes == fates.GOOD) | (codes == fates.LATE))

    def _told(
        self,
        records: Records,
        columns: Columns,
        subjects: Sequence[str | None],
        times_us: NDArray[np.int64],
        watermarks_us: NDArray[np.int64],
        of_devices: bool,
    ) -> Output:
        """The incidents that begin, and those that are over, by row."""
        found: list[tuple[int, bool, Incident]] = []
        for compiled in self._rules:
            grown: dict[int, tuple[OpenIncident, int]] = {}
            for row in np.flatnonzero(compiled.predicate.holds(columns)).tolist():
                subject, time_us = subjects[row], times_us.item(row)
                if subject is None or not compiled.rule.counts_for(subject, time_us):
                    continue
                incident = self._incidents.add(compiled.rule, subject, time_us, self._rule_set)
                if incident.events > 1:
                    grown[id(incident)] = (incident, row)
                    continue
                incident.text = compiled.sentence.render(columns, row)
                found.append((row, False, told(incident, of_devices, is_over=False)))
            for incident, row in grown.values():
                incident.text = compiled.sentence.render(columns, row)
        found += [
            (row, True, told(incident, of_devices, is_over=True))
            for row, incident in self._incidents.close(watermarks_us)
        ]
        found.sort(key=lambda each: each[:2])
        rows = np.array([row for row, _, _ in found], np.int64)
        incidents = [incident for _, _, incident in found]
        return Output(
            topic="incidents",
            causes=records.offsets[rows],
            keys=[(each.user_id or each.device_id or "").encode() for each in incidents],
            values=list(map(_encode, incidents)),
            partition=records.partition,
        )


class UserWatch(_Watch):
    """What users do, by the clicks of one partition; `place` is its number, and how many there
    are."""

    def __init__(
        self,
        settings: EventTime,
        rules: Sequence[CompiledRule],
        rule_set: str,
        place: tuple[int, int],
        frames: Iterable[Buffer],
    ):
        self._behaviour = UserBehaviour(int(settings.lateness))
        super().__init__(settings, rules, rule_set, self._behaviour.timelines, frames)
        self._watermark = Watermark(int(settings.bound), self._newest_us)
        self._partition, self._partitions = place

    def process(self, clicks: Events[Click]) -> Processed:
        records, codes = clicks.records, clicks.fates
        heartbeats = codes == fates.HEARTBEAT
        before_us = self._watermark.value_us
        watermarks_us = self._watermark.advance(clicks.times_us, (codes == fates.GOOD) | heartbeats)
        self._newest_us = self._watermark.snapshot()
        rows = self._timely(clicks, watermarks_us)
        told_by = list(zip(*map(_fields, clicks.at(rows)), strict=True)) or [()] * 6
        users, types, products, quantities, countries, devices = (
            spread(list(values), rows, len(codes)) for values in told_by
        )
        columns = self._behaviour.process(
            Clicks(users, clicks.times_us, types, products, quantities, countries, watermarks_us)
        )
        tells_time = _crossings(before_us, watermarks_us) | heartbeats
        return Processed(
            offsets=records.offsets,
            arrival_us=records.arrival_us,
            fates=codes,
            outputs=[
                self._told(records, columns, users, clicks.times_us, watermarks_us, False),
                self._logins(clicks, users, types, devices, watermarks_us, tells_time),
                dead_letters("dlq.watch", records, clicks.rejections, "clickstream", partition=0),
            ],
            watermark_us=int(watermarks_us[-1]),
        )

    def _logins(
        self,
        clicks: Events[Click],
        users: Sequence[str | None],
        types: Sequence[str | None],
        devices: Sequence[str | None],
        watermarks_us: NDArray[np.int64],
        tells_time: NDArray[np.bool_],
    ) -> Output:
        is_login = np.array([kind in _LOGINS for kind in types], np.bool_)
        is_login &= np.array([device is not None for device in devices], np.bool_)
        rows = np.flatnonzero(is_login | tells_time)
        times_us = np.where(is_login, clicks.times_us, watermarks_us)[rows]
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        for row, at, watermark_us in zip(
            rows.tolist(), instants(times_us), watermarks_us[rows].tolist(), strict=True
        ):
            login = Login(
                event_timestamp=at,
                watermark_us=watermark_us,
                partition=self._partition,
                partitions=self._partitions,
            )
            if is_login[row]:
                login.event_type, login.user_id = types[row] or "", users[row]
                login.device_id = devices[row]
            keys.append(login.device_id.encode() if login.device_id else None)
            values.append(_encode(login))
        return Output(LOGINS, clicks.records.offsets[rows], keys, values, partition=0)


_LOGINS: Final = frozenset({LOGIN, LOGIN_FAILED})


def _crossings(before_us: int, watermarks_us: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where the watermark enters another interval of TELL_TIME_US."""
    intervals = np.concatenate(([before_us], watermarks_us)) // TELL_TIME_US
    return np.diff(intervals) > 0


class DeviceWatch(_Watch):
    """What devices do with accounts, by the logins that all partitions saw."""

    def __init__(
        self,
        settings: EventTime,
        rules: Sequence[CompiledRule],
        rule_set: str,
        frames: Iterable[Buffer],
    ):
        self._behaviour = DeviceBehaviour(int(settings.lateness))
        super().__init__(settings, rules, rule_set, self._behaviour.timelines, frames)

    def process(self, logins: Events[Login]) -> Processed:
        records, codes = logins.records, logins.fates
        watermarks_us = self._watermarks(logins)
        rows = self._timely(logins, watermarks_us)
        events = logins.at(rows)
        devices = spread([login.device_id for login in events], rows, len(codes))
        columns = self._behaviour.process(
            Logins(
                devices,
                logins.times_us,
                spread([login.event_type for login in events], rows, len(codes)),
                spread([login.user_id for login in events], rows, len(codes)),
                watermarks_us,
            )
        )
        return Processed(
            offsets=records.offsets,
            arrival_us=records.arrival_us,
            fates=codes,
            outputs=[
                self._told(records, columns, devices, logins.times_us, watermarks_us, True),
                dead_letters("dlq.watch", records, logins.rejections, LOGINS, partition=0),
            ],
            watermark_us=int(watermarks_us[-1]),
        )

    def _watermarks(self, logins: Events[Login]) -> NDArray[np.int64]:
        """As far as time has come in the partition that is furthest behind: int64[n], never
        falling; the start of time until all have said something."""
        good, saved = logins.fates == fates.GOOD, self._saved
        n = len(good)
        partitions = np.full(n, saved.partitions)
        partition, told_us = np.full(n, -1), np.full(n, START_OF_TIME_US)
        for row in np.flatnonzero(good).tolist():
            login = logins.events[row]
            assert login is not None
            partitions[row] = login.partitions
            partition[row], told_us[row] = login.partition, login.watermark_us
        partitions = np.maximum.accumulate(np.maximum(partitions, saved.partitions))
        least_us = np.full(n, END_OF_TIME_US)
        for number in range(int(partitions[-1])):
            before_us = saved.watermarks_us.get(number, START_OF_TIME_US)
            own_us = np.where(partition == number, told_us, before_us)
            own_us = np.maximum.accumulate(np.maximum(own_us, before_us))
            least_us = np.where(number < partitions, np.minimum(least_us, own_us), least_us)
            saved.watermarks_us[number] = int(own_us[-1])
        saved.partitions = int(partitions[-1])
        watermarks_us = np.maximum.accumulate(np.maximum(least_us, self._newest_us))
        self._newest_us = int(watermarks_us[-1])
        return watermarks_us
