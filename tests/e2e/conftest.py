"""Places in which Tidegate is used as its users do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from places import SMALL_DEMO, Demonstrated, Place, demo, made_once

from services.demo.demo import MARKER_FILE


@pytest.fixture(scope="session")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Demonstrated:
    with made_once(tmp_path_factory, "demonstrated") as (directory, is_new):
        said = directory / "said"
        if is_new:
            stale = directory / "demo" / "lake"  # what an earlier demo has left
            stale.mkdir(parents=True)
            (directory / "demo" / MARKER_FILE).touch()
            (stale / "stale").touch()
            done = demo(directory, *SMALL_DEMO)
            assert done.returncode == 0, done.stdout + done.stderr
            said.write_text(done.stdout)
    return Demonstrated(directory, said.read_text())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An empty working directory; whatever was started in it has ended afterwards."""
    directory = tmp_path / "a shop's häuschen"
    directory.mkdir()
    made = Place(directory)
    yield made
    made.clean_up()
