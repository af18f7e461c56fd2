"""Sessions by event time: merged, corrected, retracted and capped, a pure function of the log.

Two events of a user belong together when they are at most one gap apart (inclusive, as in Kafka
Streams, Flink and Bytewax). The final sessions of a user are defined without regard to arrival
order: the accepted event times, sorted, are cut where the gap is exceeded, and each such chain is
cut greedily into pieces of at most `max_events` events and at most `max_duration_us` from first
to last event. The pieces are the sessions; those of a chain that was cut are flagged `capped`.
(Events at the very instant at which a piece starts are never cut off from it, whatever
`max_events` says: (user, start) names a session.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime import sessions_kernel as kernel
from dataflows.eventtime.changed_rows import ChangedRows, Changes
from dataflows.eventtime.name_table import NameRows, NameTable, encode_names
from dataflows.eventtime.snapshots import Buffer, check_configuration, pack, unpack
from dataflows.eventtime.watermark import START_OF_TIME_US

EVENT: Final = kernel.EVENT
HEARTBEAT: Final = 1
SKIP: Final = kernel.SKIP

SNAPSHOT_VERSION: Final = 2

_DAY_US = 86_400_000_000
_MOST_US = 2**52  # settings, 142 years; keeps every sum of times within int64
_LAST_EVENT_US = 2**58  # year 11104, far from overflow when packed with the stage
_FIRST_SIZE = 1024
_SPARSE_FROM = 4096


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a session is; times in microseconds.

    An event is late once its time is more than `bound_us` behind the newest one, applied while it
    is at most `lateness_us` behind the watermark, and expired beyond `horizon_us`.
    """

    gap_us: int
    bound_us: int
    lateness_us: int
    max_duration_us: int
    max_events: int
    horizon_us: int = 7 * _DAY_US

    @property
    def longest_wait_us(self) -> int:
        """How far beyond the watermark a session's deadline can be."""
        return self.bound_us + self.gap_us + self.lateness_us

    def __post_init__(self) -> None:
        for name in ("gap_us", "bound_us", "lateness_us", "max_duration_us", "horizon_us"):
            value = getattr(self, name)
            if not 0 <= value <= _MOST_US:
                raise ValueError(f"{name} must be within 0..{_MOST_US}, got {value}")
        if not 1 <= self.max_events < 2**31:
            raise ValueError(f"max_events must be within 1..{2**31 - 1}, got {self.max_events}")
        if self.lateness_us > self.horizon_us:
            raise ValueError("lateness_us must not exceed horizon_us")


@dataclass(frozen=True, slots=True)
class SessionRows:
    """What a batch of n records led to: m rows, in order, and the class of every record.

    A row is a session as it stands now (each revision replaces the one before), or the retraction
    of one whose events went over to another session: `event_count` is then 0,
    `superseded_by_started_us` the start of that session of the same user, and `ended_us` the start
    of the retracted one. The row of the superseding session comes first, in the same record.
    """

    row: NDArray[np.int64]  # [m] index of the record that caused the row, never falling
    user: list[str]  # [m]
    started_us: NDArray[np.int64]  # [m] first event; with the user, the session's identity
    ended_us: NDArray[np.int64]  # [m] last event
    event_count: NDArray[np.int64]  # [m] 0 in a retraction
    stage: NDArray[np.uint8]  # [m] highest funnel stage
    revision: NDArray[np.int64]  # [m] from 1, rising with each row of one session
    capped: NDArray[np.bool_]  # [m] cut from a longer run of events
    superseded_by_started_us: NDArray[np.int64]  # [m] -1 unless a retraction
    lateness: NDArray[np.uint8]  # [n] Lateness, or NOT_AN_EVENT; BUFFERED and EXPIRED: not applied
    watermark_us: int  # after the batch

    def __len__(self) -> int:
        return len(self.row)


def session_id(user: str, started_us: int) -> str:
    """The name of the session of `user` that starts at `started_us`: 32 hex digits, BLAKE2b-128."""
    identity = user.encode() + started_us.to_bytes(8, "little", signed=True)
    return blake2b(identity, digest_size=16).hexdigest()


