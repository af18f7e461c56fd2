"""Strategies for JSON documents: valid ones from a schema, and mutations of them."""

import copy
from typing import Any

from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "12.50", "12.5", "EUR\n", "1.00\n", "2026-11-23T06:40:54Z"])
    | st.sampled_from(["2026-11-23 06:40:54Z", "2026-11-23t06:40:54z", "2026-02-29T00:00:00Z"])
    | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values),
    max_leaves=6,
)


def documents(schema: dict[str, Any], root: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    """Documents that a schema of the supported subset accepts."""
    root = schema if root is None else root
    if "$ref" in schema:
        return documents(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "properties" in schema:
        fields = {name: documents(field, root) for name, field in schema["properties"].items()}
        required = schema.get("required", [])
        return st.fixed_dictionaries(
            {name: field for name, field in fields.items() if name in required},
            optional={name: field for name, field in fields.items() if name not in required},
        )
    if schema["type"] == "array":
        items = documents(schema["items"], root)
        return st.lists(items, min_size=schema.get("minItems", 0), max_size=3)
    if schema["type"] == "object":
        values = documents(schema["additionalProperties"], root)
        return st.dictionaries(st.text(max_size=8), values, max_size=3)
    return from_schema(schema)


@st.composite
def mutated(draw: st.DrawFn, schema: dict[str, Any]) -> Any:
    """A valid document with one to three changes, each of which may or may not break it."""
    document = copy.deepcopy(draw(documents(schema)))
    for _ in range(draw(st.integers(1, 3))):
        containers = [document, *_containers(document)]
        container = draw(st.sampled_from(containers))
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        change = draw(st.sampled_from(["replace", "remove", "add", "to_float", "to_text"]))
        if change == "add" and isinstance(container, dict):
            container[draw(st.text(max_size=8) | st.sampled_from(_names(schema)))] = draw(
                JSON_VALUES
            )
        elif keys:
            _change(draw, container, draw(st.sampled_from(keys)), change)
    return document


def _change(draw: st.DrawFn, container: Any, key: Any, change: str) -> None:
    value = container[key]
    if change == "remove":
        del container[key]
    elif change == "to_float" and type(value) is int:
        container[key] = float(value)
    elif change == "to_text":
        container[key] = str(value)
    else:
        container[key] = draw(JSON_VALUES)


def _containers(value: Any) -> list[Any]:
    """The non-empty objects and arrays inside a value."""
    children = value.values() if isinstance(value, dict) else value
    inner = [child for child in children if isinstance(child, dict | list) and child]
    return [*inner, *(found for child in inner for found in _containers(child))]


def _names(schema: dict[str, Any]) -> list[str]:
    return [*schema["properties"], "device_class", "extras", "raw_offset", "lateness"]
