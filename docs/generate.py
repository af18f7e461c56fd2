"""Writes the parts of docs/reference/ that follow from the code, and what dbt needs of contracts.

python docs/generate.py            rewrites them
python docs/generate.py --check    names the files that are not current, and exits with 1

A part stands between `<!-- generated:NAME -->` and `<!-- generated:end -->`.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer
import yaml

from dataflows.contracts import load_contracts
from dataflows.flows.load import LINEAGE
from dataflows.flows.tables import DOCUMENTS
from dataflows.runtime.exits import Exit
from dataflows.runtime.metrics import DECLARED, Declared
from services.cli import app
from services.cost.metrics import DECLARED as OF_COST
from services.schema.chronicle import Recorded, chronicle
from services.schema.terminal import change_lines
from services.supervisor.metrics import RESTARTS, UP
from services.warehouse.bronze import bronze_tables
from services.warehouse.json_to_csv_converter import json_to_csv
from services.warehouse.metrics import DECLARED as OF_WAREHOUSE
from services.warehouse.sources_yaml import sources_yaml

DOCS = Path(__file__).resolve().parent
HOUSE = DOCS.parent
WAREHOUSE = HOUSE / "warehouse_sql"
WIDTH = 100

_PART = re.compile(r"(<!-- generated:(\w+) -->\n).*?(<!-- generated:end -->)", re.DOTALL)
_KINDS = {
    "GaugeMetricFamily": "gauge",
    "CounterMetricFamily": "counter",
    "HistogramMetricFamily": "histogram",
}
_MEANINGS: Mapping[Exit, str] = {
    Exit.OK: "done",
    Exit.CHECK_FAILED: "it worked, and its answer is no: counts do not add up, a contract breaks, "
    "tests fail",
    Exit.USAGE: "a wrong option or argument",
    Exit.BAD_DATA: "`publish`: some lines were refused and named, the rest was published",
    Exit.CRASHED: "a defect, or a failure of the machine",
    Exit.UNAVAILABLE: "another process holds the data directory or a slot, or no broker answers: "
    "try again later",
    Exit.REFUSED: "configuration, state, log or a file do not fit: the line says what to do",
}


def commands(
    group: Any = None, names: tuple[str, ...] = ("tidegate",)
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its words."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        words = (*names, name)
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield words, command
            yield from commands(command, words)
        else:
            yield words, command


def cli() -> str:
    root: Any = typer.main.get_command(app)
    parts = ["Before the command:", _parameters(root.params)]
    for words, command in commands():
        parts += [f"## {' '.join(words[1:])}", f"```text\n{_usage(words, command)}\n```"]
        parts += [_paragraphs(command.help or ""), _parameters(command.params)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _usage(words: Sequence[str], command: Any) -> str:
    places = [_place(p) for p in command.params if p.param_type_name == "argument"]
    return " ".join([*words, "[OPTIONS]", *places])


def _place(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper()
    return str(name if argument.required else f"[{name}]")


def _paragraphs(text: str) -> str:
    return "\n\n".join(_wrapped(paragraph) for paragraph in text.strip().split("\n\n"))


def _wrapped(text: str, indent: str = "") -> str:
    """Text in lines; code in backticks stays in one piece where that fits."""
    kept = re.sub(r"`[^`]*`", _in_one_piece, text)
    lines = textwrap.fill(
        kept, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines.replace("\0", " ")


def _in_one_piece(code: re.Match[str]) -> str:
    return re.sub(r"\s+", "\0", code[0]) if len(code[0]) < WIDTH else code[0]


def _item(head: str, text: str) -> str:
    return _wrapped(f"- {head}: {text}", indent="  ")


def _parameters(parameters: Sequence[Any]) -> str:
    return "\n".join(_item(_name(p), _meaning(p)) for p in parameters if p.help)


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_place(parameter)}`"
    takes_value = not parameter.is_flag and "completion" not in parameter.name
    value = f" {parameter.metavar or parameter.name.upper()}" if takes_value else ""
    return ", ".join(f"`{option}{value}`" for option in parameter.opts)


def _meaning(parameter: Any) -> str:
    text = re.sub(r"<\w+>[\w.]*", r"`\g<0>`", parameter.help)  # Markdown would take it for HTML
    if parameter.default in (None, False):
        return text
    return f"{text.removesuffix('.')} (default `{parameter.default}`)."


def exits() -> str:
    rows = [f"| `{code.value}` | {_MEANINGS[code]} |" for code in Exit]
    return "\n".join(["| code | meaning |", "| --- | --- |", *rows]) + "\n"


def metrics() -> str:
    return "\n".join(map(_metric, DECLARED)) + "\n"


def worker_metrics() -> str:
    return "\n".join(map(_metric, (UP, RESTARTS))) + "\n"


def cost_metrics() -> str:
    return "\n".join(map(_metric, OF_COST)) + "\n"


def warehouse_metrics() -> str:
    return "\n".join(map(_metric, OF_WAREHOUSE)) + "\n"


def _metric(declared: Declared) -> str:
    kind = _KINDS[declared.family.__name__]
    name = declared.name + ("_total" if kind == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in declared.labels)
    return _item(f"`{name}` ({kind}; {labels})", declared.help)


def tables() -> str:
    """The lake's tables of what the flows make, with their columns."""
    items = [
        _item(f"`{topic.replace('.', '_')}`, by the day of `{date}`", _columns(schema))
        for topic, (schema, date) in DOCUMENTS.items()
    ]
    return "\n".join(items) + "\n"


