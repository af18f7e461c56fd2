"""A peer and Tidegate answer the same small question, on a broker, in a locked environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka_broker import require_kafka

from benchmarks.peers.report import CELLS, read_results, run_suite
from benchmarks.peers.systems import SYSTEMS

pytestmark = [pytest.mark.bench, pytest.mark.kafka]


@pytest.mark.parametrize("name", ["tidegate", "stock_bytewax", "kafka_streams"])
def test_sessions_are_right_and_measured(name: str, tmp_path: Path) -> None:
    require_kafka()
    file = tmp_path / "peers.json"
    run_suite([(SYSTEMS[name], CELLS[0])], file, scale=0.01, events=3_000)
    (result,) = read_results(file).runs
    assert not result.failed
    assert result.error == 0
    assert result.events == 3_000
    assert result.rate > 0
    assert result.rss_mb > 0
