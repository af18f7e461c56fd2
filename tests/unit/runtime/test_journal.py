"""A state in a journal is, after any kill, the state at the last durable snapshot."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.eventtime.dedup import Deduplicator
from dataflows.eventtime.sessions import Sessions, SessionSettings
from dataflows.eventtime.snapshots import Buffer
from dataflows.runtime.journal import Journal, JournalDamaged
from dataflows.runtime.state import STATE_VERSION, Keeper, Saved, read_saved

SETTINGS = SessionSettings(
    gap_us=10, bound_us=5, lateness_us=40, max_duration_us=10**9, max_events=50, horizon_us=80
)
BATCHES = 40


class Counted:
    """Sessions that count the batches they took in, so that they know where to go on."""

    def __init__(self, frames: Iterable[Buffer]):
        self._sessions = Sessions.restore(SETTINGS, frames)
        self.snapshot, self.changes = self._sessions.snapshot, self._sessions.changes

    def process(self, batch: int) -> list[tuple[int, str, int, int, int]]:
        rng = np.random.default_rng(batch)
        n = 30
        times = batch * 8 + rng.integers(-40, 8, n)
        users: list[str | None] = [f"user {i}" for i in rng.integers(0, 25, n)]
        rows = self._sessions.process(times, users, np.zeros(n, np.uint8), np.zeros(n, np.uint8))
        columns = (rows.row, rows.started_us, rows.event_count, rows.revision)
        row, started, count, revision = (column.tolist() for column in columns)
        return list(zip(row, rows.user, started, count, revision, strict=True))

    @property
    def snapshot_bytes(self) -> int:
        return self._sessions.snapshot_bytes


def undisturbed() -> list[object]:
    state = Counted([])
    return [state.process(batch) for batch in range(BATCHES)]


EXPECTED = undisturbed()
Step = tuple[str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["process"] * 4 + ["save"] * 3 + ["save, killed", "killed", "torn"]),
        st.integers(0, 2**31),
    ),
    min_size=20,
    max_size=60,
)


@given(steps, st.sampled_from([1, 2_000, 2**40]))
@settings(deadline=None, max_examples=60)
def test_whatever_is_killed_when_the_state_is_that_of_the_durable_snapshot(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Step], limit: int
) -> None:
    """`limit`: always in the journal, sometimes (the state grows and shrinks), never."""
    directory = tmp_path_factory.mktemp("slot") / "journal"
    durable: tuple[bytes | None, int] = (None, 0)  # what the store holds, and the batches before it
    keeper, done = Keeper(directory, limit, Counted, None), 0
    for what, number in drawn:
        if what == "process" and done < BATCHES:
            assert keeper.state.process(done) == EXPECTED[done]
            done += 1
        elif what == "save":
            durable = (keeper.save(), done)
        elif what != "process":
            if what == "save, killed":  # the frame is there, the snapshot that covers it is not
                keeper.save()
            if what == "torn":
                spoil_the_tail(directory, durable[0], random.Random(number))
            saved = None if durable[0] is None else read_saved(durable[0])
            keeper, done = Keeper(directory, limit, Counted, saved), durable[1]
    for batch in range(done, BATCHES):
        assert keeper.state.process(batch) == EXPECTED[batch]


def spoil_the_tail(directory: Path, durable: bytes | None, rng: random.Random) -> None:
    """What a kill in the middle of a write leaves: anything beyond what is referred to, and files
    that nothing refers to."""
    covered = dict(read_saved(durable).journal) if durable else {}
    directory.mkdir(exist_ok=True)
    for generation, length in covered.items():
        with open(Journal.file(directory, generation), "r+b") as file:
            file.seek(length)
            file.write(rng.randbytes(rng.randrange(200)))
    leftover = Journal.file(directory, max(covered, default=0) + rng.randrange(1, 3))
    leftover.write_bytes(rng.randbytes(rng.randrange(100)))


def filled(directory: Path, saves: int = 6) -> tuple[Keeper[Counted], bytes]:
    keeper = Keeper(directory, 1, Counted, None)
    for batch in range(saves):
        keeper.state.process(batch)
        blob = keeper.save()
    return keeper, blob


@pytest.mark.parametrize("damage", ["flipped", "short", "missing"])
def test_damage_below_the_snapshot_is_noticed_and_named(tmp_path: Path, damage: str) -> None:
    _, blob = filled(tmp_path)
    generation, length = read_saved(blob).journal[-1]
    file = Journal.file(tmp_path, generation)
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[length // 2] ^= 1
        file.write_bytes(content)
    elif damage == "short":
        file.write_bytes(content[: length - 1])
    else:
        file.unlink()
    with pytest.raises(JournalDamaged, match=file.name):
        Keeper(tmp_path, 1, Counted, read_saved(blob))


def test_files_go_only_once_a_snapshot_without_them_is_durable(tmp_path: Path) -> None:
    keeper, blob = filled(tmp_path, saves=1)
    for batch in range(1, BATCHES):
        before = read_saved(blob).journal
        keeper.state.process(batch)
        blob = keeper.save()
        for reference in (before, read_saved(blob).journal):
            for generation, length in reference:
                assert Journal.file(tmp_path, generation).stat().st_size >= length
    assert len(list(tmp_path.iterdir())) <= 4
    assert read_saved(blob).journal[-1][0] > 3, "no file was ever left behind"


def test_a_state_is_written_whole_below_the_limit_and_in_a_journal_from_it_on(
    tmp_path: Path,
) -> None:
    def state(ids: int) -> Deduplicator:
        made = Deduplicator(10, 10**6)
        add(made, 0, range(ids))
        return made

    def add(to: Deduplicator, time: int, ids: range) -> None:
        at = np.full(len(ids), time, np.int64)
        to.seen([f"{i:08d}" for i in ids], at, at)

    limit = state(1_000).snapshot_bytes

    def restore(frames: Iterable[Buffer]) -> Deduplicator:
        return Deduplicator.restore(10, 10**6, frames)

    keeper = Keeper(tmp_path, limit, restore, None)
    add(keeper.state, 0, range(999))
    assert read_saved(keeper.save()).whole is not None
    add(keeper.state, 0, range(999, 1_000))
    saved = read_saved(keeper.save())
    assert saved.whole is None
    assert len(Keeper(tmp_path, limit, restore, saved).state) == 1_000
    keeper = Keeper(tmp_path, limit, restore, saved)
    add(keeper.state, 10**6, range(1))
    for time in range(10**6 + 1, 10**6 + 9):  # numbers are given back once they are many
        add(keeper.state, time, range(time, time + 1))
    assert len(keeper.state) < 500
    blob = keeper.save()
    assert (read_saved(blob).whole is None) == (keeper.state.snapshot_bytes >= limit // 2)
    again = Keeper(tmp_path, 10**9, restore, read_saved(blob))
    assert read_saved(again.save()).whole is not None
    assert any(tmp_path.iterdir()) == (read_saved(blob).whole is None)
    again.save()
    assert not any(tmp_path.iterdir())


def test_snapshots_of_every_version_are_read() -> None:
    assert read_saved(b"\x92\x01\x02") == (1, b"\x92\x01\x02", (), 0)
    second = b"\xc1tide\x02" + msgspec.msgpack.encode((b"state", [(3, 40)]))
    assert read_saved(second) == (2, b"state", ((3, 40),), 0)
    third = read_saved(Saved(STATE_VERSION, b"state", ((3, 40),), 17).encode())
    assert third == (STATE_VERSION, b"state", ((3, 40),), 17)
    assert read_saved(Keeper(Path("unused"), 10**9, Counted, None).save()).version == STATE_VERSION
