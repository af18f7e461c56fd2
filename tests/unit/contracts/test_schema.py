"""The subset of JSON Schema: what it reads, and that it refuses all else by file and pointer."""

import copy
from typing import Any

import pytest

from dataflows.contracts import ContractError
from dataflows.contracts.schema import DIALECT, read_schema
from dataflows.contracts.shapes import (
    MAX_EPOCH_MS,
    MAX_INT64,
    MIN_INT64,
    MONEY_PATTERN,
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
    walk,
)

MONEY = {"type": "string", "pattern": MONEY_PATTERN, "x-tidegate": {"type": "money"}}


def schema_of(field: Any, **more: Any) -> dict[str, Any]:
    return {"$schema": DIALECT, "type": "object", "properties": {"field": field}, **more}


def read_field(field: Any) -> tuple[Shape, bool]:
    read = read_schema(schema_of(field), "file").fields["field"]
    return read.shape, read.nullable


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ({"type": "string"}, Text()),
        ({"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^a"}, Text(1, 9, "^a")),
        ({"type": "string", "enum": ["a", "b"]}, Text(enum=("a", "b"))),
        ({"type": "string", "format": "date-time"}, Timestamp(False, 0, MAX_EPOCH_MS)),
        (
            {"type": ["string", "integer"], "format": "date-time", "minimum": 5, "maximum": 9},
            Timestamp(True, 5, 9),
        ),
        (MONEY, Money()),
        ({"type": "integer"}, Integer(MIN_INT64, MAX_INT64)),
        ({"type": "integer", "minimum": -1, "maximum": 1}, Integer(-1, 1)),
        ({"type": "number", "maximum": 1}, Number(None, 1.0)),
        ({"type": "boolean", "title": "t", "deprecated": True, "examples": [1]}, Boolean()),
        ({"type": "array", "items": {"type": "boolean"}, "maxItems": 2}, Array(Boolean(), None, 2)),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, Map(Integer())),
    ],
)
def test_reads_the_subset(field: dict[str, Any], shape: Shape) -> None:
    assert read_field(field) == (shape, False)


def test_a_null_beside_the_type_makes_a_field_nullable() -> None:
    assert read_field({"type": ["string", "null"]}) == (Text(), True)
    assert read_field({"type": ["null", "string"], "enum": ["a", None]}) == (
        Text(enum=("a",)),
        True,
    )


def test_definitions_may_use_earlier_ones_and_a_description_beside_a_reference_wins() -> None:
    definitions = {
        "id": {"type": "string", "maxLength": 3, "description": "general"},
        "device": {"type": "object", "properties": {"id": {"$ref": "#/$defs/id"}}},
    }
    field = {"$ref": "#/$defs/id", "description": "special"}
    read = read_schema(schema_of(field, **{"$defs": definitions}), "file")
    assert read.fields["field"].description == "special"
    device = {"$ref": "#/$defs/device"}
    nested = read_schema(schema_of(device, **{"$defs": definitions}), "file")
    assert [path for path, _ in walk(nested)] == ["field", "field.id"]


