"""A contract as the columns of a BigQuery table."""

from collections.abc import Mapping
from typing import Any

from dataflows.contracts.enrichment import ENRICHMENT
from dataflows.contracts.shapes import (
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
    element,
)
from dataflows.contracts.storage import always_stored, explain

_ADDED = {"text": "STRING", "json": "JSON", "integer": "INTEGER", "timestamp": "TIMESTAMP"}


def bigquery_schema(shape: Object, pii: Mapping[str, str]) -> list[dict[str, Any]]:
    """The columns of an enriched event: name, type, mode, description, and fields of a RECORD.

    A map is a REPEATED RECORD of key and value. Money is NUMERIC, which holds it exactly.
    """
    added = [
        _column(name, _ADDED[added.stored_as], "NULLABLE", added.description)
        for name, added in ENRICHMENT.items()
    ]
    return [*_columns(shape, pii, ""), *added]


def _columns(shape: Object, pii: Mapping[str, str], prefix: str) -> list[dict[str, Any]]:
    columns = []
    for field in shape.fields.values():
        path = prefix + field.name
        mode = "REQUIRED" if always_stored(field, path, pii) else "NULLABLE"
        if isinstance(field.shape, Array | Map):
            mode = "REPEATED"
        kind = element(field.shape)
        column = _column(field.name, _type(kind), mode, explain(field, path, pii))
        if isinstance(kind, Object):
            column["fields"] = _columns(kind, pii, path + ".")
        if isinstance(kind, Map):
            column["fields"] = [
                _column("key", "STRING", "REQUIRED", ""),
                _column("value", _type(kind.values), "REQUIRED", ""),
            ]
        columns.append(column)
    return columns


def _column(name: str, kind: str, mode: str, description: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "mode": mode, "description": description}


def _type(shape: Shape) -> str:
    match shape:
        case Text():
            return "STRING"
        case Money():
            return "NUMERIC"
        case Timestamp():
            return "TIMESTAMP"
        case Integer():
            return "INTEGER"
        case Number():
            return "FLOAT"
        case Boolean():
            return "BOOLEAN"
        case Map() | Object():
            return "RECORD"
        case Array():
            return _type(shape.items)
