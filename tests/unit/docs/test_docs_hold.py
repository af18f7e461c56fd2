"""The documentation is complete and current: links, settings, topics, tables, metrics, reasons."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dataflows.contracts import load_contracts
from dataflows.contracts.declaration import Declaration
from dataflows.contracts.enrichment import ENRICHMENT
from dataflows.contracts.refusal import REASONS
from dataflows.flows.tables import DOCUMENTS, DeadLetterTable
from dataflows.flows.topology import topology
from dataflows.runtime.config import Config, Section, to_toml_value
from dataflows.runtime.exits import Exit
from dataflows.runtime.fates import FAILURE_REASONS

HOUSE = Path(__file__).resolve().parents[3]
DOCS = HOUSE / "docs"
PAGES = sorted([*HOUSE.glob("*.md"), *HOUSE.glob("[!.]*/README.md"), *DOCS.glob("**/*.md")])

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text("utf-8"))


def reference(name: str) -> str:
    return (DOCS / "reference" / name).read_text("utf-8")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.replace(" ", "-") for text in plain}


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in LINK.findall(prose(page)):
            if not target.startswith(("http://", "https://")):
                yield page, target


@pytest.mark.parametrize(
    ("page", "target"),
    list(links()),
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.is_relative_to(HOUSE)
    assert file.exists()
    assert not anchor or anchor in anchors(file)


def test_every_page_can_be_reached() -> None:
    reached, todo = set(), [HOUSE / "README.md", HOUSE / "CONTRIBUTING.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        files = {(page.parent / target.partition("#")[0]).resolve() for target in targets(page)}
        todo += [file for file in files if file.suffix == ".md" and file not in reached]
    assert set(PAGES) <= reached


def targets(page: Path) -> list[str]:
    return [t for t in LINK.findall(prose(page)) if not t.startswith(("http", "#"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_fit_a_screen(page: Path) -> None:
    if page.parent.name != "rules" and page.name != "faults.md":  # their tables are wide
        assert [line for line in page.read_text("utf-8").splitlines() if len(line) > 100] == []


def test_generated_parts_are_current() -> None:
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOUSE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def settings() -> Iterator[tuple[str, str, object]]:
    for field in msgspec.structs.fields(Config):
        if isinstance(field.default, Section):
            for inner in msgspec.structs.fields(type(field.default)):
                yield field.name, inner.name, to_toml_value(inner.default)
        elif field.name in ("partitions", "kafka"):  # tables of their own, empty by default
            continue
        else:
            # By default those that come with Tidegate.
            own = field.name in ("schemas", "rules", "metrics", "behaviours", "warehouse_sql")
            yield "", field.name, None if own else field.default


@pytest.mark.parametrize(("section", "key", "default"), list(settings()))
def test_every_setting_is_explained_with_its_default(
    section: str, key: str, default: object
) -> None:
    page = reference("config.md")
    part = page.partition(f"## [{section}]\n")[2] if section else page
    row = re.search(rf"^\| `{key}` \| (.*?) \| ", part.partition("\n## ")[0], re.MULTILINE)
    assert row, f"[{section}] {key} is missing"
    if default is not None:
        shown = list(default) if isinstance(default, tuple) else default
        assert row[1] == f"`{msgspec.json.encode(shown).decode().replace(',', ', ')}`"


def test_every_topic_is_explained() -> None:
    contracts = load_contracts(HOUSE / "schemas")
    page = reference("topics.md")
    rows = re.findall(r"^\| `([^`]+)` \| ", page, re.MULTILINE)
    for topic in topology(contracts, Config()).topics:
        prefix, _, rest = topic.partition(".")
        assert topic in rows or (rest in contracts and f"{prefix}.<source>" in rows), topic


def test_every_reason_and_every_header_is_explained() -> None:
    page = reference("topics.md")
    assert set(REASONS) <= set(FAILURE_REASONS)
    headers = set()
    for module in ("ingest", "dead_letters"):
        source = (HOUSE / "dataflows" / "flows" / f"{module}.py").read_text("utf-8")
        headers |= set(re.findall(r'"((?:dlq|late)-[a-z]+)"', source))
    assert len(headers) >= 8
    for name in (*FAILURE_REASONS, *headers, "tidegate-heartbeat"):
        assert f"`{name}`" in page, name


def test_every_table_and_column_is_explained() -> None:
    page = reference("lake.md")
    columns = {field.name for schema, _ in DOCUMENTS.values() for field in schema}
    tables = {topic.replace(".", "_") for topic in DOCUMENTS} | {DeadLetterTable.name}
    for name in columns | tables:
        assert f"`{name}`" in page, name


def test_every_key_of_a_contract_is_explained() -> None:
    page = reference("contracts.md")
    for name in (*Declaration.__struct_fields__, *ENRICHMENT, "drop", "hash", "mask"):
        assert f"`{name}`" in page, name


def test_every_exit_code_is_explained() -> None:
    assert re.findall(r"^\| `(\d+)` \|", reference("cli.md"), re.MULTILINE) == [
        str(code.value) for code in Exit
    ]


def test_refusals_are_quoted_as_they_are() -> None:
    files = (f for d in ("dataflows", "services") for f in (HOUSE / d).glob("**/*.py"))
    code = re.sub(r'"\n\s*f?"', "", "\n".join(f.read_text("utf-8") for f in files))
    said_by_others = {"unknown field", "Address already in use"}
    page = (DOCS / "how-to" / "operate.md").read_text("utf-8")
    rows = page.partition("| the line says |")[2].partition("\n\n")[0]
    quoted = [q for row in rows.splitlines() for q in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(quoted) > 12
    for fragment in (f.strip() for q in quoted for f in re.split(r"\bN\b", q)):
        assert fragment in code or fragment in said_by_others, fragment


def test_every_decision_is_listed() -> None:
    index = (DOCS / "decisions" / "README.md").read_text("utf-8")
    for file in DOCS.glob("decisions/0*.md"):
        number = file.name[:4]
        assert f"[{number}]({file.name})" in index
        assert file.read_text("utf-8").startswith(f"# {int(number)}. ")


def test_readme_has_a_place_for_the_benchmarks_and_the_test_command() -> None:
    page = (HOUSE / "README.md").read_text("utf-8")
    assert page.count("<!-- bench:start -->") == page.count("<!-- bench:end -->") == 1
    assert "```sh\nmake test\n```" in page
