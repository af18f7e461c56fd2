"""The alerts of one entity that belong together, so that a case is looked at once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import NamedTuple

import msgspec

from dataflows.features.catalogue import DAY_US

GROUP_US = DAY_US


class Place(NamedTuple):
    """Where an alert stands: the id of the group's first alert, and the how manieth it is."""

    group_id: str
    number: int


class Group(msgspec.Struct, gc=False):
    """The alerts of an entity within GROUP_US of event time from the first that was raised."""

    entity: str
    group_id: str
    start_us: int
    alerts: int


class AlertGroups:
    """The last group of each entity. An alert GROUP_US or more after its first begins another."""

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        self._groups = {group.entity: group for group in groups}

    @property
    def groups(self) -> list[Group]:
        return list(self._groups.values())

    def add(self, entity: str | None, alert_id: str, time_us: int) -> Place:
        """Places an alert; without an entity it is a group of its own."""
        if entity is None:
            return Place(alert_id, 1)
        group = self._groups.get(entity)
        if group is None or time_us - group.start_us >= GROUP_US:
            self._groups.pop(entity, None)  # the newest stand last
            group = self._groups[entity] = Group(entity, alert_id, time_us, 0)
        group.alerts += 1
        return Place(group.group_id, group.alerts)

    def forget_before(self, time_us: int) -> None:
        """Forgets groups that no alert of that event time, or later, can go on with; what began
        before its neighbours but came behind them, with these."""
        past = takewhile(lambda group: group.start_us + GROUP_US <= time_us, self._groups.values())
        for group in list(past):
            del self._groups[group.entity]
