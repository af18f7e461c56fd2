"""Fields that a contract does not know: found anywhere in an event, kept as they were sent."""

from typing import Any

import msgspec

from dataflows.contracts.shapes import Array, Object, Shape

members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
any_value = msgspec.json.Decoder().decode


def unknown_fields(text: bytes, shape: Object) -> bytes | None:
    """The unknown fields of a JSON object as compact JSON, or None when there are none.

    Numbers keep their digits. A nested field keeps its place: `{"device": {"os": "iOS"}}`. In an
    array every element has an entry, `{}` where nothing is unknown: `{"items": [{}, {"x": 1}]}`.
    Raises msgspec.MsgspecError when an unknown value cannot be decoded.
    """
    unknown = _in_object(text, shape)
    if not unknown:
        return None
    return msgspec.json.format(msgspec.json.encode(unknown), indent=-1)


def _in_object(text: bytes | msgspec.Raw, shape: Object) -> dict[str, Any]:
    unknown: dict[str, Any] = {}
    for name, member in members(text).items():
        field = shape.fields.get(name)
        if field is None:
            any_value(member)
            unknown[name] = member
        elif isinstance(field.shape, Object | Array) and bytes(member) != b"null":
            inner = _in_shape(member, field.shape)
            if inner:
                unknown[name] = inner
    return unknown


def _in_shape(text: msgspec.Raw, shape: Shape) -> dict[str, Any] | list[dict[str, Any]] | None:
    if isinstance(shape, Object):
        return _in_object(text, shape)
    if isinstance(shape, Array) and isinstance(shape.items, Object):
        found = [_in_object(element, shape.items) for element in elements(text)]
        return found if any(found) else None
    return None
