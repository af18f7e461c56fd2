"""One at a time works on a slot's bundles, on any shelf, and the dead do not hold it for ever."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import pytest

from dataflows.errors import TidegateError
from dataflows.runtime.recovery import LeaseHeld
from services.bundles.lease import LASTS_S, SharedLease
from services.bundles.shelf import Shelf


@pytest.fixture(params=["folder", "memory"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    return Shelf(str(tmp_path / "shelf") if request.param == "folder" else f"memory://{uuid4()}")


def test_one_holds_it_until_it_is_released(shelf: Shelf) -> None:
    first = SharedLease(shelf, "late.a.0", "ann")
    with pytest.raises(LeaseHeld, match=r"ann is at work on the bundles of slot late\.a\.0"):
        SharedLease(shelf, "late.a.0", "bob")
    SharedLease(shelf, "late.a.1", "bob")  # another slot
    first.release()
    assert SharedLease(shelf, "late.a.0", "bob").number == first.number + 1


def test_who_died_holds_it_until_it_expires_and_never_writes_under_the_new_number(
    shelf: Shelf,
) -> None:
    now = [1_000.0]
    dead = SharedLease(shelf, "s.t.0", "dead", clock=lambda: now[0])
    now[0] += LASTS_S - 1
    with pytest.raises(LeaseHeld, match="dead"):
        SharedLease(shelf, "s.t.0", "heir", clock=lambda: now[0])
    now[0] += 2
    heir = SharedLease(shelf, "s.t.0", "heir", clock=lambda: now[0])
    assert heir.number > dead.number
    dead.release()  # it was not dead after all, and changes nothing
    with pytest.raises(LeaseHeld, match="heir"):
        SharedLease(shelf, "s.t.0", "third", clock=lambda: now[0])


def test_of_many_who_try_at_once_one_succeeds(tmp_path: Path) -> None:
    start = Barrier(8)

    def attempt(number: int) -> int:
        shelf = Shelf(str(tmp_path / "shelf"))
        start.wait()
        try:
            return SharedLease(shelf, "s.t.0", f"worker {number}").number
        except LeaseHeld:
            return 0

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(attempt, range(8)))
    assert sorted(numbers)[-2:] == [0, 1]


def test_half_a_lease_is_held_until_it_is_old(shelf: Shelf) -> None:
    assert shelf.write_new("s.t.0.00000001.lease", b'{"owner":"de')
    with pytest.raises(LeaseHeld, match="somebody is at work"):
        SharedLease(shelf, "s.t.0")
    later = time.time() + LASTS_S + 5
    assert SharedLease(shelf, "s.t.0", clock=lambda: later).number == 2


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(TidegateError, match=r"gs://bucket/x: .*`pip install gcsfs`"):
        Shelf("gs://bucket/x")
    with pytest.raises(TidegateError, match="is no folder that can be reached"):
        Shelf("nonsense://bucket/x")
