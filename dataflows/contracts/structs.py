"""Generate the msgspec Structs of a contract from its shape."""

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dataflows.contracts.enrichment import ENRICHMENT
from dataflows.contracts.money import LONGEST, SHORTEST
from dataflows.contracts.shapes import (
    Array,
    Boolean,
    Field,
    Integer,
    Map,
    Money,
    Number,
    Object,
    Shape,
    Text,
    Timestamp,
)

# No JSON value satisfies it: a raw record that brings a field of ingest's is not decoded strictly.
_NOTHING = Annotated[int, Meta(ge=1, le=0)]


class Structs(NamedTuple):
    """The classes of one contract; Enriched is an Event, Tolerant and Strict are Enriched.

    An absent optional field is `msgspec.UNSET`, and stays absent when the event is encoded again;
    an explicit null is None. Instances can be assigned to.
    """

    Event: type[msgspec.Struct]  # the contract's fields; ignores unknown ones
    Enriched: type[msgspec.Struct]  # and ENRICHMENT, all optional
    # Both decode the contract's fields only, never one of ENRICHMENT:
    Tolerant: type[msgspec.Struct]  # ignores unknown fields
    Strict: type[msgspec.Struct]  # refuses them


def generate_structs(name: str, shape: Object) -> Structs:
    """The Structs of a contract; `name` is the prefix of the classes' names."""
    event = _define(name, _Generator(strict=False).members(name, shape), None)
    enrichment = [(key, added.python | UnsetType, UNSET) for key, added in ENRICHMENT.items()]
    enriched = _define(f"{name}Enriched", enrichment, event)
    return Structs(
        event,
        enriched,
        _define_raw(f"{name}Tolerant", shape, enriched, strict=False),
        _define_raw(f"{name}Strict", shape, enriched, strict=True),
    )


def generate_selection(name: str, shape: Object, fields: list[str]) -> type[msgspec.Struct]:
    """A Struct of some top-level fields, of the contract or of ENRICHMENT; it skips all others."""
    members = []
    for field in fields:
        if field in shape.fields:
            members.append(_Generator(strict=False).member(name, shape.fields[field]))
        else:
            members.append((field, ENRICHMENT[field].python | UnsetType, UNSET))
    return _define(f"{name}Selection", members, None)


def _define_raw(
    name: str, shape: Object, enriched: type[msgspec.Struct], strict: bool
) -> type[msgspec.Struct]:
    # Redefined fields keep their order, so an event is encoded in the contract's order.
    members = _Generator(strict).members(name, shape)
    refused = [(key, _NOTHING | UnsetType, UNSET) for key in ENRICHMENT]
    return _define(name, [*members, *refused], enriched, strict)


def _define(
    name: str, members: list[Any], base: type[msgspec.Struct] | None, strict: bool = False
) -> type[msgspec.Struct]:
    # gc=False: events hold no cycles, and the collector need not look at millions of them.
    return msgspec.defstruct(
        name,
        members,
        bases=(base,) if base is not None else None,
        kw_only=True,
        gc=False,
        forbid_unknown_fields=strict,
    )


class _Generator:
    def __init__(self, strict: bool) -> None:
        self._strict = strict

    def struct(self, name: str, shape: Object) -> type[msgspec.Struct]:
        return _define(name, self.members(name, shape), None, self._strict)

    def members(self, name: str, shape: Object) -> list[Any]:
        return [self.member(name, field) for field in shape.fields.values()]

    def member(self, name: str, field: Field) -> Any:
        annotation = self._annotation(_nested_name(name, field.name), field.shape)
        if field.nullable:
            annotation = annotation | None
        if field.required:
            return field.name, annotation
        return field.name, annotation | UnsetType, UNSET

    def _annotation(self, name: str, shape: Shape) -> Any:
        match shape:
            case Text(enum=None):
                return _constrained(
                    str,
                    min_length=shape.min_length,
                    max_length=shape.max_length,
                    pattern=shape.pattern,
                )
            case Text():
                return Literal[shape.enum]
            case Money():
                # A batch's amounts are checked together: the pattern would cost most of decoding.
                return Annotated[str, Meta(min_length=SHORTEST, max_length=LONGEST)]
            case Timestamp(epoch_ms=True):
                return str | Annotated[int, Meta(ge=shape.minimum, le=shape.maximum)]
            case Timestamp():
                return str
            case Integer():
                return Annotated[int, Meta(ge=shape.minimum, le=shape.maximum)]
            case Number():
                return _constrained(float, ge=shape.minimum, le=shape.maximum)
            case Boolean():
                return bool
            case Map():
                return dict.__class_getitem__((str, self._annotation(name, shape.values)))
            case Array():
                items = list.__class_getitem__(self._annotation(name, shape.items))
                return _constrained(items, min_length=shape.min_items, max_length=shape.max_items)
            case Object():
                return self.struct(name, shape)


def _constrained(kind: Any, **constraints: Any) -> Any:
    given = {key: value for key, value in constraints.items() if value is not None}
    return Annotated[kind, Meta(**given)] if given else kind


def _nested_name(name: str, field: str) -> str:
    return name + "".join(word.capitalize() for word in field.split("_"))
