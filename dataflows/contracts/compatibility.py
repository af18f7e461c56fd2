"""Refuse changes of a contract that break its producers, or what reads its events.

What was accepted of every contract is kept in schemas/history. A contract may grow: new optional
fields, wider bounds, more values. It must not take back what it accepted.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from dataflows.contracts.contract import Contract
from dataflows.contracts.errors import ContractError
from dataflows.contracts.history import (
    IDENTITY,
    Accepted,
    AcceptedChange,
    Form,
    accepted_forms,
    accepted_sources,
    fingerprint,
    listed_changes,
    put_changes,
    put_form,
)
from dataflows.contracts.loading import load_contracts
from dataflows.contracts.shapes import Array, Field, Map, Object, Shape, walk

# A place that is the contract as a whole, and what can be said of it and of a field.
CONTRACT = "contract"
NEW_SOURCE = "a new source"
NEW_FIELD = "a new field"
WIDENED = "type widened"

_LOWER_BOUNDS = ("minimum", "min_length", "min_items")
_UPPER_BOUNDS = ("maximum", "max_length", "max_items")
# Every value of the first is one of the second, in every store.
_WIDER = {("integer", "number")}


class Breaking(NamedTuple):
    """A change that is refused: of which source, at which place, and why."""

    source: str
    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.source}: {self.place}: {self.problem}"


class Addition(NamedTuple):
    """A change that is fine, but not accepted into the history yet."""

    source: str
    place: str
    change: str

    def __str__(self) -> str:
        return f"{self.source}: {self.place}: {self.change}"


Change = Breaking | Addition


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between the contracts and their accepted history."""

    breaking: list[Breaking] = field(default_factory=list)
    additions: list[Addition] = field(default_factory=list)


def check_compatibility(schemas: Path) -> list[Breaking]:
    """The breaking changes since the history was accepted; empty when there are none."""
    return compare_with_history(schemas).breaking


def compare_with_history(schemas: Path) -> Changes:
    """Compare every contract with its last accepted form; raises ContractError as loading does."""
    changes = Changes()
    contracts = load_contracts(schemas)
    for source in sorted(accepted_sources(schemas) - contracts.keys()):
        changes.breaking.append(Breaking(source, CONTRACT, "removed; its topic is in use"))
    for source, contract in contracts.items():
        accepted = _last_form(accepted_forms(schemas, source))
        for change in _compare(source, accepted, accepted_form(contract)):
            if isinstance(change, Breaking):
                changes.breaking.append(change)
            else:
                changes.additions.append(change)
    return changes


def accept(schemas: Path, today: date) -> list[Path]:
    """Make the current form of every contract the accepted one; returns the files that changed.

    Can be cut off anywhere and done again. Raises ContractError for a breaking change: that needs a
    new source, with a topic of its own.
    """
    breaking = check_compatibility(schemas)
    if breaking:
        raise ContractError(f"{breaking[0]}; start a new source instead, with a topic of its own")
    written: list[Path | None] = []
    for source, contract in load_contracts(schemas).items():
        written += [_list_change(schemas, contract, today)]
        written += [put_form(schemas, source, contract.version, accepted_form(contract))]
    return [file for file in written if file is not None]


def accepted_changes(schemas: Path) -> dict[str, list[Accepted]]:
    """Every change that was accepted, by source, oldest first; raises ContractError."""
    return {source: _accepted(schemas, source) for source in sorted(accepted_sources(schemas))}


def _accepted(schemas: Path, source: str) -> list[Accepted]:
    """What is listed; without a list, what its forms tell, of which nobody knows the day."""
    listed = listed_changes(schemas, source)
    if listed is not None:
        return listed
    forms = accepted_forms(schemas, source)
    steps = pairwise([("", None), *forms.items()])
    return [_entry(source, old, new, version, None) for (_, old), (version, new) in steps if new]


def _list_change(schemas: Path, contract: Contract, today: date) -> Path | None:
    """Lists what is about to be accepted of a contract; None where there is nothing, or it is."""
    source, version, form = contract.source, contract.version, accepted_form(contract)
    forms = accepted_forms(schemas, source)
    if forms.get(version) == form:
        return None
    entry = _entry(source, _last_form(forms), form, version, today)
    listed = _accepted(schemas, source)
    if listed:
        last = listed[-1]
        if (last.after, last.version) == (entry.after, version):
            return None
        if last.before == entry.before != last.after:  # was cut off before it was accepted
            listed = listed[:-1]
    return put_changes(schemas, source, [*listed, entry])


def _entry(source: str, old: Form | None, new: Form, version: str, today: date | None) -> Accepted:
    changes = []
    for change in _compare(source, old, new):
        described = describe_field(change.place, new) if change[2] == NEW_FIELD else {}
        changes.append(AcceptedChange(place=change.place, change=change[2], **described))
    if old is None:
        changes += [
            AcceptedChange(place=path, change=NEW_FIELD, **describe_field(path, new))
            for path in new["fields"]
        ]
    return Accepted(
        date=today.isoformat() if today else None,
        version=version,
        before=fingerprint(old),
        after=fingerprint(new),
        changes=changes or [AcceptedChange(place=CONTRACT, change=f"version {version}")],
    )


def describe_field(path: str, form: Form) -> Form:
    """The type of an accepted field, whether it is required, and how it is handled if personal."""
    of_field = form["fields"][path]
    required = of_field["required"] and not of_field["nullable"]
    return {
        "type": type_name(of_field),
        "required": required,
        "personal": form["pii"].get(path, ""),
    }


