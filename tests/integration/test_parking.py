"""An idle slot is drained and costs next to nothing; it wakes when records come, nothing lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flow_bench import Bench

from dataflows.connectors.log import Fenced
from dataflows.flows.opening import builder
from dataflows.runtime.slot import Slot, run_slot


def visit(number: int) -> bytes:
    return json.dumps(
        {"user_id": f"u{number % 3}", "event_timestamp": 1_780_000_000_000 + number * 660_000}
    ).encode()


def parked_after(slot: Slot, offset: int) -> bool:
    return slot.stats.next_offset == offset and slot.parked_at is not None


def wait_until(true: Callable[[], object]) -> None:
    give_up = time.monotonic() + 20
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_a_slot_parks_and_wakes_many_times_as_if_it_had_never_slept(
    bench: Any, tmp_path: Path
) -> None:
    parking = bench(
        data_dir=str(tmp_path / "parking"), slots__park_after="1ms", slots__poll_idle="5ms"
    )
    slot: Slot = parking.shop.slots("sessionize")[0]
    thread = threading.Thread(target=run_slot, args=(slot, builder(parking.shop, "sessionize")))
    thread.start()
    for number in range(30):
        parking.publish("events.clickstream", [visit(number)])
        wait_until(partial(parked_after, slot, number + 1))
    slot.stop.set()
    thread.join()
    assert slot.stats.stopped

    awake = bench(data_dir=str(tmp_path / "awake"))
    awake.publish("events.clickstream", [visit(number) for number in range(30)])
    awake.run("sessionize")
    sessions = [record.value for record in parking.records("sessions")]
    assert sessions == [record.value for record in awake.records("sessions")]
    assert sessions


def test_a_slot_that_was_taken_over_while_it_slept_leaves_when_it_wakes(tmp_path: Path) -> None:
    bus = f"sqlite:///{tmp_path}/log.db"
    parking = {"slots.park_after": "1ms", "slots.poll_idle": "5ms"}
    here = Bench(tmp_path / "here", bus=bus, **parking)
    elsewhere = Bench(tmp_path / "elsewhere", bus=bus)
    slot: Slot = here.shop.slots("sessionize")[0]
    with ThreadPoolExecutor() as pool:
        sleeping = pool.submit(run_slot, slot, builder(here.shop, "sessionize"))
        here.publish("events.clickstream", [visit(0)])
        wait_until(partial(parked_after, slot, 1))
        elsewhere.run("sessionize")
        here.publish("events.clickstream", [visit(1)])
        try:
            with pytest.raises(Fenced, match="another process has taken it over"):
                sleeping.result(20)
        finally:
            slot.stop.set()
    assert here.log.markers()[slot.name].next_offset == 1
    elsewhere.run("sessionize")
    assert here.log.markers()[slot.name].next_offset == 2
    for bench in (here, elsewhere):
        bench.log.close()
