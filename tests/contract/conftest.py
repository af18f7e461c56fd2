"""The logs that the contract suite runs against.

A new log adds a fixture that yields its Backend, and its name to BACKENDS. Nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from log_backends import Backend, KafkaBackend

from dataflows.connectors.log import Log, open_log

BACKENDS = ("embedded", pytest.param("kafka", marks=pytest.mark.kafka))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(f"{request.param}_backend")
    return found


@pytest.fixture
def embedded_backend(tmp_path: Path) -> Backend:
    return Backend(f"sqlite:///{tmp_path / 'log.db'}")


@pytest.fixture(scope="session")
def kafka_backend(kafka_url: str) -> Backend:
    return KafkaBackend(kafka_url)


@pytest.fixture
def log(backend: Backend) -> Iterator[Log]:
    opened = open_log(backend.url)
    yield opened
    opened.close()
