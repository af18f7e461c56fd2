"""Load the contracts of a schemas/ folder, and refuse what does not hold together."""

import json
import re
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import yaml

from dataflows.contracts.checks import checks_of
from dataflows.contracts.contract import Contract
from dataflows.contracts.declaration import Declaration, Sum
from dataflows.contracts.decoding import BatchDecoder
from dataflows.contracts.enrichment import ENRICHMENT
from dataflows.contracts.errors import ContractError
from dataflows.contracts.examination import RawExaminer
from dataflows.contracts.schema import read_schema
from dataflows.contracts.shapes import (
    Array,
    Boolean,
    Field,
    Integer,
    Money,
    Object,
    Text,
    Timestamp,
    walk,
)
from dataflows.contracts.structs import generate_structs

MAX_RECORD_BYTES = 1_048_576
HISTORY = "history"

_SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


def load_contracts(
    schemas: Path, *, max_record_bytes: int = MAX_RECORD_BYTES
) -> dict[str, Contract]:
    """Every contract of a schemas/ folder by source, in the order of their names.

    Each folder but history/ is a source. A larger record than `max_record_bytes` is refused.
    Raises ContractError, which names the file, the place and the remedy.
    """
    if not schemas.is_dir():
        raise ContractError(f"{schemas}: no such folder of contracts")
    folders = sorted(
        folder
        for folder in schemas.iterdir()
        if folder.is_dir() and folder.name != HISTORY and not folder.name.startswith((".", "_"))
    )
    contracts = {folder.name: load_contract(folder, max_record_bytes) for folder in folders}
    topics: dict[str, str] = {}
    for source, contract in contracts.items():
        other = topics.setdefault(contract.topic, source)
        if other != source:
            file = schemas / source / "contract.yaml"
            raise ContractError(f"{file}: topic {contract.topic} belongs to {other} already")
    return contracts


def load_contract(folder: Path, max_record_bytes: int = MAX_RECORD_BYTES) -> Contract:
    """The contract in one folder; raises ContractError."""
    if not _SOURCE_NAME.match(folder.name):
        raise ContractError(
            f"{folder}: a source's name must be lower case letters, digits and underscores"
        )
    declaration = _read_declaration(folder / "contract.yaml")
    schema_file = folder / f"{declaration.version}.schema.json"
    json_schema = _read_json(schema_file)
    shape = read_schema(json_schema, str(schema_file))
    for name in ENRICHMENT:
        if name in shape.fields:
            place = f"{schema_file}#/properties/{name}"
            raise ContractError(f"{place}: ingest adds a field of this name; choose another")
    _Agreement(str(folder / "contract.yaml"), declaration, shape).check()
    return _assemble(folder.name, declaration, json_schema, shape, max_record_bytes)


def _assemble(
    source: str,
    declaration: Declaration,
    json_schema: dict[str, Any],
    shape: Object,
    max_record_bytes: int,
) -> Contract:
    structs = generate_structs("".join(word.capitalize() for word in source.split("_")), shape)
    raw_decoder = BatchDecoder(
        structs.Strict,
        declaration.event_time,
        RawExaminer(structs, shape, max_record_bytes),
        checks_of(shape, declaration.event_time, declaration.sums),
        max_record_bytes,
    )
    return Contract(
        source=source,
        json_schema=json_schema,
        shape=shape,
        Event=structs.Event,
        Enriched=structs.Enriched,
        raw_decoder=raw_decoder,
        **{name: getattr(declaration, name) for name in declaration.__struct_fields__},
    )


def _read_declaration(file: Path) -> Declaration:
    try:
        return msgspec.convert(yaml.safe_load(_read_text(file)), Declaration)
    except yaml.YAMLError as error:
        raise ContractError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    except msgspec.ValidationError as error:
        raise ContractError(f"{file}: {error}") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(_read_text(file))
        return document
    except ValueError as error:
        raise ContractError(f"{file}: not JSON: {error}") from error


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ContractError(f"{file}: missing; every source needs it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{file}: cannot be read: {error}") from error


class _Agreement:
    """Checks that a declaration speaks of fields that its schema has, and of the right kinds."""

    def __init__(self, file: str, declaration: Declaration, shape: Object) -> None:
        self._file = file
        self._declaration = declaration
        self._shape = shape
        self._fields = dict(walk(shape))

    def check(self) -> None:
        declared = self._declaration
        self._text("key", declared.key, always_present=False)
        self._text("dedup_key", declared.dedup_key, always_present=True)
        self._event_time(declared.event_time)
        if declared.user is not None:
            self._text("user", declared.user, always_present=False)
        elif declared.require_user:
            self._refuse("require_user", "needs `user`, the field that names the person")
        for path in declared.pii:
            self._pii(path)
        for index, declared_sum in enumerate(declared.sums):
            self._sum(f"sums[{index}]", declared_sum)
        self._warehouse()

    def _refuse(self, place: str, problem: str) -> NoReturn:
        raise ContractError(f"{self._file}: `{place}`: {problem}")

    def _field(self, place: str, name: str) -> Field:
        if name not in self._shape.fields:
            self._refuse(place, f"{name!r} is not a field of the schema")
        return self._shape.fields[name]

    def _text(self, place: str, name: str, *, always_present: bool) -> None:
        field = self._field(place, name)
        if not isinstance(field.shape, Text):
            self._refuse(place, f"{name!r} must be of type string")
        if always_present and (field.nullable or not field.required):
            self._refuse(place, f"{name!r} must be required, and not null, in the schema")

    def _event_time(self, name: str) -> None:
        field = self._field("event_time", name)
        if not isinstance(field.shape, Timestamp) or field.nullable or not field.required:
            self._refuse("event_time", f"{name!r} must be a required date-time, and not null")

    def _pii(self, path: str) -> None:
        if path not in self._fields:
            self._refuse("pii", f"{path!r} is not a field of the schema")
        if not isinstance(self._fields[path].shape, Text):
            self._refuse("pii", f"{path!r} must be of type string")
        declared = self._declaration
        if path in (declared.key, declared.dedup_key, declared.user):
            self._refuse("pii", f"{path!r} identifies records, and cannot be changed in them")

    def _sum(self, place: str, declared: Sum) -> None:
        lines, amount = declared.parts.split(".")
        parts = self._field(place, lines).shape
        whole = self._field(place, declared.total).shape
        line = parts.items if isinstance(parts, Array) else None
        part = line.fields.get(amount) if isinstance(line, Object) else None
        if part is None or not isinstance(part.shape, Money) or not part.required or part.nullable:
            self._refuse(place, f"{declared.parts} must be required money in an array of objects")
        if not isinstance(whole, Money):
            self._refuse(place, f"{declared.total!r} must be money")

    def _warehouse(self) -> None:
        declared = self._declaration.warehouse
        partition_by = self._field("warehouse.partition_by", declared.partition_by)
        if not isinstance(partition_by.shape, Timestamp):
            self._refuse("warehouse.partition_by", f"{partition_by.name!r} must be a date-time")
        for name in declared.cluster_by:
            kind = self._field("warehouse.cluster_by", name).shape
            if not isinstance(kind, Text | Integer | Boolean | Timestamp | Money):
                self._refuse("warehouse.cluster_by", f"{name!r} must be a scalar")