class Sessions:
    """The sessions of one partition's users.

    A session is emitted (revision 1) by the record that moves the watermark beyond its end plus
    the gap. A late event that changes an emitted session leads to a new revision, at once if the
    session is still closed, else when it closes. If the change moves its start, or merges it into
    another, the id is retracted together with the emission of the session that took over its
    start. State is freed once the watermark is beyond end + gap + lateness: no event that would
    still be accepted can touch it then. Rows depend on the records alone, never on batch cuts.
    """

    def __init__(self, settings: SessionSettings) -> None:
        self._settings = settings
        self._limits = kernel.Limits(
            gap=settings.gap_us,
            bound=settings.bound_us,
            lateness=settings.lateness_us,
            max_duration=settings.max_duration_us,
            max_events=settings.max_events,
            horizon=settings.horizon_us,
            bucket=settings.longest_wait_us // (kernel.RING - 2) + 1,
            sparse_from=_SPARSE_FROM,
        )
        self._names = NameTable()
        self._store = _new_store(self._limits)
        self._rows = np.empty(_FIRST_SIZE, kernel.ROW)
        self._changed = ChangedRows(3)
        self._renumbered = False  # so that rows written before mean others now

    def __len__(self) -> int:
        """Users that have sessions."""
        return len(self._names)

    @property
    def watermark_us(self) -> int:
        return int(self._store.registers["watermark"][0])

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in (*self._store, self._rows)) + self._names.nbytes

    def process(
        self,
        times_us: NDArray[np.int64],
        users: list[str | None],
        stages: NDArray[np.uint8],
        kinds: NDArray[np.uint8],
    ) -> SessionRows:
        """Take in n records in log order.

        `kinds` says what each is: EVENT (time, user and stage 0..7), HEARTBEAT (time only) or SKIP
        (nothing). Raises ValueError, with nothing taken in, on an event without a user, a stage
        above 7 or an event time beyond year 11000.
        """
        text, lengths = encode_names(users)
        _check(times_us, lengths, stages, kinds)
        batch = kernel.Batch(times_us, self._names.ids_of(text, lengths), stages, kinds)
        self._reserve_users()
        lateness = np.empty(len(users), np.uint8)
        filled = self._run(batch, lateness)
        columns = self._columns(filled, lateness)
        self._names.forget(kernel.take_idle(self._store))
        if self._names.is_sparse:
            self._renumber_users()
        return columns

    def _run(self, batch: kernel.Batch, lateness: NDArray[np.uint8]) -> int:
        """Run the kernel over the batch, with larger arrays as it asks for them."""
        kernel.touch(self._store, batch.users, np.empty_like(batch.users))
        done = filled = 0
        while True:
            done, filled = kernel.process(
                self._store, self._limits, batch, lateness, self._rows, done, filled
            )
            if kernel.is_sparse(self._store, self._limits):
                self._compact()
            elif done == len(lateness):
                return filled
            else:
                self._grow(filled)

    def _grow(self, filled: int) -> None:
        registers = self._store.registers[0]
        self._store = _grown_store(self._store)
        self._rows = _grown(self._rows, filled, int(registers["wanted_rows"]))
        for wish in ("wanted_pieces", "wanted_events", "wanted_rows"):
            registers[wish] = 0

    def _reserve_users(self) -> None:
        """Room for every id given out, and at least for one."""
        users = self._store.users
        if self._names.room >= len(users):
            grown = _new_users(max(2 * len(users), self._names.room + 1, _FIRST_SIZE))
            grown[: len(users)] = users
            self._store = self._store._replace(users=grown)

    def _columns(self, filled: int, lateness: NDArray[np.uint8]) -> SessionRows:
        rows = self._rows[:filled]
        columns = SessionRows(
            row=rows["record"].astype(np.int64),
            user=self._names.names(rows["user"]),
            started_us=rows["started"].copy(),
            ended_us=rows["ended"].copy(),
            event_count=rows["count"].astype(np.int64),
            stage=rows["stage"].copy(),
            revision=rows["revision"].astype(np.int64),
            capped=rows["capped"].copy(),
            superseded_by_started_us=rows["superseded_by"].copy(),
            lateness=lateness,
            watermark_us=self.watermark_us,
        )
        if len(self._rows) > _FIRST_SIZE and filled < len(self._rows) // 8:
            self._rows = np.empty(max(_FIRST_SIZE, 2 * filled), kernel.ROW)
        return columns

    @property
    def snapshot_bytes(self) -> int:
        """About how long a snapshot would be."""
        registers = self._store.registers[0]
        pieces, events = int(registers["used_pieces"]), int(registers["used_events"])
        names = len(self._names) * 8 + self._names.text_bytes
        return pieces * kernel.PIECE.itemsize + events * kernel.EVENT_SLOT.itemsize + names

    def snapshot(self) -> bytes:
        """The whole state as versioned bytes; what is restored goes on with identical rows."""
        used = self._used()
        return b"".join(self._frame([np.arange(n, dtype=np.int32) for n in used], True))

    def changes(self, everything: bool = False) -> Changes:
        """What is to be written down since the last call, so that `restore` finds this state."""
        everything |= self._renumbered
        flags = (self._store.changed_pieces, self._store.changed_events, self._names.changed)
        rows, complete = self._changed.take(flags, self._used(), everything)
        self._renumbered = False
        return Changes(self._frame(rows, everything), complete)

    def _used(self) -> tuple[int, int, int]:
        registers = self._store.registers[0]
        return int(registers["used_pieces"]), int(registers["used_events"]), self._names.room

    def _frame(self, rows: list[NDArray[np.int32]], everything: bool) -> list[Buffer]:
        """The rows of pieces, events and names with these numbers; of `everything`, without."""
        pieces, events, names = rows
        all_rows = np.zeros(0, np.int32)
        named = self._names.rows_of(names)
        arrays = _Arrays(
            piece_at=all_rows if everything else pieces,
            pieces=self._store.pieces[: len(pieces)] if everything else self._store.pieces[pieces],
            event_at=all_rows if everything else events,
            events=self._store.events[: len(events)] if everything else self._store.events[events],
            name_at=named.ids,
            name_lengths=named.lengths,
            names=named.text,
            registers=self._store.registers,
        )
        header = _Header(SNAPSHOT_VERSION, self._settings, list(map(len, arrays)), everything)
        return pack(header, arrays)

    @classmethod
    def restore(cls, settings: SessionSettings, frames: Iterable[Buffer]) -> Sessions:
        """Go on from a snapshot, or from what `changes` gave since it was complete, oldest first;
        from nothing without any.

        Raises SnapshotError if it is damaged, or was written by a version that this code does not
        know or with other settings.
        """
        sessions = cls(settings)
        tables = _Tables()
        for frame in frames:
            header, arrays = _read(frame)
            check_configuration("sessions", asdict(header.settings), asdict(settings))
            if header.everything:
                tables = _Tables()
            tables.add(arrays)
        if tables.names:
            sessions._fill(tables)
        return sessions

    def _fill(self, tables: _Tables) -> None:
        owners = tables.pieces["user"][tables.pieces["count"] > 0]
        wanted = np.zeros(int(owners.max(initial=-1)) + 1, np.bool_)
        wanted[owners] = True
        self._names = NameTable.of_rows(tables.names, wanted)
        self._store = self._store_of(tables.pieces, tables.events, tables.registers, len(wanted))
        kernel.find_newest(self._store)

    def _store_of(
        self,
        pieces: NDArray[Any],
        events: NDArray[Any],
        registers: NDArray[Any],
        users: int,
    ) -> kernel.Store:
        """A store of these records, with their deadlines, and users without sessions."""
        registers["deadlines"] = registers["filed"] = registers["used_chunks"] = 0
        registers["wanted_pieces"] = len(pieces)
        store = self._store._replace(
            pieces=pieces,
            events=events,
            users=_new_users(users),
            registers=registers,
            changed_pieces=np.zeros(len(pieces), np.uint8),
            changed_events=np.zeros(len(events), np.uint8),
        )
        store = _grown_store(store)
        registers["wanted_pieces"] = 0
        kernel.file_all(store, self._limits)
        return store

    def _compact(self) -> None:
        """Give back the memory of records that are free."""
        registers = self._store.registers
        pieces, events, _ = self._used()
        free_pieces, free_events = (int(registers[f"free_{of}"][0]) for of in ("pieces", "events"))
        dense = self._store._replace(
            pieces=np.zeros(pieces - free_pieces, kernel.PIECE),
            events=np.zeros(events - free_events, kernel.EVENT_SLOT),
        )
        kernel.compact(self._store, dense, np.empty(pieces, np.int32))
        users = self._store.users
        fresh = self._store_of(dense.pieces, dense.events, registers, 0)
        self._store = fresh._replace(users=users, scratch=np.zeros(_FIRST_SIZE, kernel.SCRATCH))
        self._renumbered = True

    def _renumber_users(self) -> None:
        """Give back the memory of users that are gone."""
        used = np.flatnonzero(self._store.users["newest"] != kernel.NONE).astype(np.int32)
        renumbered = np.zeros(len(self._store.users), np.int32)  # what is free says user 0
        renumbered[used] = np.arange(len(used), dtype=np.int32)
        text, lengths = self._names.names_of(used)
        self._names = NameTable()
        self._names.ids_of(text, lengths)
        self._store.pieces["user"] = renumbered[self._store.pieces["user"]]
        self._store = self._store._replace(users=self._store.users[used])
        self._renumbered = True


