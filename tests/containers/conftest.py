"""The image, built from the Dockerfile once a session.

TIDEGATE_TEST_IMAGE=name takes one that is there already instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from engine import HOUSE, Engine, find_engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    return find_engine()


@pytest.fixture(scope="session")
def image(engine: Engine) -> Iterator[str]:
    """Its name; a user's own image stays what it is."""
    if given := os.environ.get("TIDEGATE_TEST_IMAGE"):
        yield given
        return
    name = f"localhost/tidegate-under-test:{os.getpid()}"
    engine.build(HOUSE, name)
    yield name
    engine.run("rmi", "--force", name)
