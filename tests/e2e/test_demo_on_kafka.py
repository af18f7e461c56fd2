"""The demo on a Kafka of its own: what comes out is what comes out of the embedded log."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import kafka_broker
import pytest
from places import demo

from services.report.lake import Lake

pytestmark = pytest.mark.kafka

# Where a record was and when it arrived differ between two runs; nothing else may.
LINEAGE = "_topic, _partition, _offset"
TABLES = {
    "sessions": LINEAGE,
    "scores": LINEAGE,
    "alerts": f"{LINEAGE}, arrived_at",
    "reprocess_requests": LINEAGE,
}
SMALL = ("--days", "3", "--events", "12000")


@pytest.mark.timeout(600)
def test_the_demo_ends_with_the_same_sessions_scores_and_alerts(tmp_path: Path) -> None:
    kafka_broker.require_kafka()
    said = {}
    for bus in ("embedded", "kafka"):
        done = demo(tmp_path / bus, *SMALL, "--bus", bus)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "It adds up" in done.stdout
        said[bus] = done.stdout
    try_what_it_says(said["kafka"])
    on_embedded, on_kafka = (rows_of(tmp_path / bus / "demo" / "lake") for bus in said)
    for table, rows in on_embedded.items():
        assert rows, table
        assert rows == on_kafka[table], table


def try_what_it_says(said: str) -> None:
    """The broker's command and the three to try next, as printed."""
    lines = [line.strip("(): ") for line in said.splitlines()]
    broker = next(line for line in lines if "tidegate broker " in line)
    url = "kafka://127.0.0.1:" + broker.split()[-1]
    commands = [line for line in lines if line.startswith(f"TIDEGATE_BUS={url} ")]
    assert len(commands) == 3
    running = subprocess.Popen(shlex.split(broker), stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        assert running.stderr.readline().startswith(f"{url} is ready")
        for command in commands:
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert done.stdout, command
    finally:
        running.terminate()
    assert running.wait(60) == 0


def rows_of(directory: Path) -> dict[str, list[str]]:
    lake = Lake(directory)
    return {
        table: sorted(
            row
            for (row,) in lake.rows(
                f"SELECT to_json(compared)::VARCHAR FROM "
                f"(SELECT * EXCLUDE ({ignored}) FROM {table}) compared"
            )
        )
        for table, ignored in TABLES.items()
    }
