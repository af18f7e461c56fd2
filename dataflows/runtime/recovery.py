"""The recovery directory of a slot and the lease on it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from bytewax.recovery import RecoveryConfig, init_db_dir

from dataflows.durations import Duration
from dataflows.errors import TidegateError

STORE = "bytewax"
JOURNAL = "journal"  # the changed rows of a large state, to which the store refers
RESET_NOTE = "reset"


class LeaseHeld(TidegateError):
    """Another process runs this slot; trying again later may work."""


class Lease:
    """An exclusive lock on a directory, held until release or the end of the process.

    Raises:
        LeaseHeld: still held by another process after `wait`.
        TidegateError: the directory cannot be written.
    """

    def __init__(self, directory: Path, what: str, wait: Duration):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # Open for as long as the lease is held.
            self._file = open(directory / "owner.lock", "a+", encoding="utf-8")  # noqa: SIM115
            self._lock(directory, what, wait)
            self._file.seek(0)
            self._file.truncate()
            self._file.write(str(os.getpid()))
            self._file.flush()
        except OSError as error:
            unwritable = TidegateError(
                f"{directory}: cannot be written ({error.strerror}); make room, unlock it, or set "
                "data_dir to a directory you own"
            )
            unwritable.may_pass = error.errno == errno.ENOSPC
            raise unwritable from error

    def _lock(self, directory: Path, what: str, wait: Duration) -> None:
        give_up = time.monotonic() + wait.seconds
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    self._file.seek(0)
                    owner = self._file.read().strip() or "unknown"
                    raise LeaseHeld(
                        f"{what}: held by process {owner} ({directory}); "
                        "stop that one first, or give this one another data_dir"
                    ) from None
                time.sleep(0.05)

    def release(self) -> None:
        self._file.close()


def reset_recovery(directory: Path) -> None:
    """An empty store in place of the slot's, by somebody's wish: so the state may be rebuilt even
    if the log no longer reaches back to where the slot began."""
    store = directory / STORE
    for folder in (store, directory / JOURNAL):
        if folder.is_dir():
            shutil.rmtree(folder)
    open_recovery(directory)
    (store / RESET_NOTE).touch()


def was_reset(directory: Path) -> bool:
    """Whether the slot's store, before its first snapshot, was emptied on purpose."""
    return (directory / STORE / RESET_NOTE).is_file()


RESUME_EPOCH = """(
    SELECT max(epoch) FROM (
        SELECT ex_num, resume_epoch AS epoch FROM exs
        UNION ALL SELECT ex_num, worker_frontier FROM fronts
    ) WHERE ex_num = (SELECT max(ex_num) FROM exs)
)"""
"""In a store: the epoch that Bytewax does next, from snapshots of those before it. It is the one
that its only worker had reached, or where the last execution began."""
_UNFINISHED = f"FROM snaps WHERE snap_epoch >= {RESUME_EPOCH}"


def open_recovery(directory: Path) -> RecoveryConfig:
    """The Bytewax store of a slot, made if there is none.

    A fresh store is made beside and renamed, so that a kill cannot leave half of one; making
    one twice would panic.

    Raises sqlite3.Error if the store is damaged or cannot be written.
    """
    store = directory / STORE
    if not store.is_dir():
        fresh = directory / f"{STORE}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        init_db_dir(fresh, 1)
        fresh.rename(store)
    for part in store.glob("part-*.sqlite3"):
        _forget_unfinished(part)
    return RecoveryConfig(store)


def _forget_unfinished(part: Path) -> None:
    """Removes snapshots of an epoch that was not done when the process was killed.

    Bytewax does not resume from them, but leaves them, and numbers that epoch again. A state that
    gets nothing in it writes no snapshot, so the one left behind would pass for its own later: of
    records that the source's snapshot of the time has not read.
    """
    with closing(sqlite3.connect(part)) as connection:
        if connection.execute(f"SELECT 1 {_UNFINISHED} LIMIT 1").fetchone():
            with connection:
                connection.execute(f"DELETE {_UNFINISHED}")
