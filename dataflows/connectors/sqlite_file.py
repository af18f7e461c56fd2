"""An SQLite file shared by processes: made once, locked fairly, its errors explained to people."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dataflows.connectors.log import LogError

FORMAT_VERSION = 1
APPLICATION_ID = int.from_bytes(b"TIDE", "big")
WAL_LIMIT_BYTES = 64 << 20

_BUSY_SECONDS = 30.0
_RETRY_SECONDS = 0.001
_CHECKPOINT_WAIT_MS = 100


class SqliteFile:
    """One connection to the file, for one thread at a time."""

    def __init__(self, path: Path):
        self.path = path
        self._wal = f"{path}-wal"
        self._wal_limit = WAL_LIMIT_BYTES
        with explained(path):
            self._file = _identity(path)
            self._connection = _connect(path)
        self.execute = self._connection.execute

    def close(self) -> None:
        self._connection.close()

    def query(self, sql: str, *parameters: object) -> list[Any]:
        """All rows at once: a read transaction must end, or the WAL could not be reused."""
        with explained(self.path):
            self._require_same_file()
            return self.execute(sql, parameters).fetchall()

    def version(self) -> int:
        """A number that changes when another connection has committed."""
        try:
            self._require_same_file()
            version: int = self.execute("PRAGMA data_version").fetchone()[0]
            return version
        except sqlite3.Error as error:
            raise _explain(self.path, error) from error

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """The only writer of the file while it lasts; all or nothing."""
        with explained(self.path):
            self._require_same_file()
            _begin(self._connection)
            try:
                yield self.execute
                self.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # some errors have rolled back already
                    self.execute("ROLLBACK")
                raise

    def _require_same_file(self) -> None:
        if _identity(self.path) != self._file:
            raise LogError(
                f"{self.path} was removed or replaced while in use; "
                "stop everything that uses it and start again"
            )

    def bound_wal(self) -> None:
        """Empties the WAL once it is large.

        SQLite starts it over on its own, but only when a commit finds no reader in it; with many
        readers that may not happen for long.
        """
        with suppress(FileNotFoundError):
            size = os.stat(self._wal).st_size
            if size < self._wal_limit:
                return
            with explained(self.path), _busy_timeout(self._connection, _CHECKPOINT_WAIT_MS):
                blocked, *_ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._wal_limit = WAL_LIMIT_BYTES + (size if blocked else 0)


def create(path: Path, schema: str) -> None:
    """Makes the file what this version writes, or refuses it. Never touches a foreign file."""
    if path.is_dir():
        raise LogError(f"{path} is a folder; name a file in it, such as {path / 'log.db'}")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for place in (path, path.parent):
            if place.exists() and not os.access(place, os.W_OK):
                raise LogError(f"{place} cannot be written; make it writable, or use another path")
        connection = _connect(path)
        try:
            if _is_new(path, connection):
                _initialise(path, schema, connection)
        finally:
            connection.close()


def _is_new(path: Path, connection: sqlite3.Connection) -> bool:
    def pragma(name: str) -> int:
        value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    # Counted first: tables that another process makes after that come with our id.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if pragma("application_id") == APPLICATION_ID:
        if (version := pragma("user_version")) > FORMAT_VERSION:
            raise LogError(
                f"{path} has format {version}, written by a newer Tidegate than this one (format "
                f"{FORMAT_VERSION}); upgrade, or start a new log in another data_dir"
            )
        return False
    if tables:
        raise LogError(f"{path} is an SQLite database of something else; use another path")
    return True


def _initialise(path: Path, schema: str, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA page_size = 8192")
    _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    _begin(connection)
    if _is_new(path, connection):  # another process may have been faster
        for statement in schema.split(";"):
            connection.execute(statement)
    connection.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _begin(connection: sqlite3.Connection) -> None:
    # SQLite's own waiting sleeps ever longer, up to 0.1 s: whoever has waited longest asks least.
    with _busy_timeout(connection, 0):
        _patiently(lambda: connection.execute("BEGIN IMMEDIATE"))


@contextmanager
def _busy_timeout(connection: sqlite3.Connection, milliseconds: int) -> Iterator[None]:
    connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1e3:.0f}")


def _patiently(attempt: Callable[[], object]) -> None:
    give_up = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            attempt()
            return
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
        time.sleep(_RETRY_SECONDS)


def _identity(path: Path) -> tuple[int, int] | None:
    # Never open() the file itself: closing it would drop the locks SQLite holds in this process.
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise _explain(path, error) from error


def _primary_code(error: BaseException) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _explain(path: Path, error: sqlite3.Error | OSError) -> LogError:
    """The error in words for a person."""
    reasons = {
        sqlite3.SQLITE_FULL: "the disk is full; make room and start again",
        sqlite3.SQLITE_READONLY: "the file or its folder cannot be written; make both writable",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened; its folder must exist and be writable",
        sqlite3.SQLITE_PERM: "cannot be opened; its folder must exist and be writable",
        sqlite3.SQLITE_IOERR: "the disk reports an error; check it and the room left on it",
        sqlite3.SQLITE_CORRUPT: "is damaged; restore it, or move it away to start a new log",
        sqlite3.SQLITE_NOTADB: "is not a log of Tidegate; use another path, or move it away",
        sqlite3.SQLITE_BUSY: f"locked by another process for {_BUSY_SECONDS:.0f} s; stop that one",
    }
    if isinstance(error, OSError):
        return LogError(
            f"{error.filename or path}: {error.strerror or error}; "
            "the log needs a folder that can be written"
        )
    code = _primary_code(error)
    reason = reasons.get(code) if code is not None else None
    what = f"{reason} ({error})" if reason else str(error)
    return LogError(f"{path}: {what}; nothing that was committed is lost")
