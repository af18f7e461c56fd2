"""What separates two rule sets, rule by rule. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from dataflows.detection.lists import EntityList
from dataflows.detection.rules import LISTS, Rule, RuleSet, RuleState

_OUT_OF_FORCE = (RuleState.DRAFT, RuleState.RETIRED)
_SHOWN = (
    *("state", "rollout", "snoozed_until", "max_alerts_per_hour"),
    *("when", "weight", "severity", "reason", "owner"),
)
_SHOWN_OF_LISTS = ("effect", "of", "owner")
Judge = Rule | EntityList


class Kind(StrEnum):
    """What becomes of a rule."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"


class FieldChange(msgspec.Struct, frozen=True):
    """A field of a rule or an entry of a list, in words; None where it is not set."""

    field: str
    now: str | None
    then: str | None


class Step(msgspec.Struct, frozen=True):
    """A rule or list that differs. `warnings` are for whoever applies it to think about."""

    rule: str
    do: Kind
    fields: list[FieldChange]
    warnings: list[str]


class Plan(msgspec.Struct, frozen=True):
    """From the set in force, None if none was applied, to the folder's."""

    in_force: str | None
    folder: str
    steps: list[Step]

    @property
    def changes_nothing(self) -> bool:
        return self.in_force is not None and not self.steps


def plan_rules(in_force: RuleSet | None, folder: RuleSet) -> Plan:
    """The steps by rule id."""
    now, then = _by_id(in_force), _by_id(folder)
    steps = [
        step
        for name in sorted(now.keys() | then.keys())
        if (step := _step(name, now.get(name), then.get(name)))
    ]
    if in_force is None:  # what runs is not known
        steps = [msgspec.structs.replace(step, warnings=[]) for step in steps]
    return Plan(in_force.version if in_force else None, folder.version, steps)


def _by_id(rules: RuleSet | None) -> Mapping[str, Judge]:
    if rules is None:
        return {}
    of_rules = {compiled.rule.id: compiled.rule for compiled in rules.rules}
    return of_rules | {f"{LISTS}/{each.id}": each for each in rules.lists}


def _step(name: str, now: Judge | None, then: Judge | None) -> Step | None:
    before, after = _fields(now), _fields(then)
    names = list(dict.fromkeys([*before, *after]))
    fields = [
        FieldChange(field, before.get(field), after.get(field))
        for field in names
        if before.get(field) != after.get(field)
    ]
    if then is None:
        return Step(name, Kind.REMOVE, [], _warnings(now, then))
    if now is None:
        return Step(name, Kind.ADD, fields, _warnings(now, then))
    return Step(name, Kind.CHANGE, fields, _warnings(now, then)) if fields else None


def _fields(of: Judge | None) -> dict[str, str]:
    """What decides or matters to people, by the name it is shown with."""
    if of is None:
        return {}
    names = _SHOWN if isinstance(of, Rule) else _SHOWN_OF_LISTS
    values = {name: getattr(of, name) for name in names}
    if isinstance(of, EntityList):
        values |= {each.value: f"until {each.until or 'ever'}" for each in of.entries}
    return {name: str(value) for name, value in values.items() if value is not None}


def _warnings(now: Judge | None, then: Judge | None) -> list[str]:
    if isinstance(now, EntityList) or isinstance(then, EntityList):
        return []
    was_live = now is not None and now.state is RuleState.LIVE
    if then is None:
        return ["it was live: `state: retired` would keep it to be read"] if was_live else []
    if then.state is not RuleState.LIVE or was_live:
        return []
    if now is None or now.state in _OUT_OF_FORCE:
        return [f"goes live without having been in shadow: `tidegate rules backtest {then.id}`"]
    return []
