"""Which flows share a worker process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """The flows of one worker process."""

    name: str
    flows: tuple[str, ...]


def group_flows(flows: Sequence[str], alone: Sequence[str]) -> list[Group]:
    """Busy flows each in a process of their own, the light ones together in one."""
    groups = [Group(flow, (flow,)) for flow in flows if flow in alone]
    light = tuple(flow for flow in flows if flow not in alone)
    return [*groups, Group("light", light)] if light else groups
