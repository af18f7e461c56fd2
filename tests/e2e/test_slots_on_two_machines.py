"""Slots of a flow on two machines, and one that moves: a data directory each, one Kafka."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from places import CONFIG, Place, wait_until

from dataflows.runtime.exits import Exit
from services.broker.broker import Broker
from services.status.peek import peek_records

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

FLOWS = ("ingest", "sessionize")
BEGIN = datetime(2026, 5, 1, 8, tzinfo=UTC)
USERS, VISITS = 30, 4


@pytest.fixture
def machines(tmp_path: Path, broker: Broker) -> Iterator[tuple[Place, Place]]:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        # Never parked: a slot that wakes takes itself back from whoever has it by then.
        awake = CONFIG.replace("[slots]", '[slots]\npark_after = "1h"')
        made.append(Place(tmp_path / name, f'bus = "{broker.url}"\n{awake}'))
    yield made[0], made[1]
    for place in made:
        place.clean_up()


def clicks(directory: Path, half: int) -> Path:
    """Half of everybody's visits, 50 minutes apart, in each a few clicks."""
    lines = []
    for visit in range(half * VISITS // 2, (half + 1) * VISITS // 2):
        for user in range(USERS):
            for click in range(3):
                at = BEGIN + timedelta(minutes=50 * visit + 4 * click, seconds=user)
                event = {
                    "event_id": f"{user}-{visit}-{click}",
                    "event_type": "page_view",
                    "user_id": f"u{user}",
                    "event_timestamp": at.isoformat(),
                }
                lines.append(json.dumps(event))
    file = directory / f"half{half}.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def visits(place: Place) -> Counter[str]:
    """How many sessions of each user were published: each once, with its three clicks."""
    shop = place.open()
    found = [json.loads(r.value or b"") for r in peek_records(shop.log, "sessions", None, 0, 2**40)]
    shop.log.close()
    assert {(s["event_count"], s["revision"]) for s in found} == {(3, 1)}
    assert len({s["session_id"] for s in found}) == len(found)
    return Counter(s["user_id"] for s in found)


@pytest.mark.timeout(600)
def test_a_slot_moves_to_another_machine_and_nothing_is_lost_or_repeated(
    machines: tuple[Place, Place], tmp_path: Path
) -> None:
    a, b = machines
    first, second = (clicks(tmp_path, half) for half in range(2))
    on_a = a.start(
        *("run", "ingest", "sessionize", "--name", "a"),
        *("--slot", "raw.clickstream/0", "--slot", "raw.clickstream/1"),
        *("--slot", "events.clickstream/0"),
    )
    on_b = b.start(*("run", "sessionize", "--slot", "events.clickstream/1"))
    assert a.tidegate("publish", "clickstream", first, "--order", "time").returncode == 0
    a.wait_until_drained(*FLOWS)
    assert owners(b) == {0: on_a.process.pid, 1: on_b.process.pid}
    assert sum(visits(a).values()) >= USERS

    # Moved: stopped there, run here; its state is rebuilt from the log.
    assert on_b.stop() == 0
    moved = a.start(*("run", "sessionize", "--slot", "events.clickstream/1", "--name", "moved"))
    # Taken over while the other still runs: that one ends when it would publish again.
    taken = b.start(*("run", "sessionize", "--slot", "events.clickstream/0", "--name", "taken"))
    wait_until(lambda: running(a, "moved") and running(b, "taken"), "both to run")
    publishing = a.tidegate("publish", "clickstream", second, "--order", "time", "--complete")
    assert publishing.returncode == 0, publishing.stderr
    assert on_a.process.wait(60) == Exit.REFUSED
    assert "sessionize.events.clickstream.0: another process has taken it over" in on_a.stderr
    ingest = a.start("run", "ingest")
    a.wait_until_drained(*FLOWS)
    assert owners(b) == {0: taken.process.pid, 1: moved.process.pid}
    for each in (moved, taken, ingest):
        assert each.stop() == 0, each.stderr

    assert visits(a) == Counter({f"u{user}": VISITS for user in range(USERS)})


def owners(place: Place) -> dict[int, int]:
    """The process that published last for each slot of sessionize."""
    status = json.loads(place.tidegate("status", "sessionize", "--json").stdout)
    return {s["partition"]: int(s["published_by"].rpartition("/")[2]) for s in status["slots"]}


def running(place: Place, worker: str) -> bool:
    return (place.data / "run" / f"{worker}.json").exists()
