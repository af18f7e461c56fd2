"""An incident taken apart: the behaviour that it is one of, and what its user or device did."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from dataflows.detection.behaviours import LOGIN, LOGIN_FAILED, Behaviours
from dataflows.detection.rules import Rule
from dataflows.runtime.config import Config
from services.explain.lake import lake_rows

SHOWN_CLICKS = 30
_AROUND = timedelta(hours=1)
"""What led to an incident, and came of it, is looked for so long before and after."""
_PUBLISHED = (
    *("incident_id", "behaviour", "severity", "weight", "user_id", "device_id"),
    *("started_at", "ended_at", "events", "is_over", "text", "rule_set"),
)


class ClickThen(msgspec.Struct, frozen=True):
    """A click of the user, or a login on the device."""

    at: datetime
    what: str
    user_id: str | None
    device_id: str | None
    country: str | None
    product_id: str | None


class ExplainedIncident(msgspec.Struct, frozen=True, kw_only=True):
    """The last that is known of an incident; `when` is the predicate of the behaviour as it is now,
    None where there is no such behaviour any more."""

    incident_id: str
    behaviour: str
    severity: str
    weight: float
    user_id: str | None
    device_id: str | None
    started_at: datetime
    ended_at: datetime
    events: int
    is_over: bool
    text: str
    rule_set: str
    is_same_rule_set: bool
    description: str | None
    when: str | None
    clicks: list[ClickThen]  # the first of them
    more_clicks: int


def explain_incident(config: Config, behaviours: Behaviours, name: str) -> ExplainedIncident | None:
    """None unless an incident of the lake has this id. Raises LakeError."""
    revisions = lake_rows(config, "incidents", "incident_id = $1", name)
    if not revisions:
        return None
    last = max(revisions, key=lambda row: row["revision"])
    rule = _rule(behaviours, last["behaviour"])
    clicks = _clicks(config, last)
    return ExplainedIncident(
        **{field: last[field] for field in _PUBLISHED},
        is_same_rule_set=last["rule_set"] == behaviours.rules.version,
        description=rule.description if rule else None,
        when=rule.when if rule else None,
        clicks=clicks[:SHOWN_CLICKS],
        more_clicks=max(len(clicks) - SHOWN_CLICKS, 0),
    )


def _rule(behaviours: Behaviours, name: str) -> Rule | None:
    found = (compiled.rule for compiled in behaviours.rules.rules if compiled.rule.id == name)
    return next(found, None)


def _clicks(config: Config, incident: dict[str, Any]) -> list[ClickThen]:
    of_device = f"device.device_id = $1 AND event_type IN ('{LOGIN}', '{LOGIN_FAILED}')"
    own = of_device if incident["user_id"] is None else "user_id = $1"
    rows = lake_rows(
        config,
        "clickstream",
        f"{own} AND lateness <> 'buffered' AND event_timestamp BETWEEN $2 AND $3",
        incident["user_id"] or incident["device_id"],
        incident["started_at"] - _AROUND,
        incident["ended_at"] + _AROUND,
    )
    rows.sort(key=lambda row: row["event_timestamp"])
    return [
        ClickThen(
            at=row["event_timestamp"],
            what=row["event_type"],
            user_id=row["user_id"],
            device_id=(row["device"] or {}).get("device_id"),
            country=(row["geo"] or {}).get("country"),
            product_id=row["product_id"],
        )
        for row in rows
    ]


def told(of: ExplainedIncident) -> list[str]:
    """As a person reads it."""
    subject = f"user {of.user_id}" if of.user_id else f"device {of.device_id}"
    clicks = "1 click" if of.events == 1 else f"{of.events:,} clicks"
    lines = [
        f"{of.behaviour}: incident {of.incident_id}, {of.severity}, weight {of.weight:g}",
        f"{subject}, {clicks} from {_at(of.started_at)} to {_at(of.ended_at)}, "
        f"{'over' if of.is_over else 'not over yet'}",
        "",
        of.text,
        "",
    ]
    if of.when is None:
        lines.append(f"the behaviour {of.behaviour} is no more; rule set {of.rule_set} had it")
    else:
        then = "as then" if of.is_same_rule_set else f"now; it was told by rule set {of.rule_set}"
        lines += [f"it fires when {of.when} ({then})", f"  {of.description}"]
    lines += ["", "what happened, an hour before and after included:", *map(_click, of.clicks)]
    if of.more_clicks:
        lines.append(f"  and {of.more_clicks:,} more")
    return lines


def _click(click: ClickThen) -> str:
    fields = (click.what, click.user_id, click.country, click.device_id, click.product_id)
    return f"  {_at(click.at)}  {'  '.join(field for field in fields if field)}"


def _at(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")
