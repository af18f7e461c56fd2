"""A small month, simulated once."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulated import Seen, records, small

from dataflows.contracts import Contract, load_contracts
from services.simulator.simulate import Simulation, simulate


@pytest.fixture(scope="session")
def contracts() -> dict[str, Contract]:
    return load_contracts(Path(__file__).parents[3] / "schemas")


@pytest.fixture(scope="session")
def month() -> Simulation:
    return simulate(small())


@pytest.fixture(scope="session")
def seen(month: Simulation) -> list[Seen]:
    return list(records(month))
