"""Killed between the snapshots of an epoch and the note that it is done: what is left of it must
not pass for a later state of the execution that numbers this epoch again."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flow_bench import Bench

from dataflows.connectors.records import END_OF_TIME_US, heartbeat
from dataflows.flows.opening import builder
from dataflows.runtime.recovery import STORE
from dataflows.runtime.slot import Refused, Slot, run_slot

EVENTS = "events.clickstream"
IDLE_S = 1.0  # several epochs
SETTINGS = {"partitions": {"clickstream": 1}, "slots.snapshot_interval": "100ms"}


def clicks(first: int, stop: int) -> list[bytes | None]:
    """A click a minute, of one user."""
    return [
        json.dumps(
            {
                "event_id": f"e{minute}",
                "event_type": "page_view",
                "user_id": "u",
                "event_timestamp": f"2026-03-05T10:{minute:02}:00.000000Z",
                "lateness": "on_time",
            }
        ).encode()
        for minute in range(first, stop)
    ]


def leave_unfinished(store: Path, later: Path) -> int:
    """Puts the last snapshots of `later` into the store as those of the epoch in which it resumes,
    as by an execution that was killed before it noted that this is done; the epoch."""
    with closing(sqlite3.connect(later)) as connection:
        snapshots = connection.execute(
            "SELECT step_id, state_key, ser_change FROM snaps"
        ).fetchall()
    with closing(sqlite3.connect(store)) as connection, connection:
        query = "SELECT ex_num, worker_frontier FROM fronts ORDER BY ex_num DESC LIMIT 1"
        execution, epoch = connection.execute(query).fetchone()
        connection.executemany(
            "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, ?, ?)",
            [(step, key, epoch, change) for step, key, change in snapshots],
        )
        connection.execute(
            "INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (?, 1, ?)",
            (execution + 1, epoch),
        )
    return int(epoch)


def run_without_records(bench: Bench, slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the brokers give nothing for a while, and then the process is killed: what its store
    held then is put back, since a slot that stops in peace writes all its states."""
    make, part = bench.log.reader, part_of(slot)
    as_killed = slot.directory / "as killed"

    def silent(*place: Any) -> Any:
        reader = make(*place)
        nothing = reader.read(0)
        patch.setattr(type(reader), "read", lambda self, most: nothing)
        return reader

    def kill() -> None:
        with closing(sqlite3.connect(part)) as one, closing(sqlite3.connect(as_killed)) as other:
            one.backup(other)
        slot.stop.set()

    with monkeypatch.context() as patch:
        patch.setattr(bench.log, "reader", silent)
        threading.Timer(IDLE_S, kill).start()
        run_slot(slot, builder(bench.shop, "sessionize"))
    as_killed.rename(part)


def part_of(slot: Slot) -> Path:
    """The file of the slot's store."""
    return slot.directory / STORE / "part-0.sqlite3"


def after_a_kill_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A shop whose slot was killed between snapshots and note, and again when it had gone on for
    some epochs without records; nine clicks, of which the state covers five."""
    bench = Bench(tmp_path, **SETTINGS)
    (slot,) = bench.shop.slots("sessionize")
    part, before, later = part_of(slot), tmp_path / "before", tmp_path / "later"
    bench.publish(EVENTS, clicks(0, 5))
    bench.run("sessionize")
    shutil.copy(part, before)
    bench.publish(EVENTS, clicks(5, 9))
    bench.run("sessionize")
    part.rename(later)
    before.rename(part)
    unfinished = leave_unfinished(part, later)

    run_without_records(bench, slot, monkeypatch)
    with closing(sqlite3.connect(part)) as connection:
        (reached,) = connection.execute("SELECT max(worker_frontier) FROM fronts").fetchone()
    assert reached > unfinished + 1
    return bench


def test_records_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = after_a_kill_in_between(tmp_path, monkeypatch)
    bench.log.append([heartbeat(EVENTS, 0, END_OF_TIME_US)])
    bench.run("sessionize")
    sessions = [json.loads(record.value) for record in bench.records("sessions") if record.value]
    assert [session["event_count"] for session in sessions] == [9]


def test_a_state_that_has_seen_what_it_is_given_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a store ever give such a state again."""
    with monkeypatch.context() as careless:
        careless.setattr("dataflows.runtime.recovery._forget_unfinished", lambda part: None)
        bench = after_a_kill_in_between(tmp_path, careless)
        with pytest.raises(Refused) as refused:
            bench.run("sessionize")
    assert str(refused.value) == (
        "slot sessionize.events.clickstream.0: its state has seen the records before offset 9, and "
        "is given those from 5 on once more, which would count twice; rebuild it from the log with "
        "`tidegate reset sessionize`"
    )