class _Header(msgspec.Struct, frozen=True, array_like=True):
    version: int
    settings: SessionSettings
    lengths: list[int]  # elements of the arrays that follow
    everything: bool = True  # rows 0, 1, ... of all tables: what came before does not count


class _Arrays(NamedTuple):
    """What a frame holds, in this order; `*_at` are the numbers of the rows."""

    piece_at: NDArray[np.int32]
    pieces: NDArray[Any]
    event_at: NDArray[np.int32]
    events: NDArray[Any]
    name_at: NDArray[np.int32]
    name_lengths: NDArray[np.int32]
    names: NDArray[np.uint8]
    registers: NDArray[Any]


_NUMBER: Final = np.dtype(np.int32)
_LETTER: Final = np.dtype(np.uint8)
_DTYPES: Final = (
    *(_NUMBER, kernel.PIECE, _NUMBER, kernel.EVENT_SLOT),
    *(_NUMBER, _NUMBER, _LETTER, kernel.REGISTERS),
)
_DTYPES_1: Final = (
    *(kernel.PIECE, kernel.EVENT_SLOT, kernel.DEADLINE, _NUMBER),
    *(np.dtype((np.int32, kernel.CHUNK)), kernel.USER, kernel.REGISTERS, _NUMBER, _LETTER),
)