def type_name(form: Form) -> str:
    inner = form.get("items") or form.get("values")
    return f"{form['type']} of {type_name(inner)}" if inner else str(form["type"])


def _last_form(forms: dict[str, Form]) -> Form | None:
    return list(forms.values())[-1] if forms else None


def accepted_form(contract: Contract) -> Form:
    """What a contract promises, as plain JSON: identity, personal data, sums, and every field."""
    fields = {path: _field_form(field) for path, field in walk(contract.shape)}
    form = {
        **{name: getattr(contract, name) for name in IDENTITY},
        "require_user": contract.require_user,
        "pii": contract.pii,
        "sums": [{"parts": declared.parts, "total": declared.total} for declared in contract.sums],
        "fields": fields,
    }
    plain: Form = json.loads(json.dumps(form))
    return plain


def _field_form(described: Field) -> Form:
    return {
        "required": described.required,
        "nullable": described.nullable,
        **_shape_form(described.shape),
    }


def _shape_form(shape: Shape) -> Form:
    form: Form = {"type": type(shape).__name__.lower()}
    match shape:
        case Object():
            return form
        case Array():
            form["items"] = _shape_form(shape.items)
            form |= {"min_items": shape.min_items, "max_items": shape.max_items}
        case Map():
            form["values"] = _shape_form(shape.values)
        case _:
            form |= {name: getattr(shape, name) for name in shape.__slots__}
    return {name: value for name, value in form.items() if value is not None}


def _compare(source: str, old: Form | None, new: Form) -> Iterator[Change]:
    if old is None:
        yield Addition(source, CONTRACT, NEW_SOURCE)
        return
    # Whatever is stored, keyed, joined or counted by these would no longer be found.
    for name in IDENTITY:
        if old[name] != new[name]:
            yield Breaking(source, name, f"changed from {old[name]!r} to {new[name]!r}")
    if old["require_user"] != new["require_user"]:
        kind = Breaking if new["require_user"] else Addition
        yield kind(source, "require_user", f"is now {str(new['require_user']).lower()}")
    for change in _compare_pii(source, old["pii"], new["pii"]):
        # Of a field that is new it is no change, of one that is gone the lesser one.
        if change.place in old["fields"].keys() & new["fields"].keys():
            yield change
    for declared in new["sums"]:
        if declared not in old["sums"]:
            yield Breaking(source, "sums", f"{declared['parts']} must now add up")
    for declared in old["sums"]:
        if declared not in new["sums"]:
            yield Addition(source, "sums", f"{declared['parts']} need no longer add up")
    yield from _compare_fields(source, old["fields"], new["fields"])


def _compare_pii(source: str, old: Form, new: Form) -> Iterator[Change]:
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if before is None:
            yield Addition(source, path, f"personal data now, handling {after}")
        elif before != after:
            now = after or "none"
            yield Breaking(source, path, f"its handling was {before}, and is now {now}")


def _compare_fields(source: str, old: Form, new: Form) -> Iterator[Change]:
    for path in old:
        if path not in new:
            yield Breaking(source, path, "removed")
        else:
            for breaks, change in _compare_field(old[path], new[path]):
                yield (Breaking if breaks else Addition)(source, path, change)
    for path in new:
        if path not in old:
            parent = path.rpartition(".")[0]
            in_known_object = not parent or parent in old
            if new[path]["required"] and in_known_object:
                yield Breaking(source, path, "a new field must be optional")
            else:
                yield Addition(source, path, NEW_FIELD)


def _compare_field(old: Form, new: Form) -> Iterator[tuple[bool, str]]:
    """(breaks, what changed) between two forms of a field, an array's items or a map's values."""
    widened = (old["type"], new["type"]) in _WIDER
    if old["type"] != new["type"] and not widened:
        yield True, f"type changed from {old['type']} to {new['type']}"
        return
    if widened:
        yield False, f"{WIDENED} from {old['type']} to {new['type']}"
    for name, allows in (("required", False), ("nullable", True), ("epoch_ms", True)):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield after is not allows, f"{name} is now {str(after).lower()}"
    yield from _compare_bounds(old, new)
    yield from _compare_enum(old.get("enum"), new.get("enum"))
    if old.get("pattern") != new.get("pattern"):
        yield "pattern" in new, f"pattern is now {new.get('pattern', 'left out')}"
    for name in ("items", "values"):
        if name in old:
            yield from _compare_field(old[name], new[name])


def _compare_bounds(old: Form, new: Form) -> Iterator[tuple[bool, str]]:
    for name in (*_LOWER_BOUNDS, *_UPPER_BOUNDS):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is None or after is None:
            narrower = before is None
        else:
            narrower = after > before if name in _LOWER_BOUNDS else after < before
        yield narrower, f"{name} changed from {before} to {after}"


def _compare_enum(old: list[str] | None, new: list[str] | None) -> Iterator[tuple[bool, str]]:
    if old is None and new is not None:
        yield True, "only some values are accepted now"
    elif old is not None and new is None:
        yield False, "any value is accepted now"
    elif old is not None and new is not None:
        for value in old:
            if value not in new:
                yield True, f"the value {value!r} was removed"
        for value in new:
            if value not in old:
                yield False, f"a new value, {value!r}"
