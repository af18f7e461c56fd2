"""The contracts beside the dbt project: its generated sources, and the staging models.

Sources follow from the contracts, and bronze has every column of them. A staging model names its
columns, and what it should say of a new one is a person's choice: the plan has the line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import yaml

from dataflows.contracts import Contract
from dataflows.contracts.shapes import Array, Field, Map, Money, Object, walk
from services.schema.errors import SchemaError
from services.schema.steps import Step
from services.warehouse.bronze import SCHEMA, BronzeTable
from services.warehouse.sources_yaml import HEAD, sources_yaml
from services.whole_file import whole_file

SOURCES = Path("models", "bronze", "sources.yml")

_COMMENT = re.compile(r"\{#.*?#\}|--[^\n]*", re.DOTALL)
_STAGES = "first_copies\\(\\s*'{table}'"
# What ingest adds stands behind the fields of the contract, the lineage behind all.
_BEFORE = re.compile(r"^\s+(?P<prefix>\w+\.)?(lateness|_topic),$", re.MULTILINE)
_EVERYTHING = re.compile(r"^\s*(select\s+)?(events\.)?\*", re.MULTILINE)

Described = dict[str, dict[str, str]]  # table -> column -> description; "" is the table itself


class Model(NamedTuple):
    """A model of the project: its file below the project, and its SQL without comments."""

    file: Path
    sql: str

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def end(self) -> str:
        """The last SELECT, which says what columns the model has."""
        return self.sql[self.sql.rfind("\nselect") :]


def sources_steps(project: Path, tables: Mapping[str, BronzeTable]) -> list[Step]:
    """How the committed sources differ from what follows from the contracts.

    Raises:
        SchemaError: they are no YAML, or none of dbt's sources.
    """
    file = project / SOURCES
    if not file.is_file():
        what = f"{file} is not there, so there is nothing to bring up to date"
        return [Step(place="dbt", do="itself", table="", what=what)]
    text = _read(file)
    wanted_text = sources_yaml(tables.values())
    if text == wanted_text:
        return []
    now, wanted = _described(text, file), _described(wanted_text, file)
    steps = [*_compare(now, wanted)]
    if not text.startswith(HEAD):
        by_hand = f"{SOURCES} was not generated: say it there"
        return [
            step
            if step.do == "refuse"
            else msgspec.structs.replace(step, do="by hand", what=by_hand)
            for step in steps
        ]
    return steps or [Step(place="dbt", do="write", table="", what=f"{SOURCES}, in another form")]


def write_sources(project: Path, tables: Mapping[str, BronzeTable]) -> None:
    """Generates the sources anew, whole or not at all; leaves alone what was not generated."""
    file = project / SOURCES
    if file.is_file() and _read(file).startswith(HEAD):
        with whole_file(str(file), SchemaError) as draft:
            draft.write_text(sources_yaml(tables.values()), "utf-8")


def model_steps(
    project: Path, contracts: Mapping[str, Contract], new: Mapping[str, Collection[str]]
) -> list[Step]:
    """What models do with new columns, which are dotted paths by source."""
    models = [
        Model(file.relative_to(project), _COMMENT.sub("", _read(file)))
        for file in sorted((project / "models").rglob("*.sql"))
    ]
    return [
        step
        for source, paths in new.items()
        if paths
        for step in _of_source(project, models, contracts[source], paths)
    ]


def _of_source(
    project: Path, models: list[Model], contract: Contract, paths: Collection[str]
) -> Iterator[Step]:
    source = contract.source
    yield Step(
        place="dbt",
        do="itself",
        table=source,
        what=f"{SCHEMA}.{source} has every column of the contract; what was sent of a field before "
        "it was declared is in `extras`",
    )
    stages = [model for model in models if re.search(_STAGES.format(table=source), model.sql)]
    if not stages:
        what = f"no model reads {SCHEMA}.{source} yet: docs/how-to/new-source.md"
        yield Step(place="dbt", do="by hand", table=source, what=what)
        return
    fields = dict(walk(contract.shape))
    for path in paths:
        described = fields[path]
        if isinstance(described.shape, Object):
            continue  # its members are named one by one
        if contract.pii.get(path) == "drop":
            what = "personal data that is never stored: no model needs it"
            yield Step(place="dbt", do="itself", table=source, column=path, what=what)
            continue
        for stage in stages:
            yield _named(project, models, stage, source, path, fields)


def _named(
    project: Path,
    models: list[Model],
    stage: Model,
    source: str,
    path: str,
    fields: Mapping[str, Field],
) -> Step:
    around = _list_around(path, fields)
    if around:
        readers = [model for model in models if _takes_apart(model, stage, around)]
        line = f"item.{path.removeprefix(around + '.')} as {path.rpartition('.')[2]},"
        return _by_hand(project, source, path, readers[0] if readers else stage, line)
    if _EVERYTHING.search(stage.end):
        what = f"{stage.name} takes every column"
        return Step(place="dbt", do="itself", table=source, column=path, what=what)
    found = _BEFORE.search(stage.end)
    line = _line(path, fields[path], (found and found["prefix"]) or "")
    return _by_hand(project, source, path, stage, line)


def _by_hand(project: Path, source: str, path: str, model: Model, line: str) -> Step:
    if re.search(rf"^\s*{re.escape(line)}?$", model.end, re.MULTILINE):
        return Step(
            place="dbt", do="itself", table=source, column=path, what=f"{model.name} names it"
        )
    where, whole = str(model.file), _read(project / model.file)
    if before := _BEFORE.search(whole, whole.rfind("\nselect")):
        number = whole.count("\n", 0, before.end()) + 1
        where = f"{where}, before line {number} (`{before[0].strip()}`)"
    return Step(
        place="dbt", do="by hand", table=source, column=path, what=f"{where}, add the line `{line}`"
    )


def _line(path: str, described: Field, prefix: str) -> str:
    """How a staging model names a column: nested ones by their path, one word."""
    nested = "." in path
    name = path.replace(".", "_")
    column = f"events.{path}" if nested else f"{prefix}{path}"
    match described.shape:
        case Money():
            return f"{{{{ as_money('{column}') }}}} as {name},"
        case Map():
            return f"{{{{ map_as_json('{column}') }}}} as {name},"
        case Array(items=items) if not isinstance(items, Object):
            return f"{{{{ list_as_json('{column}') }}}} as {name},"
    return f"{column} as {name}," if nested else f"{column},"


def _list_around(path: str, fields: Mapping[str, Field]) -> str:
    """The list of objects that a field is in; "" if it is in none."""
    parts = path.split(".")
    parents = [".".join(parts[:count]) for count in range(1, len(parts))]
    return next((each for each in parents if isinstance(fields[each].shape, Array)), "")


def _takes_apart(model: Model, stage: Model, column: str) -> bool:
    reads = f"ref('{stage.name}')" in model.sql
    return reads and bool(re.search(rf"each_item\('\w+',\s*'{column}'\)", model.sql))


def _compare(now: Described, wanted: Described) -> Iterator[Step]:
    for table, columns in wanted.items():
        if table not in now:
            what = f"{SOURCES}, {len(columns) - 1} columns"
            yield Step(place="dbt", do="create", table=table, what=what)
            continue
        for column, text in columns.items():
            if column not in now[table]:
                yield Step(
                    place="dbt",
                    do="add",
                    table=table,
                    column=column,
                    description=text,
                    what=str(SOURCES),
                )
            elif now[table][column] != text:
                yield Step(place="dbt", do="describe", table=table, column=column, description=text)
    for table, columns in now.items():
        for column in columns.keys() - wanted.get(table, {}).keys():
            yield Step(
                place="dbt",
                do="refuse",
                table=table,
                column=column,
                what=f"{SOURCES} has it, and no contract does",
                instead="keep it in the contract; or, if nothing reads it, take it out of the file",
            )


def _described(text: str, file: Path) -> Described:
    try:
        document = yaml.safe_load(text)
        return {
            table["name"]: {
                "": table.get("description", ""),
                **{each["name"]: each.get("description", "") for each in table["columns"]},
            }
            for source in document["sources"]
            if source["name"] == SCHEMA
            for table in source["tables"]
        }
    except yaml.YAMLError as error:
        raise SchemaError(
            f"{file}: not YAML: {' '.join(str(error).split())}; restore it from git"
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise SchemaError(
            f"{file}: does not list dbt's sources with their tables and columns; restore it from "
            "git"
        ) from error


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"{file}: cannot be read: {error}") from error