def _read(frame: Buffer) -> tuple[_Header, _Arrays]:
    header, arrays = unpack(frame, _Header, {1: _DTYPES_1, 2: _DTYPES}, "sessions")
    return header, _of_version_1(arrays) if header.version == 1 else _Arrays(*arrays)


def _of_version_1(arrays: list[NDArray[Any]]) -> _Arrays:
    """Version 1 wrote deadlines and users, too, and left the count of free records standing."""
    pieces, events, _, _, _, users, registers, name_lengths, names = arrays
    pieces = pieces.copy()
    pieces["count"][pieces["due"] == kernel.NEVER] = 0
    none = np.zeros(0, np.int32)
    numbers = np.arange(len(users), dtype=np.int32)
    return _Arrays(none, pieces, none, events, numbers, name_lengths, names, registers)


class _Tables:
    """The rows of frames put together, later ones over earlier ones."""

    def __init__(self) -> None:
        self.pieces = np.zeros(0, kernel.PIECE)
        self.events = np.zeros(0, kernel.EVENT_SLOT)
        self.registers = np.zeros(1, kernel.REGISTERS)
        self.names: list[NameRows] = []

    def add(self, frame: _Arrays) -> None:
        self.registers = frame.registers.copy()
        used = self.registers[0]
        self.pieces = _overlaid(self.pieces, used["used_pieces"], frame.piece_at, frame.pieces)
        self.events = _overlaid(self.events, used["used_events"], frame.event_at, frame.events)
        self.names.append(
            NameRows(frame.name_at.copy(), frame.name_lengths.copy(), frame.names.copy())
        )