def lineage() -> str:
    return ", ".join(f"`{name}` {_type(kind)}" for name, kind in LINEAGE) + "\n"


def silver() -> str:
    return _models("silver")


def gold() -> str:
    return _models("gold")


def schema_history() -> str:
    """A part a source: what was accepted on which day."""
    recorded = chronicle(HOUSE / "schemas")
    parts = []
    for source in sorted({entry.source for entry in recorded}):
        entries = [entry for entry in recorded if entry.source == source]
        parts += [f"## {source}", "\n".join(map(_recorded, entries))]
    return "\n" + "\n\n".join(parts) + "\n\n"


def _recorded(entry: Recorded) -> str:
    said = "; ".join(f"`{line}`" for line in change_lines(entry, whole=True))
    return _item(f"{entry.date or 'before'}, {entry.version}", said)


def _models(layer: str) -> str:
    """The tables of a layer of the warehouse, as its YAML describes them."""
    documents = [yaml.safe_load(file.read_text("utf-8")) for file in _described(layer)]
    models = [model for document in documents for model in document["models"]]
    return "\n".join(_item(f"`{m['name']}`", m["description"].strip()) for m in models) + "\n"


def _described(layer: str) -> list[Path]:
    return sorted((WAREHOUSE / "models" / layer).glob("*.yml"))


def dbt_sources() -> str:
    return sources_yaml(bronze_tables(load_contracts(HOUSE / "schemas")).values())


def product_seed() -> str:
    file = WAREHOUSE / "seeds" / "product_catalog.json"
    return json_to_csv(
        file.read_text("utf-8"),
        name=file.name,
        as_json=("attributes",),
        renamed={"price_amount": "price", "price_currency": "currency"},
    )


def _columns(schema: Any) -> str:
    return ", ".join(f"`{field.name}` {_type(field.type)}" for field in schema) + "."


def _type(kind: object) -> str:
    text = str(kind).replace("timestamp[us, tz=UTC]", "timestamp")
    return text.replace("list<element: ", "list<").replace("list<item: ", "list<")


PARTS: Mapping[str, Callable[[], str]] = {
    "cli": cli,
    "cost_metrics": cost_metrics,
    "exits": exits,
    "gold": gold,
    "lineage": lineage,
    "metrics": metrics,
    "schema_history": schema_history,
    "silver": silver,
    "tables": tables,
    "warehouse_metrics": warehouse_metrics,
    "worker_metrics": worker_metrics,
}
FILES: Mapping[Path, Callable[[], str]] = {
    WAREHOUSE / "models" / "bronze" / "sources.yml": dbt_sources,
    WAREHOUSE / "seeds" / "product_catalog.csv": product_seed,
}


def generated(page: str) -> str:
    """The page with every part made anew."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}{part[3]}", page)


def main() -> None:
    check, outdated = "--check" in sys.argv[1:], []
    pages = {file: partial(generated, file.read_text("utf-8")) for file in DOCS.rglob("*.md")}
    for file, make in sorted({**pages, **FILES}.items()):
        old = file.read_text("utf-8") if file.exists() else ""
        new = make()
        if new != old:
            outdated.append(file)
            if not check:
                file.write_text(new, "utf-8")
    for file in outdated:
        print(f"{'not current' if check else 'wrote'}: {file.relative_to(HOUSE)}")
    if check and outdated:
        sys.exit("run `python docs/generate.py`")


if __name__ == "__main__":
    main()
