"""Alerts: what is known about a suspicious payment, for machines and in words."""

import msgspec

from dataflows.detection.decision import Decision, Severity


class Reason(msgspec.Struct, frozen=True):
    """One rule that fired, and what it has to say."""

    rule: str
    weight: float
    text: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that was not simply allowed. `reasons` are ranked, the weightiest first."""

    alert_id: str
    transaction_id: str
    user_id: str
    event_timestamp: str
    total_amount: str
    currency: str
    score: float
    decision: Decision
    severity: Severity
    reasons: list[Reason]
    rule_set: str
    device_id: str | None = None
