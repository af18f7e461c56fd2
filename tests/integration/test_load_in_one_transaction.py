"""What waits for a file of the lake is committed at once."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
from flow_bench import Bench

from dataflows.connectors.lake import lake_files


def test_batches_that_wait_for_a_file_are_one_transaction(bench: Any) -> None:
    made: Bench = bench(
        slots__batch_records=10, slots__snapshot_interval="60s", lake__file_records=35
    )
    events = [
        json.dumps(
            {
                "event_id": f"e{number}",
                "event_type": "page_view",
                "user_id": "u",
                "event_timestamp": 1_780_000_000_000 + number,
            }
        ).encode()
        for number in range(97)
    ]
    events[3] = events[61] = b"{"
    for start in range(0, len(events), 10):
        made.publish("events.clickstream", list(events[start : start + 10]))
    made.run("load", topic="events.clickstream")

    marker = made.log.markers()["load.events.clickstream.0"]
    assert (marker.next_offset, marker.first_offset) == (97, 0)
    assert marker.seq == 3  # after 40 records, after 80, and at the end
    (day,) = marker.counts.values()
    assert day["good"] == 95
    assert sum(day.values()) == 97
    assert [record.value for record in made.records("dlq.load")] == [b"{"] * 2
    files = lake_files(made.shop.config.lake_path, "clickstream")
    assert sum(pq.read_metadata(file).num_rows for file in files) == 95
