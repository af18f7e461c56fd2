"""Plans and the history of rules as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dataflows.flows.in_force import AppliedRules
from services.rules.plan import FieldChange, Kind, Plan, Step


def plan_lines(plan: Plan) -> list[str]:
    if plan.changes_nothing:
        return [f"Rule set {plan.in_force} is in force, and rules/ is the same."]
    was = f"rule set {plan.in_force}" if plan.in_force else "nothing that was applied"
    lines = [f"In force: {was}; in rules/: {plan.folder}."]
    if plan.in_force is None:
        lines += [
            "Each worker has rules/ as it was when the worker started. Once a set is applied, "
            "only applied sets count."
        ]
    for step in plan.steps:
        lines += _step(step)
    return lines


def _step(step: Step) -> Iterator[str]:
    if step.do is Kind.ADD:
        said = ", ".join(f"{each.field} {each.then}" for each in step.fields[:1])
        yield f"{step.do:<7} {step.rule}: {said}"
    else:
        yield f"{step.do:<7} {step.rule}"
        for each in step.fields:
            yield f"        {_field(each)}"
    for warning in step.warnings:
        yield f"      ! {warning}"


def _field(change: FieldChange) -> str:
    return f"{change.field}: {change.now or 'not set'} -> {change.then or 'not set'}"


def history_lines(applied: Sequence[AppliedRules]) -> list[str]:
    if not applied:
        return ["No rule set was applied yet: `tidegate rules apply` does."]
    return [
        f"{each.number:>4}  {each.version}  {each.applied_at}  {len(each.files):>3} rules  "
        f"{each.by}{f'  {each.note}' if each.note else ''}"
        for each in applied
    ]
