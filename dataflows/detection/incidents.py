"""Incidents: what a user or a device did that a behaviour describes, told once, not click by click.

An event on which a behaviour fires begins an incident of its subject, or belongs to one that it is
at most QUIET_US away from. An incident is told when it begins, and once more, with what it came to,
when the watermark has passed its last event by QUIET_US and the allowed lateness: nothing can be
added to it then.

A session on which a behaviour fires is an incident, too. It follows the session's revisions, and is
taken back if the behaviour fires on it no longer: that revision has no events.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.decision import Severity
from dataflows.detection.rules import Rule
from dataflows.eventtime.watermark import END_OF_TIME_US
from dataflows.features.catalogue import HOUR_US

QUIET_US: Final = HOUR_US


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A revision of an incident. The id depends on behaviour, subject and first event told.
    `events` is 0 in one that takes the incident back."""

    incident_id: str
    behaviour: str
    owner: str
    severity: Severity
    weight: float
    user_id: str | None
    device_id: str | None
    started_at: str
    ended_at: str
    events: int
    is_over: bool
    revision: int
    text: str
    rule_set: str


class OpenIncident(msgspec.Struct, gc=False):
    """An incident that may still grow; times are of the event that began it, of the first and of
    the last, in microseconds."""

    behaviour: str
    subject: str
    owner: str
    severity: Severity
    weight: float
    rule_set: str
    begun_us: int
    first_us: int
    last_us: int
    events: int
    text: str

    def takes(self, time_us: int) -> bool:
        return self.first_us - QUIET_US <= time_us <= self.last_us + QUIET_US

    def add(self, time_us: int) -> None:
        self.first_us = min(self.first_us, time_us)
        self.last_us = max(self.last_us, time_us)
        self.events += 1


class Incidents:
    """The incidents of one partition that are not over."""

    def __init__(self, lateness_us: int, incidents: Sequence[OpenIncident] = ()) -> None:
        self._over_after_us = QUIET_US + lateness_us
        self._open: dict[tuple[str, str], list[OpenIncident]] = {}
        for incident in incidents:
            self._open.setdefault((incident.behaviour, incident.subject), []).append(incident)
        self._earliest_us = self._first_last_us()

    def _first_last_us(self) -> int:
        return min((incident.last_us for incident in self.open), default=END_OF_TIME_US)

    @property
    def open(self) -> list[OpenIncident]:
        return [incident for incidents in self._open.values() for incident in incidents]

    def add(self, rule: Rule, subject: str, time_us: int, rule_set: str) -> OpenIncident:
        """The incident that an event belongs to; one with a single event has begun with it.

        Its text is to be set by the caller. The event is at most the allowed lateness behind the
        watermark.
        """
        incidents = self._open.setdefault((rule.id, subject), [])
        for incident in incidents:
            if incident.takes(time_us):
                incident.add(time_us)
                return incident
        severity = rule.severity or Severity.MEDIUM
        times = (time_us, time_us, time_us)
        about = (rule.id, subject, rule.owner, severity, rule.weight, rule_set)
        begun = OpenIncident(*about, *times, 1, "")
        incidents.append(begun)
        self._earliest_us = min(self._earliest_us, time_us)
        return begun

    def close(self, watermarks_us: NDArray[np.int64]) -> list[tuple[int, OpenIncident]]:
        """Forgets the incidents that are over under the watermarks of n > 0 rows, which never fall.

        Gives each with the row with which it was over, in order of behaviour, subject and time
        within a row.
        """
        newest_us = int(watermarks_us[-1]) - self._over_after_us
        if self._earliest_us >= newest_us:  # so that most batches look at none
            return []
        over = sorted(
            (incident for incident in self.open if incident.last_us < newest_us),
            key=lambda each: (each.behaviour, each.subject, each.begun_us),
        )
        for incident in over:
            incidents = self._open[incident.behaviour, incident.subject]
            incidents.remove(incident)
            if not incidents:
                del self._open[incident.behaviour, incident.subject]
        self._earliest_us = self._first_last_us()
        over_us = [incident.last_us + self._over_after_us for incident in over]
        rows = np.searchsorted(watermarks_us, over_us, side="right")
        return sorted(zip(rows.tolist(), over, strict=True), key=lambda each: each[0])


def incident_id(behaviour: str, subject: str, begun_us: int) -> str:
    """32 hex digits, BLAKE2b-128."""
    name = f"{behaviour}\0{subject}\0{begun_us}"
    return blake2b(name.encode(), digest_size=16).hexdigest()


def told(incident: OpenIncident, of_devices: bool, is_over: bool) -> Incident:
    """The incident as it is published."""
    started, ended = format_timestamps(np.array([incident.first_us, incident.last_us]))
    return Incident(
        incident_id=incident_id(incident.behaviour, incident.subject, incident.begun_us),
        behaviour=incident.behaviour,
        owner=incident.owner,
        severity=incident.severity,
        weight=incident.weight,
        user_id=None if of_devices else incident.subject,
        device_id=incident.subject if of_devices else None,
        started_at=started,
        ended_at=ended,
        events=incident.events,
        is_over=is_over,
        revision=2 if is_over else 1,
        text=incident.text,
        rule_set=incident.rule_set,
    )