def _overlaid(
    table: NDArray[Any], used: int, at: NDArray[np.int32], rows: NDArray[Any]
) -> NDArray[Any]:
    """The table, so many rows long, with some replaced: all of them if no numbers are given."""
    if used > len(table):
        longer = np.zeros(used, table.dtype)
        longer[: len(table)] = table
        table = longer
    if len(at):
        table[at] = rows
    else:
        table[: len(rows)] = rows
    return table


def _new_users(users: int) -> NDArray[Any]:
    fresh = np.zeros(users, kernel.USER)
    fresh["newest"] = kernel.NONE
    fresh["next_idle"] = kernel.UNLISTED
    return fresh


def _check(
    times_us: NDArray[np.int64],
    name_lengths: NDArray[np.int32],
    stages: NDArray[np.uint8],
    kinds: NDArray[np.uint8],
) -> None:
    if not len(times_us) == len(name_lengths) == len(stages) == len(kinds):
        raise ValueError("times, users, stages and kinds must have the same length")
    record = kernel.find_invalid(times_us, name_lengths, stages, kinds, _LAST_EVENT_US)
    if record >= 0:
        raise ValueError(
            f"record {record} needs a user, a stage within 0..7 and a time within "
            f"{_LAST_EVENT_US} us of the epoch"
        )


def _new_store(limits: kernel.Limits) -> kernel.Store:
    registers = np.zeros(1, kernel.REGISTERS)
    registers["watermark"] = START_OF_TIME_US
    registers["opened"] = START_OF_TIME_US // limits.bucket
    registers["opened_until"] = (START_OF_TIME_US // limits.bucket + 1) * limits.bucket
    for free_list in ("free_piece", "free_event", "free_chunk", "idle_user"):
        registers[free_list] = kernel.NONE
    return kernel.Store(
        pieces=np.zeros(_FIRST_SIZE, kernel.PIECE),
        events=np.zeros(_FIRST_SIZE, kernel.EVENT_SLOT),
        deadlines=np.zeros(_FIRST_SIZE, kernel.DEADLINE),
        ring=np.full(kernel.RING, kernel.NONE, np.int32),
        chunks=np.zeros((kernel.chunks_for(_FIRST_SIZE), kernel.CHUNK), np.int32),
        users=np.zeros(0, kernel.USER),
        registers=registers,
        scratch=np.zeros(_FIRST_SIZE, kernel.SCRATCH),
        changed_pieces=np.zeros(_FIRST_SIZE, np.uint8),
        changed_events=np.zeros(_FIRST_SIZE, np.uint8),
    )


def _grown_store(store: kernel.Store) -> kernel.Store:
    """The store with room for what the kernel wants, at least for one piece and one event."""
    registers = store.registers[0]
    wanted = max(int(registers["wanted_pieces"]), 1)
    pieces, events = int(registers["used_pieces"]), int(registers["used_events"])
    deadlines = int(registers["deadlines"])
    most = deadlines + int(registers["filed"]) + wanted
    return store._replace(
        pieces=_grown(store.pieces, pieces, pieces + wanted),
        events=_grown(store.events, events, events + 1),
        deadlines=_grown(store.deadlines, deadlines, most),
        chunks=_grown(store.chunks, int(registers["used_chunks"]), kernel.chunks_for(most)),
        scratch=_grown(store.scratch, 0, int(registers["wanted_events"])),
        changed_pieces=_grown(store.changed_pieces, pieces, pieces + wanted),
        changed_events=_grown(store.changed_events, events, events + 1),
    )


def _grown(array: NDArray[Any], used: int, wanted: int) -> NDArray[Any]:
    """The array, or twice as long a copy, with room for `wanted` elements."""
    if wanted <= len(array):
        return array
    length = max(2 * len(array), wanted, _FIRST_SIZE)
    grown = np.zeros((length, *array.shape[1:]), array.dtype)
    grown[:used] = array[:used]
    return grown
