"""A contract as an Avro 1.11 schema, for Pub/Sub and for files.

Absent and null are both null in Avro. An enum is a string, so that a new value breaks no reader.
"""

from collections.abc import Mapping
from typing import Any

from dataflows.contracts.enrichment import ENRICHMENT
from dataflows.contracts.shapes import (
    MONEY_PRECISION,
    MONEY_SCALE,
    Array,
    Boolean,
    Integer,
    Map,
    Money,
    Number,
    Object,
    Shape,
    Text,
    Timestamp,
)
from dataflows.contracts.storage import always_stored, explain

_TIMESTAMP = {"type": "long", "logicalType": "timestamp-micros"}
_MONEY = {
    "type": "bytes",
    "logicalType": "decimal",
    "precision": MONEY_PRECISION,
    "scale": MONEY_SCALE,
}
_ADDED = {"text": "string", "json": "string", "integer": "long", "timestamp": _TIMESTAMP}


def avro_schema(source: str, shape: Object, pii: Mapping[str, str]) -> dict[str, Any]:
    """The schema of an enriched event; the extras are JSON text."""
    record = _record(source, shape, pii, "")
    record["namespace"] = "tidegate"
    record["fields"] += [
        {
            "name": name,
            "type": ["null", _ADDED[added.stored_as]],
            "default": None,
            "doc": added.description,
        }
        for name, added in ENRICHMENT.items()
    ]
    return record


def _record(name: str, shape: Object, pii: Mapping[str, str], prefix: str) -> dict[str, Any]:
    fields: list[dict[str, Any]] = []
    for field in shape.fields.values():
        path = prefix + field.name
        kind = _type(f"{name}_{field.name}", field.shape, pii, path)
        entry: dict[str, Any] = {"name": field.name, "type": kind}
        if not always_stored(field, path, pii):
            entry = {"name": field.name, "type": ["null", kind], "default": None}
        fields.append(entry | {"doc": explain(field, path, pii)})
    return {"type": "record", "name": name, "fields": fields}


def _type(name: str, shape: Shape, pii: Mapping[str, str], path: str) -> Any:
    match shape:
        case Text():
            return "string"
        case Money():
            return _MONEY
        case Timestamp():
            return _TIMESTAMP
        case Integer():
            return "long"
        case Number():
            return "double"
        case Boolean():
            return "boolean"
        case Map():
            return {"type": "map", "values": _type(name, shape.values, pii, path)}
        case Array():
            return {"type": "array", "items": _type(name, shape.items, pii, path)}
        case Object():
            return _record(name, shape, pii, path + ".")