@pytest.mark.parametrize(
    ("field", "pointer"),
    [
        (7, ""),
        ({}, "/type"),
        ({"type": "text"}, "/type"),
        ({"type": "null"}, "/type"),
        ({"type": ["string", "string"]}, "/type"),
        ({"type": ["string", "integer"]}, "/type"),
        ({"type": "string", "const": "a"}, "/const"),
        ({"type": "string", "format": "email"}, "/format"),
        ({"type": "integer", "format": "date-time"}, "/type"),
        ({"type": "string", "format": "date-time", "pattern": "a"}, "/pattern"),
        ({"type": "string", "pattern": "("}, "/pattern"),
        ({"type": "string", "minLength": -1}, "/minLength"),
        ({"type": "string", "maxLength": "9"}, "/maxLength"),
        ({"type": "string", "maxLength": None}, "/maxLength"),
        ({"type": "string", "enum": []}, "/enum"),
        ({"type": "string", "enum": ["a", "a"]}, "/enum"),
        ({"type": "string", "enum": ["a", 1]}, "/enum"),
        ({"type": "string", "enum": ["a", None]}, "/enum"),
        ({"type": ["string", "null"], "enum": ["a"]}, "/enum"),
        ({"type": "string", "enum": ["a"], "maxLength": 1}, "/maxLength"),
        ({"type": "string", "x-tidegate": {"type": "money"}}, "/pattern"),
        ({**MONEY, "pattern": "^[0-9]+$"}, "/pattern"),
        ({**MONEY, "type": "number"}, "/type"),
        ({**MONEY, "x-tidegate": {"type": "gold"}}, "/x-tidegate"),
        ({"type": "integer", "minimum": True}, "/minimum"),
        ({"type": "integer", "minimum": 0.5}, "/minimum"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "/minimum"),
        ({"type": "integer", "maximum": 2**63}, "/minimum"),
        ({"type": "integer", "exclusiveMinimum": 0}, "/exclusiveMinimum"),
        ({"type": "integer", "enum": [1]}, "/enum"),
        ({"type": "number", "minimum": "0"}, "/minimum"),
        ({"type": "number", "multipleOf": 2}, "/multipleOf"),
        ({"type": "boolean", "default": True}, "/default"),
        ({"type": "array"}, "/items"),
        ({"type": "array", "items": {"type": ["string", "null"]}}, "/items"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "string"}}}, "/items"),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "/uniqueItems"),
        ({"type": "object"}, ""),
        ({"type": "object", "properties": {}}, "/properties"),
        ({"type": "object", "additionalProperties": True}, ""),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]},
            "/required",
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "additionalProperties": False,
            },
            "/additionalProperties",
        ),
        (
            {"type": "object", "additionalProperties": {"type": "array", "items": {}}},
            "/additionalProperties/items/type",
        ),
        (
            {"type": "object", "properties": {"Bad-Name": {"type": "string"}}},
            "/properties/Bad-Name",
        ),
        ({"oneOf": [{"type": "string"}]}, "/type"),
        ({"$ref": "#/$defs/other"}, "/$ref"),
        ({"$ref": "https://example.com/schema"}, "/$ref"),
    ],
)
def test_refuses_all_else_by_file_and_pointer(field: Any, pointer: str) -> None:
    with pytest.raises(ContractError) as refusal:
        read_field(copy.deepcopy(field))
    place = f"file#/properties/field{pointer}: "
    assert str(refusal.value).startswith(place)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ({"type": "object"}, "/$schema"),
        ({"$schema": DIALECT, "type": "string"}, ""),
        (schema_of({"type": "string"}, type=["object", "null"]), ""),
        (schema_of({"type": "string"}, **{"$defs": {"a": {"type": "x"}}}), "/$defs/a/type"),
        (schema_of({"type": "string"}, **{"$defs": {"a": {"$ref": "#/$defs/a"}}}), "/$defs/a/$ref"),
        (schema_of({"type": "string"}, allOf=[]), "/allOf"),
    ],
)
def test_refuses_a_document_that_is_no_event_s_schema(document: Any, pointer: str) -> None:
    with pytest.raises(ContractError) as refusal:
        read_schema(document, "file")
    assert str(refusal.value).startswith(f"file#{pointer}: ")


def test_only_annotations_may_stand_beside_a_reference() -> None:
    field = {"$ref": "#/$defs/id", "maxLength": 2}
    with pytest.raises(ContractError, match="file#/properties/field/maxLength: only annotations"):
        read_schema(schema_of(field, **{"$defs": {"id": {"type": "string"}}}), "file")


def test_an_explicit_openness_is_fine() -> None:
    field = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "additionalProperties": True,
    }
    shape, _ = read_field(field)
    assert isinstance(shape, Object)
