"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[1]

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real inputs beside the checkout; a clone without them skips, and -ra shows it."""
    directory = HOUSE.parent / "shared" / "data"
    if not directory.is_dir():
        pytest.skip(f"needs the real inputs in {directory.parent.name}/data beside the checkout")
    return directory


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=100, help="kills of the long series (faults)")
    parser.addoption("--seed", type=int, default=1, help="its first seed")
