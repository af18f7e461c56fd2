"""Features of payments that a shop declares itself: specs beside the catalogue, one file each.

A spec of payments reads what a payment says. Its features of `user_id` are computed in the first
hop of scoring and travel with the payment; those of `device_id`, and what needs no entity, in the
second.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import filterfalse
from pathlib import Path
from typing import Final

import msgspec

from dataflows.features.catalogue import CATALOGUE, CUSTOMER, DEVICE, PAYMENT
from dataflows.features.columns import ColumnSpec, Kind
from dataflows.features.places import Places, yaml_files
from dataflows.features.spec import (
    CompileFilter,
    Feature,
    FeatureSpec,
    SpecError,
    Windowed,
    parse_spec,
    read_spec,
)

TIME: Final = "event_timestamp"
ID: Final = "transaction_id"
CARD: Final = "card_id"
"""Known in the first hop alone: requests do not carry it."""
FIELDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys((CUSTOMER.entity, DEVICE.entity, CARD), Kind.TEXT),
    **{spec.name: spec.kind for spec in PAYMENT},
}
"""What a spec of payments may read."""
_TAKEN: Final = frozenset({TIME, ID, *FIELDS, *CATALOGUE})
_OF_HISTORY: Final = frozenset({"event_us", "known_us", "is_fraud", "positive"})
"""Columns that stand beside the features where rules and models meet the past."""


_TELLING: Final = (
    *("name", "entity", "aggregate", "window_us", "delay_us", "of", "place"),
    *("filter_text", "otherwise"),
)
"""What of a windowed feature says what is kept and what comes out."""


@dataclass(frozen=True)
class DeclaredFeatures:
    """The specs of a shop, in order of their files."""

    specs: tuple[FeatureSpec, ...] = ()

    @cached_property
    def columns(self) -> dict[str, ColumnSpec]:
        """The columns that they make, by name."""
        return {f.name: f.spec for spec in self.specs for f in spec.features}

    @cached_property
    def catalogue(self) -> dict[str, ColumnSpec]:
        """Every column that a rule may name."""
        return {**CATALOGUE, **self.columns}

    @cached_property
    def of_customers(self) -> tuple[FeatureSpec, ...]:
        """What the first hop computes of each spec, under a version of its own."""
        parts = (_part(each, filter(_is_of_customers, each.features)) for each in self.specs)
        return tuple(part for part in parts if part.features)

    @cached_property
    def of_devices(self) -> tuple[FeatureSpec, ...]:
        """What the second hop computes."""
        parts = (_part(each, filterfalse(_is_of_customers, each.features)) for each in self.specs)
        return tuple(part for part in parts if part.features)


NOTHING_DECLARED: Final = DeclaredFeatures()


def load_declared(folder: Path, compile_filter: CompileFilter) -> DeclaredFeatures:
    """Read every spec of a folder.

    Raises SpecError naming the file, and line and field where it can, of the first that cannot be
    used.
    """
    paths = yaml_files(folder, "specs", SpecError)
    for path in paths:
        if path.suffix == ".yml":
            raise SpecError(f"{path}: name it {path.stem}.yaml")
    if not paths:
        raise SpecError(f"{folder}: no specs here; add a file, or take `features` off the settings")
    return parse_declared({str(path): read_spec(path) for path in paths}, compile_filter)


def parse_declared(texts: Mapping[str, str], compile_filter: CompileFilter) -> DeclaredFeatures:
    """Specs of payments from their YAML texts; `texts` names them in errors. Raises SpecError."""
    specs: list[FeatureSpec] = []
    declared_in: dict[str, str] = {}
    for source, text in texts.items():
        spec = parse_spec(text, source, compile_filter)
        _check(spec, Places(text, source, SpecError))
        for name in spec.names:
            if name in declared_in:
                raise SpecError(f"{source}: {name}: {declared_in[name]} declares it, too: rename")
            declared_in[name] = source
        specs.append(spec)
    return DeclaredFeatures(tuple(specs))


def _check(spec: FeatureSpec, places: Places) -> None:
    """Raises SpecError unless the stream can compute it."""
    if spec.time != TIME:
        raise places.error("time", f"the time of a payment is {TIME}, not {spec.time}")
    if spec.id not in (None, ID):
        raise places.error("id", f"the id of a payment is {ID}, not {spec.id}")
    if spec.label is not None:
        raise places.error(
            "label",
            "the stream brings no labels to payments: remove it, and what needs it",
        )
    for name, kind in spec.fields.items():
        _check_field(name, kind, places)
    entities = {f.entity: f.name for f in spec.features if isinstance(f, Windowed)}
    for entity, name in entities.items():
        if entity not in (CUSTOMER.entity, DEVICE.entity):
            raise places.error(
                "features",
                f"{name}: payments do not meet by {entity}: the entity must be {CUSTOMER.entity} "
                f"or {DEVICE.entity}",
            )
    if CARD in spec.fields and not all(map(_is_of_customers, spec.features)):
        raise places.error(
            f"fields.{CARD}",
            f"is known where payments meet by {CUSTOMER.entity} alone: declare what reads it in a "
            f"file whose features are all of {CUSTOMER.entity}",
        )
    for name in spec.names:
        if name in _TAKEN or name in _OF_HISTORY:
            raise places.error("features", f"{name}: payments have a column of this name: rename")


def _check_field(name: str, kind: Kind, places: Places) -> None:
    known = FIELDS.get(name)
    if known is None:
        near = difflib.get_close_matches(name, FIELDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"they have {', '.join(FIELDS)}"
        raise places.error(f"fields.{name}", f"payments have no such field: {hint}")
    if kind is not known:
        raise places.error(f"fields.{name}", f"is a {known} of payments, not a {kind}")


def _is_of_customers(feature: Feature) -> bool:
    return isinstance(feature, Windowed) and feature.entity == CUSTOMER.entity


def _part(spec: FeatureSpec, features: Iterable[Feature]) -> FeatureSpec:
    """Some of its features. Parts of one version keep and tell the same; what they are told to mean
    is no part of it."""
    chosen = tuple(features)
    content = [
        [getattr(feature, name) for name in _TELLING]
        for feature in chosen
        if isinstance(feature, Windowed)
    ]
    digest = blake2b(msgspec.json.encode(content, enc_hook=int), digest_size=6)
    return replace(spec, features=chosen, version=digest.hexdigest())
