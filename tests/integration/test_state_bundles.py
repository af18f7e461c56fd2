"""A slot goes on from a bundle, on this machine or another, exactly."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_bench import Bench
from test_state_must_fit import expected, refusal, users, visits

from dataflows.errors import TidegateError
from dataflows.runtime.recovery import Lease, LeaseHeld
from dataflows.runtime.slot import Slot
from services.broker.broker import Broker
from services.bundles.bundle import BundleDamaged
from services.bundles.shelf import Shelf
from services.bundles.show import local_states
from services.bundles.transfer import Transferred, export_slot, newest_bundles, restore_slot
from services.status.slots import slot_statuses

Open = Callable[[str], Bench]


@pytest.fixture(params=["whole", "journal"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    journal = {"slots.journal_above_bytes": 1} if request.param == "journal" else {}
    return {"partitions": {"clickstream": 1}, "slots.lease_wait": "100ms", **journal}


@pytest.fixture
def open_at(tmp_path: Path, settings: dict[str, Any]) -> Iterator[Open]:
    """Machines with their own state on one log."""
    made: list[Bench] = []

    def make(machine: str) -> Bench:
        bus = f"sqlite:///{tmp_path / 'log.db'}"
        made.append(Bench(tmp_path / machine, bus=bus, **settings))
        return made[-1]

    yield make
    for bench in made:
        bench.log.close()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(str(tmp_path / "shelf"))


def slot_of(bench: Bench) -> Slot:
    return bench.shop.slots("sessionize")[0]


def export(bench: Bench, shelf: Shelf) -> Transferred:
    made = export_slot(slot_of(bench), shelf)
    assert made is not None
    return made


def restore(bench: Bench, shelf: Shelf, name: str | None = None) -> Transferred:
    slot = slot_of(bench)
    return restore_slot(slot, shelf, name or newest_bundles(shelf)[slot.name])


def ran(bench: Bench, first: int, count: int) -> Bench:
    bench.publish("events.clickstream", visits(first, count))
    bench.run("sessionize")
    return bench


def check(bench: Bench, visited: int) -> None:
    """Every session once, all records with a fate."""
    assert users(bench) == expected(visited)
    (status,) = slot_statuses(bench.shop, ("sessionize",))
    assert (status.lag_records, status.difference) == (0, 0)


def test_a_slot_moves_to_another_machine_and_replays_nothing(open_at: Open, shelf: Shelf) -> None:
    here = ran(open_at("here"), 0, 10)
    moved = export(here, shelf)
    assert moved.replays == 0
    there = open_at("there")
    there.log.apply_retention(2**61, {"events.clickstream": 1.0})  # it cannot have read it again
    assert restore(there, shelf).offset == moved.offset
    check(ran(there, 10, 5), 15)
    (state,) = local_states([slot_of(there)])
    assert state.offset == state.published_to == 15


def test_a_deleted_directory_and_an_older_bundle_replay_and_publish_nothing_twice(
    open_at: Open, shelf: Shelf
) -> None:
    bench = ran(open_at("here"), 0, 10)
    export(bench, shelf)
    ran(bench, 10, 10)
    shutil.rmtree(slot_of(bench).directory)
    assert restore(bench, shelf).replays == 10
    check(ran(bench, 20, 5), 25)
    restore(bench, shelf)  # an hour old by now
    check(ran(bench, 25, 5), 30)
    shutil.rmtree(slot_of(bench).directory)
    check(ran(bench, 30, 5), 35)


def test_a_bundle_is_made_after_kill_9_too(open_at: Open, shelf: Shelf, tmp_path: Path) -> None:
    bench = ran(open_at("here"), 0, 10)
    slot = slot_of(bench)
    shutil.copytree(slot.directory, tmp_path / "earlier")
    ran(bench, 10, 10)
    shutil.rmtree(slot.directory)
    shutil.copytree(tmp_path / "earlier", slot.directory)  # as kill -9 leaves it: marker ahead
    assert export(bench, shelf).replays == 10
    there = open_at("there")
    restore(there, shelf)
    check(ran(there, 20, 5), 25)


def test_only_the_newest_bundles_are_kept_and_any_of_them_can_be_named(
    open_at: Open, shelf: Shelf
) -> None:
    bench = open_at("here")
    assert export_slot(slot_of(bench), shelf) is None  # no state yet
    names = [export(ran(bench, 5 * n, 5), shelf).bundle for n in range(5)]
    assert [name for name in shelf.names() if name.endswith(".bundle")] == names[-3:]
    assert restore(bench, shelf, names[-3]).replays == 10
    check(ran(bench, 25, 5), 30)


def test_a_slot_that_runs_and_a_shelf_that_is_in_use_are_refused(
    open_at: Open, shelf: Shelf
) -> None:
    bench = ran(open_at("here"), 0, 5)
    export(bench, shelf)
    slot = slot_of(bench)
    running = Lease(slot.directory, "a worker", slot.config.slots.lease_wait)
    for attempt in (export, restore):
        with pytest.raises(LeaseHeld, match=rf"slot {slot.name}: held by process"):
            attempt(bench, shelf)
    running.release()


@pytest.mark.parametrize("damage", ["torn", "flipped", "manifest"])
def test_a_torn_bundle_is_refused_and_the_state_stays(
    open_at: Open, shelf: Shelf, tmp_path: Path, damage: str
) -> None:
    bench = ran(open_at("here"), 0, 10)
    file = tmp_path / "shelf" / export(bench, shelf).bundle
    content = bytearray(file.read_bytes())
    if damage == "torn":
        content = content[: len(content) // 2]
    else:
        content[700 if damage == "manifest" else len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleDamaged, match="is torn or damaged"):
        restore(bench, shelf)
    check(ran(bench, 10, 5), 15)


def test_a_bundle_of_another_log_partition_count_or_time_is_refused(
    open_at: Open, shelf: Shelf, tmp_path: Path, settings: dict[str, Any]
) -> None:
    bench = ran(open_at("here"), 0, 10)
    export(bench, shelf)
    other = Bench(tmp_path / "other", **settings)
    with pytest.raises(TidegateError, match="belongs to another log"):
        restore(other, shelf)
    other.log.close()
    wider = Bench(tmp_path / "wider", **{**settings, "partitions": {"clickstream": 2}})
    with pytest.raises(TidegateError, match=r"had 1 partition\(s\), now it has 2"):
        restore(wider, shelf)
    wider.log.close()
    ran(bench, 10, 5)
    bench.log.apply_retention(2**61, {"events.clickstream": 1.0})
    with pytest.raises(TidegateError, match="retention has removed the records up to 14"):
        restore(bench, shelf)
    changed = Bench(
        tmp_path / "here", bus=bench.shop.config.bus, **settings, **{"event_time.gap": "20m"}
    )
    assert "event_time.gap = 30m, this is 20m" in refusal(changed)
    changed.log.close()


def test_a_bundle_that_would_run_code_is_refused(
    open_at: Open, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle
    import sqlite3
    from contextlib import closing

    from services.bundles import transfer

    def poisoned(directory: Path, state: Any, target: Path) -> list[Path]:
        names = copy(directory, state, target)
        with closing(sqlite3.connect(target / names[0])) as store:
            store.execute("UPDATE snaps SET ser_change = ?", (pickle.dumps(Path("x")),))
            store.commit()
        return names

    copy = transfer.copy_state
    bench = ran(open_at("here"), 0, 10)
    monkeypatch.setattr(transfer, "copy_state", poisoned)
    export(bench, shelf)
    with pytest.raises(TidegateError, match="is no store that a slot wrote"):
        restore(bench, shelf)


@pytest.mark.parametrize("settings", ["journal"], indirect=True)
def test_damaged_journals_are_refused_in_one_line(open_at: Open, shelf: Shelf) -> None:
    bench = ran(open_at("here"), 0, 10)
    export(bench, shelf)
    (file,) = (slot_of(bench).directory / "journal").glob("*.frames")
    file.write_bytes(file.read_bytes()[:-1])
    message = refusal(bench)
    assert "is damaged" in message
    assert "tidegate reset sessionize" in message
    with pytest.raises(TidegateError, match="ends at byte"):
        export(bench, shelf)
    restore(bench, shelf)
    check(ran(bench, 10, 5), 15)


@pytest.mark.kafka
def test_on_kafka_a_slot_moves_and_an_older_bundle_publishes_nothing_twice(
    broker: Broker, shelf: Shelf, tmp_path: Path, settings: dict[str, Any]
) -> None:
    here = ran(Bench(tmp_path / "here", bus=broker.url, **settings), 0, 10)
    export(here, shelf)
    there = Bench(tmp_path / "there", bus=broker.url, **settings)
    assert restore(there, shelf).replays == 0
    check(ran(there, 10, 5), 15)
    shutil.rmtree(slot_of(there).directory)
    restore(there, shelf)
    check(ran(there, 15, 5), 20)
    shutil.rmtree(slot_of(there).directory)
    check(ran(there, 20, 5), 25)
    for bench in (here, there):
        bench.log.close()
