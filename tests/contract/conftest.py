"""The logs that the contract suite runs against.

A new log adds a fixture that yields its Backend, and its name to BACKENDS. Nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dataflows.connectors.log import Log, open_log

BACKENDS = ("embedded",)


@dataclass
class Backend:
    """A running log. It may hold topics and slots of other tests: names are made here."""

    url: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def name(self, what: str) -> str:
        """A topic or slot that nobody else uses."""
        return f"{what}.{next(self._numbers)}"


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(f"{request.param}_backend")
    return found


@pytest.fixture
def embedded_backend(tmp_path: Path) -> Backend:
    return Backend(f"sqlite:///{tmp_path / 'log.db'}")


@pytest.fixture
def log(backend: Backend) -> Iterator[Log]:
    opened = open_log(backend.url)
    yield opened
    opened.close()
