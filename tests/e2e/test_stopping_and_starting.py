"""A service that is told to stop drains; whatever ends it otherwise, the next start goes on."""

from __future__ import annotations

import signal

import pytest
from places import Place

from services.status.peek import Record, peek_records

EVENTS = ("simulate", "--events", "3000", "--days", "3", "--customers", "30")


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_drains_and_the_next_start_replays_nothing(
    number: signal.Signals, place: Place
) -> None:
    service = place.up()
    assert place.tidegate(*EVENTS).returncode == 0
    place.wait_until_drained()
    published = outputs(place)
    assert published["sessions"]
    assert service.stop(number) == 0
    assert service.stderr.endswith("stopped cleanly\n")
    assert outputs(place) == published

    forget_what_was_read(place)
    again = place.up()
    assert again.stop(number) == 0
    assert not any(outputs(place).values())
    assert not any(status.lag_records for status in place.statuses())
