"""Read a JSON Schema (2020-12) document into a shape.

What a schema may say; anything else is refused, with file and JSON pointer:

| type | constraints | shape |
|---|---|---|
| `"string"` | minLength, maxLength, pattern; or enum | Text |
| `"string"` with x-tidegate `{"type": "money"}` | pattern, exactly MONEY_PATTERN | Money |
| `"string"` or `["string", "integer"]` with format date-time | minimum, maximum (ms) | Timestamp |
| `"integer"` | minimum, maximum (int64 where not given) | Integer |
| `"number"` | minimum, maximum (always a finite double) | Number |
| `"boolean"` | | Boolean |
| `"object"` with properties | required; unknown fields are allowed, and kept | Object |
| `"object"` with additionalProperties | a schema of a scalar | Map |
| `"array"` with items | minItems, maxItems | Array |

A property may add `"null"` to its type (an enum must then list null), or be a `$ref` into `$defs`.
title, description, examples, deprecated and $comment may stand anywhere.
"""

import re
from typing import Any, NoReturn, TypeVar

from dataflows.contracts.errors import ContractError
from dataflows.contracts.shapes import (
    MAX_DOUBLE,
    MAX_EPOCH_MS,
    MAX_INT64,
    MIN_INT64,
    MONEY_PATTERN,
    Array,
    Boolean,
    Field,
    Integer,
    Map,
    Money,
    Number,
    Object,
    Scalar,
    Shape,
    Text,
    Timestamp,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_T = TypeVar("_T")
_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,127}\Z")
_DEFINITION = "#/$defs/"
_ANNOTATIONS = ("title", "examples", "deprecated", "$comment")


def read_schema(document: Any, file: str) -> Object:
    """The shape of the events a schema document describes; `file` names it in errors.

    Raises ContractError for anything outside the subset above.
    """
    root = _Node(file, "", document, {})
    if root.take("$schema", str) != DIALECT:
        root.refuse(f'must be "{DIALECT}"', "$schema")
    root.take("$id", str)
    for name, definition in (root.take("$defs", dict) or {}).items():
        _read_shape(_Node(file, f"/$defs/{name}", definition, root.definitions))
        root.definitions[name] = definition
    shape, nullable = _read_shape(root)
    if not isinstance(shape, Object) or nullable:
        root.refuse('an event must be of type "object", with properties')
    return shape


class _Node:
    """One schema of the document, whose keywords are taken one by one until none is left."""

    def __init__(self, file: str, pointer: str, value: Any, definitions: dict[str, Any]) -> None:
        self.file = file
        self.pointer = pointer
        self.definitions = definitions
        if not isinstance(value, dict):
            self.refuse("must be a JSON object")
        self._left = dict(value)
        self._resolve()
        self.description = self.take("description", str) or ""
        for keyword in _ANNOTATIONS:
            self._left.pop(keyword, None)

    def refuse(self, problem: str, keyword: str | None = None) -> NoReturn:
        place = self.pointer if keyword is None else f"{self.pointer}/{keyword}"
        raise ContractError(f"{self.file}#{place}: {problem}")

    def child(self, keyword: str, value: Any) -> "_Node":
        return _Node(self.file, f"{self.pointer}/{keyword}", value, self.definitions)

    def has(self, keyword: str) -> bool:
        return keyword in self._left

    def take(self, keyword: str, kind: type[_T]) -> _T | None:
        """The keyword's value, or None when it is absent; refuses a value of another type."""
        if keyword not in self._left:
            return None
        value = self._left.pop(keyword)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            self.refuse(f"must be of the JSON type for {kind.__name__}", keyword)
        return value

    def take_count(self, keyword: str) -> int | None:
        count = self.take(keyword, int)
        if count is not None and count < 0:
            self.refuse("must not be negative", keyword)
        return count

    def close(self) -> None:
        for keyword in self._left:
            self.refuse(
                "this keyword is not supported here; see docs/reference/contracts.md", keyword
            )

    def _resolve(self) -> None:
        """Replace a `$ref` by what it names; a description beside it wins."""
        reference = self.take("$ref", str)
        if reference is None:
            return
        name = reference.removeprefix(_DEFINITION)
        if not reference.startswith(_DEFINITION) or name not in self.definitions:
            self.refuse(f'must name an earlier one of $defs: "{_DEFINITION}..."', "$ref")
        beside = set(self._left) - {"description", *_ANNOTATIONS}
        if beside:
            self.refuse("only annotations may stand beside a $ref", min(beside))
        self._left = {**self.definitions[name], **self._left}
        self._resolve()


def _read_shape(node: _Node) -> tuple[Shape, bool]:
    """(shape, nullable) of a schema."""
    kinds, nullable = _read_type(node)
    shape: Shape
    if node.has("format"):
        shape = _read_timestamp(node, kinds)
    elif len(kinds) > 1:
        node.refuse("several types are possible only with format date-time", "type")
    elif node.has("x-tidegate"):
        shape = _read_money(node, kinds[0])
    elif kinds[0] == "object":
        shape = _read_object(node) if node.has("properties") else _read_map(node)
    elif kinds[0] == "array":
        shape = _read_array(node)
    else:
        shape = _read_scalar(node, kinds[0], nullable)
    node.close()
    return shape, nullable


