"""What a person reads of a plan, and of the changes that were accepted."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from dataflows.contracts.compatibility import NEW_FIELD, NEW_SOURCE
from dataflows.contracts.history import AcceptedChange
from services.schema.chronicle import Recorded
from services.schema.steps import Place, Plan, Step

_NO_DATE = "before"
_WIDTH, _INDENT = 100, " " * 11


def plan_lines(plan: Plan) -> list[str]:
    """A part for each place that has something to say, then what follows from it."""
    heads: dict[Place, str] = {
        "history": f"Promise ({plan.schemas}/history)",
        "lake": f"Lake ({plan.lake}): no file is changed; columns are found by their names",
        "dbt": f"dbt ({plan.warehouse_sql})",
        "bigquery": f"BigQuery ({plan.bigquery})",
    }
    lines: list[str] = []
    for place, head in heads.items():
        steps = plan.at(place)
        if steps:
            shown = _lake_lines(steps) if place == "lake" else map(_step_line, steps)
            lines += [head, *shown, ""]
    return [*lines, _conclusion(plan)]


def _conclusion(plan: Plan) -> str:
    if plan.refused:
        count = len(plan.refused)
        what = "1 change is refused" if count == 1 else f"{count} changes are refused"
        return f"{what}, and nothing is applied while that is so."
    if plan.changes:
        count = len(plan.changes)
        what = "1 step adds" if count == 1 else f"{count} steps add"
        return f"{what}, nothing is taken away; `tidegate schema apply` does it."
    places = "history, dbt and BigQuery have" if plan.bigquery else "history and dbt have"
    return f"Nothing to do: {places} what the contracts say."


def _step_line(step: Step) -> str:
    line = _wrapped(f"  {step.do:<9}{_name(step)}: {_said(step)}")
    return f"{line}\n{_wrapped(f'{_INDENT}instead: {step.instead}')}" if step.instead else line


def _said(step: Step) -> str:
    parts = [f"{step.type} {step.mode}".strip(), step.what]
    if step.description:
        parts.append(f'"{step.description}"')
    elif step.do == "describe":
        parts.append("no description any more")
    if step.personal:
        parts.append(f"[personal data: {step.personal}]")
    return ", ".join(part for part in parts if part)


def _lake_lines(steps: Sequence[Step]) -> Iterator[str]:
    """Tables, and columns of a table, of which the same is to be said share a line."""
    for (do, table, what), alike in groupby(steps, _in_lake):
        found = list(alike)
        if do == "refuse":
            yield from map(_step_line, found)
            continue
        tables = table or ", ".join(step.table for step in found if step.table)
        columns = ", ".join(f"{step.column} {step.type}".strip() for step in found if step.column)
        said = ": ".join(part for part in (tables, columns, what) if part)
        yield _wrapped(f"  {do:<9}{said}")


def _in_lake(step: Step) -> tuple[str, str, str]:
    return step.do, step.table if step.column else "", step.what


def _wrapped(line: str) -> str:
    return textwrap.fill(
        line,
        _WIDTH,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _name(step: Step) -> str:
    return ".".join(part for part in (step.table, step.column) if part) or "sources"


def history_lines(recorded: Sequence[Recorded], *, whole: bool) -> list[str]:
    """A line a change; of a new source its fields too, where the `whole` is asked for."""
    if not recorded:
        return ["No contract was accepted yet; `tidegate contracts accept` does it."]
    width = max(len(entry.source) for entry in recorded)
    return [
        f"{entry.date or _NO_DATE:<10}  {entry.source:<{width}}  {entry.version:<3}  {line}"
        for entry in recorded
        for line in change_lines(entry, whole=whole)
    ]


def change_lines(entry: Recorded, *, whole: bool) -> list[str]:
    """What was accepted at once, a line each."""
    new = [change for change in entry.changes if change.change == NEW_FIELD]
    if entry.changes[0].change == NEW_SOURCE and not whole:
        return [f"a new source of {len(new)} fields"]
    return [_change_line(change) for change in entry.changes]


def _change_line(change: AcceptedChange) -> str:
    if change.change != NEW_FIELD:
        return change.change if change.place == "contract" else f"{change.place}: {change.change}"
    parts = [change.type, "required" if change.required else "optional"]
    if change.personal:
        parts.append(f"personal data: {change.personal}")
    return f"+ {change.place}: {', '.join(parts)}"
