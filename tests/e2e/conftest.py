"""Places in which Tidegate is used as its users do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from places import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An empty working directory; whatever was started in it has ended afterwards."""
    directory = tmp_path / "a shop's häuschen"
    directory.mkdir()
    made = Place(directory)
    yield made
    made.clean_up()