def _read_type(node: _Node) -> tuple[list[str], bool]:
    declared = node.take("type", object)
    kinds = [declared] if isinstance(declared, str) else declared
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        node.refuse("must be a type or a list of types", "type")
    known = ["string", "integer", "number", "boolean", "object", "array", "null"]
    rest = [kind for kind in kinds if kind != "null"]
    if not rest or not set(rest) <= set(known) or len(set(kinds)) != len(kinds):
        node.refuse(f"must be one of {', '.join(known[:-1])}, and may add null", "type")
    return rest, "null" in kinds


def _read_timestamp(node: _Node, kinds: list[str]) -> Timestamp:
    if node.take("format", str) != "date-time":
        node.refuse("the only supported format is date-time", "format")
    if kinds != ["string"] and sorted(kinds) != ["integer", "string"]:
        node.refuse('date-time needs the type "string" or ["string", "integer"]', "type")
    if "integer" in kinds and not (node.has("minimum") and node.has("maximum")):
        node.refuse(f"epoch milliseconds need bounds: minimum 0, maximum {MAX_EPOCH_MS}", "type")
    minimum, maximum = _read_bounds(node, 0, MAX_EPOCH_MS)
    return Timestamp("integer" in kinds, minimum, maximum)


def _read_money(node: _Node, kind: str) -> Money:
    if node.take("x-tidegate", dict) != {"type": "money"}:
        node.refuse('the only supported value is {"type": "money"}', "x-tidegate")
    if kind != "string":
        node.refuse("money is text, so that it stays exact: use the type string", "type")
    if node.take("pattern", str) != MONEY_PATTERN:
        node.refuse(f"money must have the pattern {MONEY_PATTERN}", "pattern")
    return Money()


def _read_object(node: _Node) -> Object:
    required = node.take("required", list) or []
    properties = node.take("properties", dict)
    if not properties:
        node.refuse("must name at least one property", "properties")
    if node.take("additionalProperties", object) not in (None, True):
        node.refuse(
            "unknown fields are always allowed, and kept: leave this out", "additionalProperties"
        )
    for name in required:
        if name not in properties:
            node.refuse(f"{name!r} is not one of the properties", "required")
    return Object(
        {
            name: _read_field(node.child(f"properties/{name}", value), name, name in required)
            for name, value in properties.items()
        }
    )


def _read_field(node: _Node, name: str, required: bool) -> Field:
    if not _FIELD_NAME.match(name):
        node.refuse("a field's name must be lower case letters, digits and underscores")
    description = node.description
    shape, nullable = _read_shape(node)
    return Field(name, shape, required, nullable, description)


def _read_map(node: _Node) -> Map:
    values = node.take("additionalProperties", object)
    if not isinstance(values, dict):
        node.refuse("an object needs properties, or additionalProperties with a scalar's schema")
    child = node.child("additionalProperties", values)
    shape, nullable = _read_shape(child)
    if not isinstance(shape, Scalar) or nullable:
        child.refuse("the values of a map must be scalars, and not null")
    return Map(shape)


def _read_array(node: _Node) -> Array:
    child = node.child("items", node.take("items", object))
    shape, nullable = _read_shape(child)
    if nullable or not isinstance(shape, Scalar | Object):
        child.refuse("the items of an array must be scalars, or objects with properties")
    return Array(shape, node.take_count("minItems"), node.take_count("maxItems"))


def _read_scalar(node: _Node, kind: str, nullable: bool) -> Scalar:
    if kind == "string":
        return _read_enum(node, nullable) if node.has("enum") else _read_text(node)
    if kind == "integer":
        return Integer(*_read_bounds(node, MIN_INT64, MAX_INT64))
    if kind == "number":
        minimum, maximum = (_take_number(node, keyword) for keyword in ("minimum", "maximum"))
        return Number(minimum, maximum)
    return Boolean()


def _take_number(node: _Node, keyword: str) -> float | None:
    if not node.has(keyword):
        return None
    number = node.take(keyword, object)
    if isinstance(number, bool) or not isinstance(number, int | float) or abs(number) > MAX_DOUBLE:
        node.refuse("must be a number within the range of a double", keyword)
    return float(number)


def _read_bounds(node: _Node, lowest: int, highest: int) -> tuple[int, int]:
    minimum, maximum = node.take("minimum", int), node.take("maximum", int)
    minimum = lowest if minimum is None else minimum
    maximum = highest if maximum is None else maximum
    if not lowest <= minimum <= maximum <= highest:
        node.refuse(f"the bounds must rise and lie within [{lowest}, {highest}]", "minimum")
    return minimum, maximum


def _read_enum(node: _Node, nullable: bool) -> Text:
    values = node.take("enum", list) or []
    texts = [value for value in values if isinstance(value, str)]
    others = [value for value in values if not isinstance(value, str)]
    if not texts or len(set(texts)) != len(texts) or others != ([None] if nullable else []):
        with_null = " and null" if nullable else ""
        node.refuse(f"must list different strings{with_null}", "enum")
    return Text(enum=tuple(texts))


def _read_text(node: _Node) -> Text:
    pattern = node.take("pattern", str)
    if pattern is not None:
        try:
            re.compile(pattern)
        except re.error as error:
            node.refuse(f"is not a regular expression: {error}", "pattern")
    return Text(node.take_count("minLength"), node.take_count("maxLength"), pattern)
