"""Rules: one YAML file a rule, a SQL predicate with a weight and a reason for people.

draft -> shadow -> live -> retired: a draft is only checked; a shadow rule runs without effect on
scores; a live one counts, for a share of the customers or from an instant on if it says so; a
retired one stays to be read. Lists of customers and devices belong to the same set.

A file that cannot be used is refused with its name, line, field and what to do; so is a rule whose
own examples do not come out as they say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Final
from zlib import crc32

import msgspec
import numpy as np
import yaml

from dataflows.decodable import make_decodable
from dataflows.detection.decision import Severity
from dataflows.detection.lists import EntityList, Instant, NonEmpty, microseconds, parse_list
from dataflows.detection.predicates import (
    Predicate,
    PredicateError,
    compile_predicate,
    unknown_column,
)
from dataflows.detection.sentences import Sentence, SentenceError, parse_sentence
from dataflows.errors import TidegateError
from dataflows.features.catalogue import CATALOGUE
from dataflows.features.columns import Columns, ColumnSpec, Kind, Scalar, from_rows
from dataflows.features.places import Places, yaml_files


class RuleError(TidegateError):
    """A rule file that cannot be used."""


class RuleState(StrEnum):
    """Where a rule is in its life, in order."""

    DRAFT = "draft"
    SHADOW = "shadow"
    LIVE = "live"
    RETIRED = "retired"


EVERYBODY: Final = 100
ALERTS_PER_HOUR: Final = 1_000
_CHOICES: Final = {"state": RuleState, "severity": Severity}
LISTS: Final = "lists"  # the folder within that of the rules

Row = dict[str, Scalar | None]


class Examples(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payments as column values (those left out are null) on which the rule must fire, or not."""

    fires: list[Row] = []
    silent: list[Row] = []


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule as its file says it.

    `severity` is the least that its alerts have. `rollout` is the share of customers, in percent,
    for whom a live rule counts. A snoozed one counts for payments from that instant of event time
    on. For others it is as in shadow. Beyond `max_alerts_per_hour`, of event time and in a
    partition, its alerts are held back (see `floods`).
    """

    id: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
    description: NonEmpty
    when: NonEmpty
    weight: Annotated[float, msgspec.Meta(gt=0, le=1)]
    reason: NonEmpty
    owner: NonEmpty
    state: RuleState
    severity: Severity | None = None
    rollout: Annotated[int, msgspec.Meta(ge=1, le=100)] = 100
    snoozed_until: Instant | None = None
    max_alerts_per_hour: Annotated[int, msgspec.Meta(ge=1)] = ALERTS_PER_HOUR
    examples: Examples = Examples()

    @property
    def is_partial(self) -> bool:
        """Whether it may be live for some payments and in shadow for others."""
        return self.rollout < EVERYBODY or self.snoozed_until is not None

    def counts_for(self, user_id: str, time_us: int) -> bool:
        """Whether a live rule counts for a customer's payment at an instant of event time."""
        if self.snoozed_until is not None and time_us < microseconds(self.snoozed_until):
            return False
        return crc32(f"{self.id} {user_id}".encode()) % EVERYBODY < self.rollout


make_decodable(Rule)  # the slots of a worker may all read rules at once


@dataclass(frozen=True)
class CompiledRule:
    """A rule ready to run."""

    rule: Rule
    predicate: Predicate
    sentence: Sentence

    @property
    def columns(self) -> frozenset[str]:
        """The columns it reads or shows."""
        return frozenset(self.predicate.columns) | frozenset(self.sentence.columns)


@dataclass(frozen=True)
class RuleSet:
    """The rules and lists in force, by id. Two sets of a version decide and explain alike."""

    rules: tuple[CompiledRule, ...]
    lists: tuple[EntityList, ...] = ()
    version: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(sorted(self.rules, key=lambda r: r.rule.id)))
        object.__setattr__(self, "lists", tuple(sorted(self.lists, key=lambda each: each.id)))
        content: list[tuple[Any, ...]] = [
            (r.id, r.when, r.weight, r.reason, r.severity, r.state)
            + ((r.rollout, r.snoozed_until) if r.is_partial else ())
            + ((r.max_alerts_per_hour,) if r.max_alerts_per_hour != ALERTS_PER_HOUR else ())
            for r in (compiled.rule for compiled in (*self.live, *self.shadow))
        ]
        content += [(each.id, each.effect, each.of, each.entries) for each in self.lists]
        digest = blake2b(msgspec.json.encode(content), digest_size=6)
        object.__setattr__(self, "version", digest.hexdigest())

    @cached_property
    def live(self) -> tuple[CompiledRule, ...]:
        return tuple(r for r in self.rules if r.rule.state is RuleState.LIVE)

    @cached_property
    def shadow(self) -> tuple[CompiledRule, ...]:
        return tuple(r for r in self.rules if r.rule.state is RuleState.SHADOW)


