"""Every command in the documentation can be typed as it stands, and says what the page says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from typer.exceptions import TyperException

from dataflows.detection.rules import parse_rule
from services.cli import app

HOUSE = Path(__file__).resolve().parents[3]
PAGES = sorted([*HOUSE.glob("*.md"), *HOUSE.glob("docs/**/*.md"), *HOUSE.glob("rules/*.md")])

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:\.venv/bin/)?tidegate\s[^`]+)`(?!`)")
HERE_DOCUMENT = re.compile(r"cat > (\S+) <<'END'\n(.*?)^END$", re.MULTILINE | re.DOTALL)


class Shell(NamedTuple):
    """A block of commands, and the block behind it that shows what they print."""

    page: str
    commands: str
    output: str


def blocks() -> Iterator[Shell]:
    for page in PAGES:
        found = BLOCK.findall(page.read_text("utf-8"))
        for (kind, commands), (next_kind, text) in pairwise([*found, ("", "")]):
            if kind == "sh":
                yield Shell(page.name, commands, text if next_kind == "text" else "")


def invocations(commands: str) -> Iterator[list[str]]:
    """The words behind each `tidegate`, up to the end of its command."""
    text = HERE_DOCUMENT.sub("", commands).replace("\\\n", " ") + "\n"
    words = shlex.shlex(text, posix=True, punctuation_chars="|&;<>()\n")
    words.whitespace, words.whitespace_split = " \t", True
    found: list[str] | None = None
    for word in words:
        if set(word) <= set("|&;<>()\n"):
            if found is not None:
                yield found
            found = None
        elif found is not None:
            found.append(word)
        elif word.rpartition("/")[2] == "tidegate":
            found = []


SHELLS = list(blocks())
TYPED = sorted({(s.page, shlex.join(i)) for s in SHELLS for i in invocations(s.commands)})
MENTIONED = sorted(
    {
        (page.name, " ".join(text.split()))
        for page in PAGES
        for text in INLINE.findall(page.read_text("utf-8"))
        if " COMMAND " not in text
    }
)


def parse(words: list[str]) -> None:
    """Raises TyperException unless the command and its options are there."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        while words and words[0].startswith("-"):
            assert words[0] in {o for p in command.params for o in p.opts}, words[0]
            words = words[2:]
        if not words:
            return
        assert words[0] in command.commands, f"{words[0]} is no command"
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, words)


def test_there_are_commands_to_check() -> None:
    assert len(TYPED) > 20
    assert len(MENTIONED) > 20


@pytest.mark.parametrize(("page", "line"), TYPED)
def test_a_command_in_a_block_parses(page: str, line: str) -> None:
    parse(shlex.split(line))


@pytest.mark.parametrize(("page", "line"), MENTIONED)
def test_a_command_in_a_sentence_exists(page: str, line: str) -> None:
    (words,) = invocations(line)
    try:
        parse(words)
    except TyperException as error:
        if type(error).__name__ != "MissingParameter":  # a sentence may leave arguments out
            raise


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (HOUSE / "Makefile").read_text(), re.MULTILINE))
    code = re.findall(r"`(make [a-z-]+)", page.read_text("utf-8")) + [
        line for s in SHELLS if s.page == page.name for line in s.commands.splitlines()
    ]
    named = {match[1] for line in code if (match := re.match(r"make ([a-z-]+)", line))}
    assert named <= targets


def quick(words: list[str]) -> bool:
    """Commands that need neither slots nor a demo."""
    return words[:1] == ["contracts"] or "publish" in words[:3]


@pytest.mark.parametrize("page", ["own-data.md", "new-source.md"])
def test_quick_commands_print_what_the_page_shows(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    schemas = tmp_path / "schemas"
    schemas.symlink_to(HOUSE / "schemas") if page == "own-data.md" else schemas.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIDEGATE_SCHEMAS", str(schemas))
    compared = 0
    for shell in SHELLS:
        commands = list(invocations(shell.commands))
        if shell.page != page:
            continue
        write_files(shell.commands, tmp_path)
        if not commands or not all(map(quick, commands)):
            continue
        for words in commands:
            app(words, standalone_mode=False)
        assert capsys.readouterr().out.replace(str(tmp_path), "...") == shell.output
        compared += 1
    assert compared >= 2


def write_files(commands: str, directory: Path) -> None:
    for name, text in HERE_DOCUMENT.findall(commands):
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    for old, new, name in re.findall(r"sed -i 's/(.*?)/(.*?)/' \\\n +(\S+)", commands):
        file = directory / name
        plain = re.sub(r"\\(.)", r"\1", old)
        assert plain in file.read_text("utf-8")
        file.write_text(file.read_text("utf-8").replace(plain, new), "utf-8")


RULES = [
    (shell.page, text)
    for shell in SHELLS
    for name, text in HERE_DOCUMENT.findall(shell.commands)
    if name.startswith("rules/")
]


@pytest.mark.parametrize(("page", "text"), RULES, ids=[page for page, _ in RULES])
def test_a_rule_on_a_page_is_a_rule(page: str, text: str) -> None:
    assert parse_rule(text, page).rule.examples.fires


def test_there_are_rules_on_pages() -> None:
    assert len(RULES) >= 2
