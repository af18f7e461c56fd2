"""Events a day late and shuffled: whatever order they come in, the same sessions (embedded log)."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults_table import Figures
from flow_bench import Bench

from dataflows.connectors.records import heartbeat_headers, published

START = datetime(2026, 3, 2, tzinfo=UTC)
EVENTS, SHUFFLED, LATE_EVENTS = 3_000, 0.3, 0.1
EVERY = timedelta(minutes=1)
Session = tuple[str, str, str, int, str]


def clicks(seed: int) -> list[bytes]:
    dice = random.Random(seed)
    kinds = ("page_view", "product_view", "add_to_cart", "checkout_start", "purchase")
    return [
        json.dumps(
            {
                "event_id": f"e{number}",
                "event_type": dice.choice(kinds),
                "user_id": f"u{dice.randrange(25)}",
                "event_timestamp": (START + number * EVERY).isoformat(),
            }
        ).encode()
        for number in range(EVENTS)
    ]


def disordered(events: list[bytes], seed: int) -> list[bytes]:
    """30 % shuffled within 24 hours of event time, some of these by a whole day."""
    dice = random.Random(seed)
    day = timedelta(days=1) / EVERY
    places = [
        number
        + (day if (chance := dice.random()) < LATE_EVENTS else 0.0)
        + (dice.uniform(0.0, day) if LATE_EVENTS <= chance < SHUFFLED else 0.0)
        for number in range(len(events))
    ]
    return [events[number] for number in sorted(range(len(events)), key=places.__getitem__)]


def sessions(directory: Path, events: list[bytes]) -> Counter[Session]:
    bench = Bench(directory, partitions={"clickstream": 1}, **{"event_time.lateness": "25h"})
    keys: list[bytes | None] = [None] * len(events)
    bench.log.append([published("raw.clickstream", keys, list(events), partition=0)])
    final = published("raw.clickstream", [None], [None], [heartbeat_headers(2**62)], partition=0)
    bench.log.append([final])
    bench.run("ingest", topic="raw.clickstream")
    bench.run("sessionize")
    last = {}
    for record in bench.records("sessions"):
        revision = json.loads(record.value or b"")
        last[revision["session_id"]] = revision
    bench.log.close()
    names = ("user_id", "started_at", "ended_at", "event_count", "funnel_stage")
    return Counter(tuple(s[name] for name in names) for s in last.values() if s["event_count"])


def permutations(count: int, seed: int, directory: Path) -> int:
    events = clicks(seed)
    expected = sessions(directory / "in order", events)
    assert sum(session[3] for session in expected) == EVENTS
    for number in range(count):
        found = sessions(directory / str(number), disordered(events, seed + number))
        assert found == expected, f"order {number}"
    return len(expected)


@pytest.mark.survives(20)
def test_three_orders(tmp_path: Path, figures: Figures) -> None:
    figures.add(orders=3, sessions=permutations(3, figures.seed, tmp_path))


@pytest.mark.faults
@pytest.mark.survives(20)
@pytest.mark.timeout(1200)
def test_twenty_orders(tmp_path: Path, figures: Figures) -> None:
    figures.add(orders=20, sessions=permutations(20, figures.seed + 1, tmp_path))