def load_rules(folder: Path, specs: Mapping[str, ColumnSpec] = CATALOGUE) -> RuleSet:
    """Read every rule of a folder.

    Raises RuleError naming file, line and field of the first rule that cannot be used.
    """
    return parse_rules(rule_texts(folder), str(folder), specs)


def parse_rules(
    texts: Mapping[str, str], where: str, specs: Mapping[str, ColumnSpec] = CATALOGUE
) -> RuleSet:
    """Rules and lists from their YAML texts by `id` and `lists/id`; `where` stands before a file's
    name in errors. Raises RuleError."""
    compiled: list[CompiledRule] = []
    lists: list[EntityList] = []
    for name, text in texts.items():
        source = f"{where}/{name}.yaml"
        folder, _, expected = name.rpartition("/")
        if folder:
            lists.append(parse_list(text, source, RuleError))
            found = lists[-1].id
        else:
            compiled.append(parse_rule(text, source, specs))
            found = compiled[-1].rule.id
        if found != expected:
            raise RuleError(f"{source}: id: {found} belongs in {found}.yaml")
    ids = {each.rule.id for each in compiled}
    for each in lists:
        if each.id in ids:
            raise RuleError(f"{where}/{LISTS}/{each.id}.yaml: id: a rule is called so, too: rename")
    return RuleSet(tuple(compiled), tuple(lists))


def rule_texts(folder: Path) -> dict[str, str]:
    """The texts of a folder's rules and lists, by `id` and `lists/id` as files are named.

    Raises RuleError.
    """
    texts = _texts(folder)
    if not texts:
        raise RuleError(f"{folder}: no rules here; add a file <id>.yaml")
    if (folder / LISTS).exists():
        texts |= {f"{LISTS}/{name}": text for name, text in _texts(folder / LISTS).items()}
    return texts


def _texts(folder: Path) -> dict[str, str]:
    paths = yaml_files(folder, "rules", RuleError)
    for path in paths:
        if path.suffix == ".yml":
            raise RuleError(f"{path}: name it {path.stem}.yaml")
    return {path.stem: _text(path) for path in paths}


def read_rule(path: Path, specs: Mapping[str, ColumnSpec] = CATALOGUE) -> CompiledRule:
    """A rule from any file. Raises RuleError."""
    return parse_rule(_text(path), str(path), specs)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: cannot be read ({error})") from error


def parse_rule(text: str, source: str, specs: Mapping[str, ColumnSpec] = CATALOGUE) -> CompiledRule:
    """A rule from its YAML text; `source` names it in errors. Raises RuleError."""
    place = Places(text, source, RuleError)
    try:
        rule = msgspec.convert(yaml.safe_load(text), Rule)
    except msgspec.ValidationError as error:
        raise place.invalid(error, _members, _CHOICES) from error
    try:
        predicate = compile_predicate(rule.when, specs)
    except PredicateError as error:
        raise place.error("when", str(error)) from error
    try:
        sentence = parse_sentence(rule.reason, specs)
    except SentenceError as error:
        raise place.error("reason", str(error)) from error
    compiled = CompiledRule(rule, predicate, sentence)
    _check_examples(compiled, specs, place)
    return compiled


def _members(path: str) -> tuple[str, ...]:
    return (Examples if path == "examples" else Rule).__struct_fields__


def _check_examples(compiled: CompiledRule, specs: Mapping[str, ColumnSpec], place: Places) -> None:
    examples = compiled.rule.examples
    for name, rows, expected in (
        ("fires", examples.fires, True),
        ("silent", examples.silent, False),
    ):
        for i, row in enumerate(rows):
            _check_row(row, f"examples.{name}[{i}]", specs, place)
        if not rows:
            continue
        fired = compiled.predicate.holds(_example_columns(rows, compiled, specs))
        for i in np.flatnonzero(fired != expected).tolist():
            says = "does not fire" if expected else "fires"
            raise place.error(f"examples.{name}[{i}]", f"the rule {says} on it: {rows[i]}")


def _check_row(row: Row, name: str, specs: Mapping[str, ColumnSpec], place: Places) -> None:
    for column, value in row.items():
        spec = specs.get(column)
        if spec is None:
            raise place.error(name, unknown_column(column, specs))
        if value is not None and _kind(value) is not spec.kind:
            hint = ", quote it" if spec.kind is Kind.TEXT else ""
            raise place.error(name, f"{column} is a {spec.kind}, {value!r} is not{hint}")


def _kind(value: Scalar) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOLEAN
    return Kind.TEXT if isinstance(value, str) else Kind.NUMBER


def _example_columns(
    rows: Sequence[Mapping[str, Any]], compiled: CompiledRule, specs: Mapping[str, ColumnSpec]
) -> Columns:
    names = compiled.predicate.columns or tuple(specs)[:1]
    return from_rows({name: specs[name] for name in names}, rows)
