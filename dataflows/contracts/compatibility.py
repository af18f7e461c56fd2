"""Refuse changes of a contract that break its producers, or what reads its events.

The accepted form of every contract is kept in schemas/history/<source>/<version>.json. A contract
may grow: new optional fields, wider bounds, more values. It must not take back what it accepted.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dataflows.contracts.contract import Contract
from dataflows.contracts.errors import ContractError
from dataflows.contracts.loading import HISTORY, load_contracts
from dataflows.contracts.shapes import Array, Field, Map, Object, Shape, walk

# Whatever is stored, keyed, joined or counted by these would no longer be found.
_IDENTITY = ("topic", "partitions", "key", "user", "event_time", "dedup_key", "reference")
_FORM = (*_IDENTITY, "require_user", "pii", "sums", "fields")
_LOWER_BOUNDS = ("minimum", "min_length", "min_items")
_UPPER_BOUNDS = ("maximum", "max_length", "max_items")

Form = dict[str, Any]


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
    for source in sorted(_accepted_sources(schemas) - contracts.keys()):
        changes.breaking.append(Breaking(source, "contract", "removed; its topic is in use"))
    for source, contract in contracts.items():
        accepted = _last_accepted(schemas, source)
        current = accepted_form(contract)
        if accepted is None:
            changes.additions.append(Addition(source, "contract", "a new source"))
            continue
        for change in _compare(source, accepted, current):
            if isinstance(change, Breaking):
                changes.breaking.append(change)
            else:
                changes.additions.append(change)
    return changes


def accept(schemas: Path) -> list[Path]:
    """Write the current form of every contract into the history; returns the files that changed.

    Raises ContractError for a breaking change: that needs a new source, with a topic of its own.
    """
    breaking = check_compatibility(schemas)
    if breaking:
        raise ContractError(f"{breaking[0]}; start a new source instead, with a topic of its own")
    written = []
    for source, contract in load_contracts(schemas).items():
        file = schemas / HISTORY / source / f"{contract.version}.json"
        text = _write_form(accepted_form(contract))
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            written.append(file)
    return written


def accepted_form(contract: Contract) -> Form:
    """What a contract promises, as plain JSON: identity, personal data, sums, and every field."""
    fields = {path: _field_form(field) for path, field in walk(contract.shape)}
    form = {
        **{name: getattr(contract, name) for name in _IDENTITY},
        "require_user": contract.require_user,
        "pii": contract.pii,
        "sums": [{"parts": declared.parts, "total": declared.total} for declared in contract.sums],
        "fields": fields,
    }
    plain: Form = json.loads(json.dumps(form))
    return plain


def _write_form(form: Form) -> str:
    """JSON with a line for each field, so that a change shows in a diff."""
    fields = ",\n".join(
        f"    {json.dumps(path)}: {json.dumps(field, ensure_ascii=False)}"
        for path, field in form["fields"].items()
    )
    head = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(value)}"
        for name, value in form.items()
        if name != "fields"
    )
    return f'{{\n{head},\n  "fields": {{\n{fields}\n  }}\n}}\n'


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


def _history(schemas: Path, source: str) -> list[Path]:
    """The accepted forms of a source, oldest version first."""
    files = (schemas / HISTORY / source).glob("v*.json")
    return sorted(files, key=lambda file: (len(file.name), file.name))


def _accepted_sources(schemas: Path) -> set[str]:
    return {file.parent.name for file in (schemas / HISTORY).glob("*/v*.json")}


def _last_accepted(schemas: Path, source: str) -> Form | None:
    files = _history(schemas, source)
    if not files:
        return None
    try:
        form: Form = json.loads(files[-1].read_text(encoding="utf-8"))
    except ValueError as error:
        raise ContractError(f"{files[-1]}: not JSON: {error}; restore it from git") from error
    if not isinstance(form, dict) or form.keys() != {*_FORM}:
        raise ContractError(f"{files[-1]}: not the form of a contract; restore it from git")
    return form


def _compare(source: str, old: Form, new: Form) -> Iterator[Change]:
    for name in _IDENTITY:
        if old[name] != new[name]:
            yield Breaking(source, name, f"changed from {old[name]!r} to {new[name]!r}")
    if old["require_user"] != new["require_user"]:
        kind = Breaking if new["require_user"] else Addition
        yield kind(source, "require_user", f"is now {str(new['require_user']).lower()}")
    yield from _compare_pii(source, old["pii"], new["pii"])
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
                yield Addition(source, path, "a new field")


def _compare_field(old: Form, new: Form) -> Iterator[tuple[bool, str]]:
    """(breaks, what changed) between two forms of a field, an array's items or a map's values."""
    if old["type"] != new["type"]:
        yield True, f"type changed from {old['type']} to {new['type']}"
        return
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
