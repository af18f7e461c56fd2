"""The careful look at one record that a strict decoder refused."""

from typing import Any, NamedTuple

import msgspec

from dataflows.contracts.checks import paths_of
from dataflows.contracts.extras import any_value, elements, members, unknown_fields
from dataflows.contracts.nesting import MAX_DEPTH, nesting_depth
from dataflows.contracts.refusal import (
    EMPTY,
    INVALID,
    TOO_DEEP,
    TOO_LARGE,
    RefusedError,
    invalid,
    not_json,
    not_utf8,
)
from dataflows.contracts.shapes import Array, Integer, Object, Shape, Timestamp
from dataflows.contracts.structs import Structs


class Examination(NamedTuple):
    """An event, and the JSON of the fields its contract does not know."""

    event: Any
    extras: bytes | None


class RawExaminer:
    """Examines records of a raw topic against a contract."""

    def __init__(self, structs: Structs, shape: Object, max_record_bytes: int) -> None:
        self._strict = structs.Strict
        self._decode = msgspec.json.Decoder(structs.Tolerant).decode
        self._shape = shape
        self._timestamps = frozenset(paths_of(shape, Timestamp))
        self._max_record_bytes = max_record_bytes

    def __call__(self, value: bytes | None) -> Examination:
        """The event in `value`; raises RefusedError, and nothing else."""
        text = checked_text(value, self._max_record_bytes)
        try:
            return Examination(self._decode(text), unknown_fields(text, self._shape))
        except msgspec.MsgspecError:
            return self._examine_members(text)

    def _examine_members(self, text: bytes) -> Examination:
        """JSON Schema's view: 1.0 is an integer, and of equal keys only the last one counts."""
        try:
            event = msgspec.convert(_conform(checked_json(text), self._shape), self._strict)
            return Examination(event, unknown_fields(text, self._shape))
        except msgspec.ValidationError as error:
            raise invalid(error, self._timestamps) from error


class EventExaminer:
    """Examines records of an events topic; nothing is collected, for ingest already did."""

    def __init__(self, struct: type[msgspec.Struct], shape: Object, max_record_bytes: int) -> None:
        self._decode = msgspec.json.Decoder(struct).decode
        self._timestamps = frozenset(paths_of(shape, Timestamp))
        self._max_record_bytes = max_record_bytes

    def __call__(self, value: bytes | None) -> Examination:
        """The event in `value`; raises RefusedError, and nothing else."""
        text = checked_text(value, self._max_record_bytes)
        try:
            checked_json(text)
            return Examination(self._decode(text), None)
        except msgspec.ValidationError as error:
            raise invalid(error, self._timestamps) from error


def checked_text(value: bytes | None, max_record_bytes: int) -> bytes:
    """The value, when it is UTF-8 of a size and nesting that a parser can be trusted with."""
    if not value:
        raise RefusedError(EMPTY, "the record has no value")
    if len(value) > max_record_bytes:
        raise RefusedError(
            TOO_LARGE, f"{len(value)} bytes, more than the {max_record_bytes} allowed"
        )
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(error) from error
    depth = nesting_depth(value)
    if depth > MAX_DEPTH:
        raise RefusedError(TOO_DEEP, f"nested {depth} levels deep, more than {MAX_DEPTH}")
    return value


def checked_json(text: bytes) -> Any:
    """The JSON value; raises RefusedError for what is no JSON, or a number no double can hold."""
    try:
        return any_value(text)
    except msgspec.ValidationError as error:
        raise RefusedError(INVALID, f"`{_unreadable(text)}`: number out of range") from error
    except msgspec.DecodeError as error:
        raise not_json(text, error) from error


def _unreadable(text: bytes | msgspec.Raw, path: str = "$") -> str:
    """The path of the first value in `text` that cannot be decoded by itself."""
    inner: dict[str, msgspec.Raw] = {}
    if bytes(text).lstrip().startswith(b"{"):
        inner = {f".{name}": member for name, member in members(text).items()}
    elif bytes(text).lstrip().startswith(b"["):
        inner = {f"[{index}]": element for index, element in enumerate(elements(text))}
    for step, value in inner.items():
        try:
            any_value(value)
        except msgspec.ValidationError:
            return _unreadable(value, path + step)
    return path


def _conform(value: Any, shape: Shape) -> Any:
    """Leave out unknown fields, and write integral floats as the integers they are."""
    match shape:
        case Object() if isinstance(value, dict):
            fields = shape.fields
            return {
                name: _conform(member, fields[name].shape)
                for name, member in value.items()
                if name in fields
            }
        case Array() if isinstance(value, list):
            return [_conform(item, shape.items) for item in value]
        case Integer() | Timestamp(epoch_ms=True) if isinstance(value, float):
            return int(value) if value.is_integer() else value
    return value
