"""What was accepted of each contract, and when: the files of schemas/history/<source>.

    v1.json         the accepted form: what is promised now; a version of the contract has its own
    changes.json    every change that was accepted, oldest first; only ever appended to

A change is listed before its form is written. An accepting that was cut off in between has listed
what is not promised yet: the next one finds it there.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import msgspec

from dataflows.contracts.errors import ContractError
from dataflows.contracts.loading import HISTORY

Form = dict[str, Any]

IDENTITY = ("topic", "partitions", "key", "user", "event_time", "dedup_key", "reference")
_FORM = {*IDENTITY, "require_user", "pii", "sums", "fields"}
_CHANGES = "changes.json"


class AcceptedChange(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A change at a place: a dotted path of a field, or a key of contract.yaml.

    A new field has its type, whether it is required, and how it is handled if it is personal.
    """

    place: str
    change: str
    type: str = ""
    required: bool = False
    personal: str = ""


class Accepted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was accepted at once. `before` and `after` tell the forms apart, "" is none.

    `date` is null where a form was accepted before changes were listed.
    """

    date: str | None
    version: str
    before: str
    after: str
    changes: list[AcceptedChange]


def accepted_sources(schemas: Path) -> set[str]:
    """The sources with an accepted form."""
    return {file.parent.name for file in (schemas / HISTORY).glob("*/v*.json")}


def accepted_forms(schemas: Path, source: str) -> dict[str, Form]:
    """The accepted forms of a source by version, oldest first; raises ContractError."""
    files = (schemas / HISTORY / source).glob("v*.json")
    return {
        file.stem: _read_form(file)
        for file in sorted(files, key=lambda file: (len(file.name), file.name))
    }


def listed_changes(schemas: Path, source: str) -> list[Accepted] | None:
    """What changes.json lists; None where there is none. Raises ContractError."""
    file = schemas / HISTORY / source / _CHANGES
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Accepted])
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise ContractError(
            f"{file}: no list of accepted changes: {error}; restore it from git"
        ) from error


def put_changes(schemas: Path, source: str, listed: list[Accepted]) -> Path:
    """Writes changes.json, a line a change, so that what was added shows in a diff."""
    entries = []
    for entry in listed:
        document = msgspec.to_builtins(entry)
        changes = ",\n".join(f"      {_plain(change)}" for change in document.pop("changes"))
        head = "".join(
            f"    {_plain(name)}: {_plain(value)},\n" for name, value in document.items()
        )
        entries.append(f'  {{\n{head}    "changes": [\n{changes}\n    ]\n  }}')
    text = "[\n" + ",\n".join(entries) + "\n]\n"
    return _put(schemas / HISTORY / source / _CHANGES, text)


def put_form(schemas: Path, source: str, version: str, form: Form) -> Path | None:
    """Writes the accepted form, a line a field; returns None where it is there already."""
    file = schemas / HISTORY / source / f"{version}.json"
    fields = ",\n".join(
        f"    {_plain(path)}: {_plain(field)}" for path, field in form["fields"].items()
    )
    head = ",\n".join(
        f"  {_plain(name)}: {_plain(value)}" for name, value in form.items() if name != "fields"
    )
    text = f'{{\n{head},\n  "fields": {{\n{fields}\n  }}\n}}\n'
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return None
    return _put(file, text)


def fingerprint(form: Form | None) -> str:
    """Twelve hex digits that tell forms apart; "" for none."""
    if form is None:
        return ""
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()[:12]


def _read_form(file: Path) -> Form:
    try:
        form: Form = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ContractError(f"{file}: not JSON: {error}; restore it from git") from error
    if not isinstance(form, dict) or form.keys() != _FORM:
        raise ContractError(f"{file}: not the form of a contract; restore it from git")
    return form


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _put(file: Path, text: str) -> Path:
    """The whole text or what was there before, whenever the process dies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, file)
    return file
