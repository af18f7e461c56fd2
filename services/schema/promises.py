"""The contracts beside what was accepted of them: schemas/history."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dataflows.contracts import Contract, compare_with_history
from dataflows.contracts.compatibility import (
    NEW_FIELD,
    NEW_SOURCE,
    WIDENED,
    Addition,
    Breaking,
    accepted_form,
    describe_field,
)
from dataflows.contracts.history import Form, accepted_forms
from dataflows.contracts.shapes import walk
from services.schema.steps import Do, Step

_ANOTHER_SOURCE = "keep it, and start a new source beside it, with a topic of its own"


def history_steps(schemas: Path, contracts: Mapping[str, Contract]) -> list[Step]:
    """What `contracts accept` would add to the promise, and what it would refuse.

    Raises:
        ContractError: a contract or its history cannot be read.
    """
    changes = compare_with_history(schemas)
    added = [_added(change, contracts[change.source]) for change in changes.additions]
    new: dict[str, dict[str, Form]] = {change.source: {} for change in changes.breaking}
    for change in changes.additions:
        if change.change == NEW_FIELD and change.source in new:
            form = accepted_form(contracts[change.source])
            new[change.source][change.place] = form["fields"][change.place]
    refused = [
        _refused(change, _renamed_to(schemas, change, new[change.source]))
        for change in changes.breaking
    ]
    return [*added, *refused]


def _added(change: Addition, contract: Contract) -> Step:
    if change.change == NEW_SOURCE:
        count = len(contract.shape.fields)
        what = f"a new source of {count} fields"
        return Step(place="history", do="create", table=change.source, what=what)
    if change.change == NEW_FIELD:
        described = describe_field(change.place, accepted_form(contract))
        return Step(
            place="history",
            do="add",
            table=change.source,
            column=change.place,
            type=described["type"],
            mode="required" if described["required"] else "optional",
            description=dict(walk(contract.shape))[change.place].description,
            personal=described["personal"],
        )
    return Step(
        place="history",
        do=_kind(change.change),
        table=change.source,
        column=change.place,
        what=change.change,
    )


def _kind(change: str) -> Do:
    if change in ("required is now false", "nullable is now true"):
        return "relax"
    return "widen" if change.startswith(WIDENED) else "allow"


def _refused(change: Breaking, renamed_to: str) -> Step:
    what = change.problem
    if renamed_to:
        what = f"{what}; renamed to {renamed_to}?"
    return Step(
        place="history",
        do="refuse",
        table=change.source,
        column=change.place,
        what=what,
        instead=_instead(change, renamed_to),
    )


def _instead(change: Breaking, renamed_to: str) -> str:
    name = change.place.rpartition(".")[2]
    if renamed_to:
        return (
            f"keep {change.place} as it is and {renamed_to} optional beside it; a staging model "
            "can take whichever is there"
        )
    if change.problem.startswith("removed; its topic"):
        return "put its folder back; what is in its topic must stay readable"
    if change.problem == "removed":
        return f"keep it, optional and with `deprecated`: true, and send no {name} any more"
    if change.problem in ("required is now true", "a new field must be optional"):
        return "leave it optional; a model or test in warehouse_sql can ask for it"
    if change.problem.startswith("type changed"):
        return f"keep it, and add a new optional field beside it, such as {name}_v2"
    return _ANOTHER_SOURCE


def _renamed_to(schemas: Path, change: Breaking, new: Mapping[str, Form]) -> str:
    """The one new field beside a removed one that has its type; "" if there is no such."""
    if change.problem != "removed":
        return ""
    forms = list(accepted_forms(schemas, change.source).values())
    kind = forms[-1]["fields"][change.place]["type"]
    parent = change.place.rpartition(".")[0]
    alike = [
        path
        for path, form in new.items()
        if path.rpartition(".")[0] == parent and form["type"] == kind
    ]
    return alike[0] if len(alike) == 1 else ""
