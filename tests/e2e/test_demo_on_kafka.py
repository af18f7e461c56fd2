"""The demo on a Kafka of its own: what comes out is what comes out of the embedded log."""

from __future__ import annotations

import shlex
import subprocess
from collections import Counter
from pathlib import Path

import kafka_broker
import pytest
from places import SMALL_DEMO, Demonstrated, demo

from services.report.lake import Lake

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

# Where a record was and when it arrived differ between two runs. So may what ingest had seen of a
# customer when a payment came, which rules ask for: such payments are left out, and few.
LINEAGE = "_topic, _partition, _offset"
TABLES = {
    "sessions": LINEAGE,
    "scores": LINEAGE,
    "alerts": f"{LINEAGE}, arrived_at",
    "reprocess_requests": LINEAGE,
}
OF_A_PAYMENT = ("scores", "alerts")
MAY_DIFFER = 0.05  # share of payments
CUSTOMERS = "SELECT transaction_id, to_json(customer)::VARCHAR FROM transactions"


@pytest.mark.timeout(600)
def test_the_demo_ends_with_the_same_sessions_scores_and_alerts(
    demonstrated: Demonstrated, tmp_path: Path
) -> None:
    kafka_broker.require_kafka()
    done = demo(tmp_path, *SMALL_DEMO, "--bus", "kafka")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "It adds up" in done.stdout
    try_what_it_says(done.stdout)
    lakes = [Lake(where / "demo" / "lake") for where in (demonstrated.directory, tmp_path)]
    customers = [dict(lake.rows(CUSTOMERS)) for lake in lakes]
    assert customers[0].keys() == customers[1].keys()
    differ = {payment for payment, seen in customers[0].items() if customers[1][payment] != seen}
    assert len(differ) < MAY_DIFFER * len(customers[0])
    for table, ignored in TABLES.items():
        payment = "transaction_id" if table in OF_A_PAYMENT else "NULL"
        rows = (
            f"SELECT {payment}, to_json(compared)::VARCHAR FROM "
            f"(SELECT * EXCLUDE ({ignored}) FROM {table}) compared"
        )
        on_embedded, on_kafka = (
            Counter(row for payment, row in lake.rows(rows) if payment not in differ)
            for lake in lakes
        )
        assert on_embedded, table
        assert not on_embedded - on_kafka, table
        assert not on_kafka - on_embedded, table


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
