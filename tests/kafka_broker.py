"""A real Kafka for tests; where none can be had they skip and say why, in CI they fail.

TIDEGATE_TEST_KAFKA=host:port takes a broker that runs already, for tests that share one.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from services.broker.jars import NoBroker, kafka_jars

GIVEN = "TIDEGATE_TEST_KAFKA"
# For clients of tests: one that outlives its broker would speak to the standard error of others.
QUIET: dict[str, str | int | float | bool] = {"log_level": 0}
# Brokers of tests live for seconds: compiling them well takes half their processor time.
FAST_START = "-XX:TieredStopAtLevel=1"


def require_kafka() -> None:
    """Skips the test where Kafka cannot be started."""
    try:
        kafka_jars()
    except NoBroker as error:
        give_up(str(error))


def give_up(why: str) -> NoReturn:
    """Skips, and shows why; where the tests must be complete, fails."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"CI runs every test: {why}")
    pytest.skip(why)
