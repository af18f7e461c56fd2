"""The shape of an event: its fields, their types and bounds."""

from collections.abc import Iterator
from dataclasses import dataclass

# `$` alone would also match before a final newline in some dialects of regular expressions.
MONEY_PATTERN = r"^[0-9]{1,12}[.][0-9]{2}(?!\n)$"
MONEY_PRECISION, MONEY_SCALE = 18, 2
MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1
MAX_DOUBLE = 1.7976931348623157e308
MAX_EPOCH_MS = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Text:
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    enum: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount with two decimals, as text: see MONEY_PATTERN."""


@dataclass(frozen=True, slots=True)
class Timestamp:
    """RFC 3339 text and, with `epoch_ms`, integer milliseconds within [minimum, maximum]."""

    epoch_ms: bool
    minimum: int = 0
    maximum: int = MAX_EPOCH_MS


@dataclass(frozen=True, slots=True)
class Integer:
    minimum: int = MIN_INT64
    maximum: int = MAX_INT64


@dataclass(frozen=True, slots=True)
class Number:
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Boolean:
    pass


Scalar = Text | Money | Timestamp | Integer | Number | Boolean


@dataclass(frozen=True, slots=True)
class Map:
    """An object of any keys, all values of one scalar type."""

    values: Scalar


@dataclass(frozen=True, slots=True)
class Array:
    items: "Scalar | Object"
    min_items: int | None = None
    max_items: int | None = None


@dataclass(frozen=True, slots=True)
class Object:
    fields: "dict[str, Field]"


Shape = Scalar | Map | Array | Object


@dataclass(frozen=True, slots=True)
class Field:
    """A named member of an object."""

    name: str
    shape: Shape
    required: bool
    nullable: bool
    description: str


def walk(shape: Object, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Every field with its dotted path, parents first; arrays add nothing to a path."""
    for field in shape.fields.values():
        path = prefix + field.name
        yield path, field
        inner = element(field.shape)
        if isinstance(inner, Object):
            yield from walk(inner, path + ".")


def element(shape: Shape) -> Shape:
    """What an array holds; any other shape is itself."""
    return shape.items if isinstance(shape, Array) else shape
