"""Commands in this process: the same `main`, without the start of an interpreter for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from services.cli import app, main


class Outcome(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs commands in a directory."""

    def __init__(
        self,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ):
        self.directory = directory
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *arguments: str | Path) -> Outcome:
        self._monkeypatch.chdir(self.directory)
        self._monkeypatch.setattr(sys, "argv", ["tidegate", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capfd.readouterr()
        return Outcome(int(ended.value.code or 0), out, err)


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command by its words, groups and the bare `tidegate` included."""

    def walk(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield words, command
        for name, below in getattr(command, "commands", {}).items():
            yield from walk((*words, name), below)

    yield from walk((), typer.main.get_command(app))
