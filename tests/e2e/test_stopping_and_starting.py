"""A service that is told to stop drains; whatever ends it otherwise, the next start goes on."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime

import pytest
from places import CONFIG, EVENTS, Place, alive, wait_until

from services.status.peek import Record, peek_records

pytestmark = pytest.mark.slow


def outputs(place: Place) -> dict[str, list[Record]]:
    """Every record that a flow has published."""
    shop = place.open()
    found = {
        topic: list(peek_records(shop.log, topic, None, None, 2**40))
        for topic in shop.topology.topics
        if not topic.startswith("raw.")
    }
    shop.log.close()
    return found


def forget_what_was_read(place: Place) -> None:
    """Retention removes every record: a slot that wanted one again would refuse to start."""
    shop = place.open()
    shop.log.apply_retention(2**61, dict.fromkeys(shop.topology.topics, 1.0))
    shop.log.close()


def test_sigterm_and_ctrl_c_drain_and_the_next_start_replays_nothing(place: Place) -> None:
    service = place.up()
    assert place.tidegate(*EVENTS).returncode == 0
    place.wait_until_drained()
    published = outputs(place)
    assert published["sessions"]
    assert service.stop() == 0
    assert service.stderr.endswith("stopped cleanly\n")
    assert outputs(place) == published

    forget_what_was_read(place)
    again = place.up()
    assert again.press_ctrl_c() == 0
    assert again.stderr.endswith("stopped cleanly\n")
    assert not any(outputs(place).values())
    assert not any(status.lag_records for status in place.statuses())


def test_a_killed_worker_is_restarted_and_a_killed_supervisor_leaves_no_orphans(
    place: Place,
) -> None:
    service = place.up()
    (worker,) = service.children()
    os.kill(worker, signal.SIGKILL)
    service.wait_for("worker light ended with exit code -9")
    assert "restart in 0.0 s" in service.stderr
    wait_until(lambda: announced(place) not in (None, worker), "a new worker")
    (worker,) = service.children()
    assert announced(place) == worker

    service.process.kill()
    wait_until(lambda: not alive(worker), "the orphan to stop by itself")
    assert place.tidegate(*EVENTS).returncode == 0
    again = place.up()
    place.wait_until_drained()
    assert not any(status.difference for status in place.statuses())
    assert again.stop() == 0


def announced(place: Place) -> int | None:
    """The pid that the worker has told."""
    file = place.data / "run" / "light.json"
    return int(json.loads(file.read_bytes())["pid"]) if file.exists() else None


def test_a_foreign_folder_called_services_and_a_proxy_do_not_matter(place: Place) -> None:
    trap = place.directory / "services"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('not ours')")
    service = place.up(http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
    assert service.stop() == 0


def test_time_passes_without_traffic_and_a_session_closes_by_itself(place: Place) -> None:
    place.config_file.write_text(
        CONFIG.replace('heartbeat_after = "1d"', 'heartbeat_after = "100ms"')
        + '[event_time]\ngap = "500ms"\nbound = "100ms"\n'
    )
    event = {"event_id": "e", "event_type": "page_view", "user_id": "u"}
    event["event_timestamp"] = datetime.now(UTC).isoformat()
    done = place.tidegate("publish", "clickstream", "-", stdin=json.dumps(event).encode())
    assert done.returncode == 0, done.stderr
    service = place.up()
    shop = place.open()
    wait_until(lambda: bool(shop.log.topics()["sessions"].records), "the session to close", 0.1)
    shop.log.close()
    assert service.stop() == 0
