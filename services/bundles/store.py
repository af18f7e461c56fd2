"""What is in the recovery directory of a slot: Bytewax's store, and the journal it refers to."""

from __future__ import annotations

import io
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from dataflows.errors import TidegateError
from dataflows.eventtime.snapshots import SnapshotError
from dataflows.runtime.journal import Reference, journal_files, read_frames
from dataflows.runtime.recovery import JOURNAL, RESUME_EPOCH, STORE
from dataflows.runtime.state import Saved, read_saved

STORE_FILE = "part-0.sqlite3"


class SlotState(NamedTuple):
    """A slot's last durable snapshot. `saved` is None for a slot without state of its own."""

    offset: int  # the next input offset that it does not cover
    fingerprint: dict[str, Any]
    saved: Saved | None

    @property
    def version(self) -> int:
        return int(self.fingerprint.get("snapshot version", 0))

    @property
    def journal(self) -> Reference:
        return self.saved.journal if self.saved else ()


def store_file(directory: Path) -> Path:
    return directory / STORE / STORE_FILE


def read_state(directory: Path) -> SlotState | None:
    """The slot's state in its directory; None if it has taken no snapshot yet.

    Raises:
        TidegateError: it is damaged, or of a version that this code does not know.
    """
    file = store_file(directory)
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=2.0)) as store:
            snapshots = [_plain(row[0]) for row in store.execute(_LAST_SNAPSHOTS)]
    except (sqlite3.Error, pickle.UnpicklingError, EOFError) as error:
        raise TidegateError(f"{file}: is damaged or in use ({error})") from error
    source = next((each for each in snapshots if isinstance(each, dict)), None)
    if source is None:
        return None
    blob = next((each for each in snapshots if isinstance(each, bytes)), None)
    try:
        saved = None if blob is None else read_saved(blob)
    except SnapshotError as error:
        raise TidegateError(f"{directory}: {error}") from error
    return SlotState(int(source["offset"]), source["fingerprint"], saved)


_LAST_SNAPSHOTS = f"""
SELECT ser_change FROM snaps AS s
WHERE ser_change IS NOT NULL AND snap_epoch = (
    SELECT max(snap_epoch) FROM snaps AS t
    WHERE t.step_id = s.step_id AND t.state_key = s.state_key AND t.snap_epoch < {RESUME_EPOCH}
)
"""


class _PlainUnpickler(pickle.Unpickler):
    """Bytewax stores snapshots as pickles; ours are of plain values, which need no class. One that
    names a class was not written by a slot, and to load it would be to run it."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"a snapshot that names {module}.{name}")


def _plain(pickled: bytes) -> Any:
    return _PlainUnpickler(io.BytesIO(pickled)).load()


def check_pickles(file: Path) -> None:
    """Raises TidegateError unless every snapshot of a store is of plain values."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
            for (pickled,) in store.execute("SELECT ser_change FROM snaps"):
                if pickled is not None:
                    _plain(pickled)
    except (sqlite3.Error, pickle.UnpicklingError, EOFError) as error:
        raise TidegateError(f"{file.name}: is no store that a slot wrote ({error})") from error


def copy_state(directory: Path, state: SlotState, target: Path) -> list[Path]:
    """A consistent copy of the state of a slot that does not run, relative paths below `target`.

    Raises:
        TidegateError: the journal is not what the snapshot says.
    """
    copied = [Path(STORE) / STORE_FILE]
    (target / STORE).mkdir(parents=True)
    (target / JOURNAL).mkdir()
    with (
        closing(sqlite3.connect(store_file(directory))) as store,
        closing(sqlite3.connect(target / copied[0])) as copy,
    ):
        store.backup(copy)
    for file, length in journal_files(directory / JOURNAL, state.journal):
        for _ in read_frames(file, length):
            pass  # each is checked
        with open(file, "rb") as source, open(target / JOURNAL / file.name, "wb") as sink:
            left = length
            while left:
                left -= sink.write(source.read(min(left, 1 << 20)))
        copied.append(Path(JOURNAL) / file.name)
    return copied
