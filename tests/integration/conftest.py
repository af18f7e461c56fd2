"""Flows in this process, on an embedded log of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flow_bench import Bench
from past import Past


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes a bench, or opens it again; overrides are dotted configuration keys, with __ for the
    dot."""
    made: list[Bench] = []

    def make(clock: Callable[[], int] | None = None, **overrides: object) -> Bench:
        dotted = {key.replace("__", "."): value for key, value in overrides.items()}
        made.append(Bench(tmp_path / "data", clock, **dotted))
        return made[-1]

    yield make
    for each in made:
        each.log.close()


@pytest.fixture(scope="session")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    made = Past(tmp_path_factory.mktemp("past") / "data")
    yield made
    made.bench.log.close()
