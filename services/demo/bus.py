"""The log that a demo runs on: the embedded one, or a Kafka started for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from services.broker.broker import Broker

ENVIRONMENT = "TIDEGATE_BUS"


class Bus(StrEnum):
    """Kinds of logs that a demo can have to itself."""

    EMBEDDED = "embedded"
    KAFKA = "kafka"


@contextmanager
def own_bus(kind: Bus, directory: Path) -> Iterator[str]:
    """The URL of a log in `directory`, which the workers of this process are told, too.

    Raises:
        NoBroker: a Kafka cannot be had here.
        TidegateError: it does not start.
    """
    broker = Broker(directory / "kafka") if kind is Bus.KAFKA else None
    url = broker.url if broker else f"sqlite:///{directory / 'log.db'}"
    os.environ[ENVIRONMENT] = url
    try:
        yield url
    finally:
        if broker:
            broker.stop()
