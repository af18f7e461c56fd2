"""Restarts with backoff, and heartbeats while nobody writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from flow_bench import Bench

from dataflows.connectors.log import LogUnreachable
from dataflows.connectors.records import END_OF_TIME_US, heartbeat, heartbeat_time
from dataflows.durations import Duration
from dataflows.runtime.config import Service
from services.supervisor.groups import Group, group_flows
from services.supervisor.heartbeats import HeartbeatWriter
from services.supervisor.supervise import Worker, WorkersFailed

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND_US = 1_000_000


class Clock:
    """Stands in for the time module."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("supervise", "heartbeats"):
        monkeypatch.setattr(f"services.supervisor.{module}.time", clock)
    return clock


# --- restarts ------------------------------------------------------------------------------------


def worker(directory: Path, *command: str) -> Worker:
    settings = Service(
        restart_backoff=Duration.parse("100ms"),
        restart_backoff_max=Duration.parse("300ms"),
        crash_loop_restarts=4,
        crash_loop_window=Duration.parse("1m"),
    )
    (directory / "w.log").touch()
    return Worker(Group("w", ("ingest",)), command, directory / "w.log", settings)


def test_backoff_grows_to_its_bound_and_a_crash_loop_ends_it(tmp_path: Path, clock: Clock) -> None:
    crashing = worker(tmp_path)
    for longest in (0.1, 0.2, 0.3, 0.3):
        assert longest / 2 <= crashing.plan_restart(70) <= longest
        clock.now += 1
    with pytest.raises(WorkersFailed, match=r"worker w crashed 5 times in 60 s.* 70.*w\.log") as e:
        crashing.plan_restart(70)
    assert e.value.code == 70


def test_crashes_of_long_ago_do_not_count(tmp_path: Path, clock: Clock) -> None:
    crashing = worker(tmp_path)
    for _ in range(20):
        assert crashing.plan_restart(-9) <= 0.1
        clock.now += 61
    assert crashing.restarts == 20


def test_a_worker_that_refuses_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(WorkersFailed, match="worker w refused to start: it said nothing") as e:
        worker(tmp_path).plan_restart(78)
    assert e.value.code == 78


def test_only_what_the_process_itself_said_is_told(tmp_path: Path) -> None:
    say = "import os, sys; print(os.environ.get('WORD', ''), file=sys.stderr)"
    talking = worker(tmp_path, sys.executable, "-c", say)
    for word, told in (("tidegate: the sea", "the sea"), ("", "it said nothing")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WORD", word)
            talking.start_when_due()
        while talking.reap() is None:
            pass
        assert talking.last_line() == told


def test_light_flows_share_a_worker() -> None:
    flows = ("ingest", "late", "load", "score")
    assert [group.flows for group in group_flows(flows, ("load", "ingest"))] == [
        ("ingest",),
        ("load",),
        ("late", "score"),
    ]
    assert [group.name for group in group_flows(flows, flows)] == list(flows)


# --- heartbeats ----------------------------------------------------------------------------------


def click(user: str, at: datetime) -> bytes:
    document = {"event_id": f"{user}{at}", "event_type": "page_view", "user_id": user}
    return json.dumps({**document, "event_timestamp": at.isoformat()}).encode()


@pytest.fixture
def shop(bench: Callable[..., Bench]) -> Bench:
    """One event, taken in; heartbeats are due after 30 s."""
    shop = bench(partitions={"clickstream": 1}, service__heartbeat_after="30s")
    shop.publish("raw.clickstream", [click("u", START)])
    shop.run("ingest", topic="raw.clickstream")
    return shop


@pytest.fixture
def writer(shop: Bench, clock: Clock) -> HeartbeatWriter:
    writer = HeartbeatWriter(shop.log, shop.shop.config, {"raw.clickstream": 1, "raw.labels": 1})
    writer.tick()
    return writer


def beats(shop: Bench, topic: str = "raw.clickstream") -> list[float]:
    """Event times of the heartbeats in a topic, in seconds after the start."""
    times = [heartbeat_time(record.headers) for record in shop.records(topic)]
    start_us = START.timestamp() * SECOND_US
    return [(time - start_us) / SECOND_US for time in times if time is not None]


def tick_each_second(writer: HeartbeatWriter, clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        clock.now += 1
        writer.tick()


def test_time_goes_on_at_the_pace_of_the_clock_once_a_partition_is_idle(
    shop: Bench, writer: HeartbeatWriter, clock: Clock
) -> None:
    tick_each_second(writer, clock, 29)
    assert beats(shop) == []
    tick_each_second(writer, clock, 1)
    assert beats(shop) == [30]
    shop.run("ingest", topic="raw.clickstream")
    tick_each_second(writer, clock, 30)
    assert beats(shop) == [30, 60]
    assert shop.records("raw.labels") == []  # where nothing ever happened there is no time


def test_no_heartbeat_overtakes_records_that_ingest_has_not_seen(
    shop: Bench, writer: HeartbeatWriter, clock: Clock
) -> None:
    shop.publish("raw.clickstream", [click("u", START + timedelta(seconds=5))])
    tick_each_second(writer, clock, 120)
    assert beats(shop) == []
    shop.run("ingest", topic="raw.clickstream")
    tick_each_second(writer, clock, 31)
    assert beats(shop) == [35]


def test_an_outage_makes_nothing_late(shop: Bench, clock: Clock) -> None:
    """After an hour without a supervisor, time goes on from where it stood."""
    clock.now += 3_600
    writer = HeartbeatWriter(shop.log, shop.shop.config, {"raw.clickstream": 1})
    writer.tick()
    tick_each_second(writer, clock, 30)
    assert beats(shop) == [30]


def test_time_stands_still_while_the_log_is_out_of_reach(
    shop: Bench, writer: HeartbeatWriter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever could not publish meanwhile is not late afterwards."""

    def nobody_answers(_prefix: str) -> NoReturn:
        raise LogUnreachable("kafka://nowhere:9092: no broker answers")

    tick_each_second(writer, clock, 20)
    with monkeypatch.context() as patch:
        patch.setattr(shop.log, "markers", nobody_answers)
        for _ in range(600):
            clock.now += 1
            with pytest.raises(LogUnreachable):
                writer.tick()
    tick_each_second(writer, clock, 30)
    assert beats(shop) == []
    tick_each_second(writer, clock, 1)
    assert beats(shop) == [30]


def test_after_the_end_of_time_there_is_no_more(
    shop: Bench, writer: HeartbeatWriter, clock: Clock
) -> None:
    shop.log.append([heartbeat("raw.clickstream", 0, END_OF_TIME_US)])
    shop.run("ingest", topic="raw.clickstream")
    before: Sequence[object] = shop.records("raw.clickstream")
    tick_each_second(writer, clock, 100)
    assert shop.records("raw.clickstream") == before
