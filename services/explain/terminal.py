"""An explanation as a person reads it."""

from __future__ import annotations

from services.explain.explain import Explanation, Value, Weighed


def told(of: Explanation) -> list[str]:
    verdict = {True: "labelled fraud", False: "labelled legitimate", None: "without a label"}
    device = f", device {of.device_id}" if of.device_id else ""
    alert = f"alert {of.alert_id}, {of.severity}" if of.alert_id else "no alert"
    lines = [
        f"{of.said.decision}: payment {of.transaction_id}, score {of.said.score:g} ({alert})",
        f"{of.total_amount:,.2f} {of.currency or ''} by {of.user_id} at {of.event_timestamp}"
        f"{device}; {verdict[of.is_fraud]}",
        "",
    ]
    if of.reasons:
        lines += ["why, and what it would be without:"]
        lines += [_reason(rank, each) for rank, each in enumerate(of.reasons, 1)]
    else:
        lines += ["no live rule fires on it"]
    read = [value for value in of.values if value.read_by]
    rest = [value for value in of.values if not value.read_by]
    if read:
        lines += ["", "what these rules read:", *map(_value, read)]
    lines += ["", "what else was known:", *map(_value, rest), "", _repeated(of)]
    if of.alerts_near:
        lines.append(f"{of.alerts_near} other alerts of this customer within a day")
    return lines


def _reason(rank: int, each: Weighed) -> str:
    reason = each.reason
    return (
        f"  {rank}. {reason.text} [{reason.rule}, weight {reason.weight:g}; without it "
        f"{each.score_without:g}, {each.decision_without}]"
    )


def _value(value: Value) -> str:
    return f"  {value.name:32} {value.in_words:>12}  {value.meaning}"


def _repeated(of: Explanation) -> str:
    now, differences = of.again.by, "; ".join(of.differences)
    if of.has_same_judges and of.is_repeated:
        return f"again: the same score, decision and reasons, bit for bit ({now})"
    if of.has_same_judges:
        return f"again: by the same {now} it differs: {differences}"
    return f"decided by {of.said.by}; by {now}: {differences or 'it decides the same'}"
