"""Exact sliding windows (t - d - w, t - d] of an entity's events, for any aggregate of them.

:class:`~dataflows.eventtime.windows.SlidingWindows` answers the questions that the stream asks of
every payment; this is the general form. An entity (a customer, a terminal) has some timelines, each
of its events of one kind: all of them, those that a filter lets through, those known to be fraud. A
record is put into some timelines and then asks: how many, how much, how spread, the extremes, how
many different, the first and the last, and how long ago, in windows that end some delay ago.

Nothing is bucketed and sums are of integers, so answers are exact and do not depend on where
batches are cut, nor on restarts. An event out of order goes to its place in time and is answered
as of that time; answers already given are not taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime import timelines_kernel as kernel
from dataflows.eventtime.changed_rows import ChangedRows, Changes
from dataflows.eventtime.name_table import NO_NAME, NameRows, NameTable
from dataflows.eventtime.snapshots import Buffer, check_configuration, decode_snapshot
from dataflows.eventtime.windows_kernel import NONE, SIZE_CLASSES

SNAPSHOT_VERSION = 2
EXACT_NAMES: Final = 4096
"""So many different names of an entity are counted exactly; of more, a sample of them is kept."""
MISSING: Final = kernel.MISSING
"""The answer where there is nothing to answer from."""

_FIRST_ENTITIES = 1024
_FIRST_EVENTS = 8192
_RESTORE_AT_ONCE = 65_536
_KEEP_NAMES = 4096
SWEEP = 2  # entities looked at for each record


class Keeps(IntEnum):
    """What a timeline keeps of an event beside its time."""

    NOTHING = kernel.NOTHING
    NUMBER = kernel.NUMBER
    SQUARES = kernel.SQUARES  # the number, and what its spread needs
    KNOWN_AT = kernel.KNOWN_AT  # since when the event is known: it counts from then only
    NAME = kernel.NAME


class What(IntEnum):
    """What is asked of a window. MISSING is the answer where the window has no event, but for
    COUNT, SUM, SPREAD and DISTINCT."""

    COUNT = kernel.COUNT
    SUM = kernel.SUM
    SPREAD = kernel.SPREAD
    MIN = kernel.MIN
    MAX = kernel.MAX
    FIRST = kernel.FIRST
    LAST = kernel.LAST
    SINCE_FIRST = kernel.SINCE_FIRST  # microseconds
    SINCE_LAST = kernel.SINCE_LAST
    DISTINCT = kernel.DISTINCT


_NUMBERS: Final = frozenset({Keeps.NUMBER, Keeps.SQUARES})
_NEEDS: Final = {
    What.COUNT: frozenset(Keeps),
    What.SUM: _NUMBERS,
    What.SPREAD: frozenset({Keeps.SQUARES}),
    What.MIN: _NUMBERS,
    What.MAX: _NUMBERS,
    What.FIRST: _NUMBERS,
    What.LAST: _NUMBERS,
    What.SINCE_FIRST: frozenset(Keeps),
    What.SINCE_LAST: frozenset(Keeps),
    What.DISTINCT: frozenset({Keeps.NAME}),
}
_TRACKED: Final = frozenset({What.MIN, What.MAX, What.DISTINCT})


@dataclass(frozen=True, slots=True)
class Ask:
    """A question about the window (t - delay - window, t - delay]. `earlier` leaves the asking
    record itself out of it; not for MIN, MAX and DISTINCT."""

    what: What
    window_us: int
    delay_us: int = 0
    earlier: bool = False

    @property
    def reach_us(self) -> int:
        """How far back it looks."""
        return self.window_us + self.delay_us


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is kept of the events of one kind, and what is asked of them."""

    keeps: Keeps
    asks: tuple[Ask, ...]

    def __post_init__(self) -> None:
        for ask in self.asks:
            if ask.window_us < 1 or ask.delay_us < 0:
                raise ValueError("windows of at least 1 us, delays of at least 0")
            if self.keeps not in _NEEDS[ask.what]:
                raise ValueError(f"{ask.what.name} cannot be told from {self.keeps.name}")
            if ask.earlier and ask.what in _TRACKED:
                raise ValueError(f"{ask.what.name} takes the record itself in")

    @property
    def retention_us(self) -> int:
        """How long an event is kept after its time, beside the lateness."""
        return max(ask.reach_us for ask in self.asks)

    @property
    def bytes_per_event(self) -> int:
        """In a slab that is full; a slab is at least half full."""
        return 8 * kernel.WIDTH[self.keeps] + (12 if self.keeps is Keeps.NAME else 0)

    @property
    def bytes_per_entity(self) -> int:
        """Of an entity's row."""
        return 8 * _width(_plan(self))


class Given(NamedTuple):
    """What n records mean to one timeline: whether they belong, and what is to be kept of them."""

    puts: NDArray[np.bool_]  # [n]
    values: NDArray[np.int64]  # [n] the number, or since when it is known; any where not kept
    names: Sequence[str | None] = ()  # [n] where names are kept; None does not belong


class Answered(NamedTuple):
    """A row an ask of the timeline, a column a record; 0 for records that do not ask."""

    numbers: NDArray[np.int64]  # [K, n]
    spreads: NDArray[np.float64]  # [K, n] for SPREAD count * sum of squares - sum * sum; else [0,0]


class Timelines:
    """The timelines of every entity of one kind.

    lateness_us: how far behind the watermark a record may be and still be answered exactly.

    An event expires once its time <= watermark - lateness - retention of its timeline: no record
    that may still come can reach it. A record that arrives expired is answered with itself alone
    and not kept. Memory is flat arrays, in slabs of 4, 8, 16... events; entities without events are
    removed as later records come.

    Numbers are to lie within +-2^50, with less than 2^13 events of that size in a window: more may
    overflow.
    """

    def __init__(self, declared: Sequence[Timeline], lateness_us: int) -> None:
        if not declared or lateness_us < 0:
            raise ValueError("at least one timeline, and a lateness of at least 0")
        self.declared = tuple(declared)
        self.lateness_us = lateness_us
        self._clear()

    def _clear(self) -> None:
        self._names = NameTable()
        self._named = np.zeros(_FIRST_ENTITIES, np.bool_)
        self._states = [_State(timeline, self.lateness_us) for timeline in self.declared]
        self._changed = np.zeros(_FIRST_ENTITIES, np.uint8)
        self._rounds = ChangedRows(1)
        self._renumbered = False  # so that rows written before mean others now
        self._cursor = 0

    def __len__(self) -> int:
        """Entities that have events, or had until lately."""
        return len(self._names)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, and of those of the names."""
        return self._names.nbytes + sum(state.nbytes for state in self._states)

    def process(
        self,
        entities: Sequence[str | None],
        times_us: NDArray[np.int64],
        asks: NDArray[np.bool_],
        given: Sequence[Given],
        watermarks_us: NDArray[np.int64],
    ) -> list[Answered]:
        """Put n records, in order of arrival, into the timelines, and answer those that ask.

        `given` and the answers go by timeline. `watermarks_us[i]` is the watermark when record i
        arrives and never falls. A record without an entity only carries its watermark.
        """
        slots = self._names.ids(entities)
        self._grow_to_names()
        known = slots[slots != NO_NAME]
        self._named[known] = True
        self._changed[known] = 1
        answers = [
            state.answer(slots, times_us, asks, each, watermarks_us)
            for state, each in zip(self._states, given, strict=True)
        ]
        if len(slots):
            self._sweep(int(watermarks_us[-1]), SWEEP * (len(slots) + 16))
        if self._names.is_sparse:
            self._shrink()
        return answers

    def _grow_to_names(self) -> None:
        if self._names.room > self._named.size:
            more = 2 * self._names.room - self._named.size
            self._named = np.pad(self._named, (0, more))
            self._changed = np.pad(self._changed, (0, more))
        for state in self._states:
            state.grow(self._named.size)

    def _sweep(self, watermark_us: int, budget: int) -> None:
        """Look at the next entities in turn; forget those whose events have all expired."""
        room = self._names.room
        looks = min(budget, room)
        if not looks:
            return
        alive = np.zeros(looks, np.bool_)
        for state in self._states:
            state.sweep(self._named[:room], self._cursor, watermark_us, alive)
        seen = (self._cursor + np.arange(looks)) % room
        empty = seen[self._named[seen] & ~alive].astype(np.int32)
        self._cursor = (self._cursor + looks) % room
        self._named[empty] = False
        self._changed[empty] = 1
        self._names.forget(empty)

    def snapshot(self) -> bytes:
        """The whole state as versioned bytes; restoring them goes on bit-identically."""
        slots = np.flatnonzero(self._named).astype(np.int32)
        return msgspec.msgpack.encode(self._frame(slots, everything=True))

    def changes(self, everything: bool = False) -> Changes:
        """What is to be written down since the last call, so that `restore` finds this state."""
        everything |= self._renumbered
        (slots,), complete = self._rounds.take((self._changed,), (self._names.room,), everything)
        self._renumbered = False
        frame = self._frame(slots, everything)
        return Changes([msgspec.msgpack.encode(frame)], complete)

    def _frame(self, slots: NDArray[np.int32], everything: bool) -> _Frame:
        """The events of these entities, with the names that they need."""
        named = self._names.rows_of(slots)
        return _Frame(
            version=SNAPSHOT_VERSION,
            lateness_us=self.lateness_us,
            declared=_described(self.declared),
            everything=everything,
            slots=slots.tobytes(),
            name_at=named.ids.tobytes(),
            name_lengths=named.lengths.tobytes(),
            names=named.text.tobytes(),
            timelines=[state.saved(slots) for state in self._states],
        )

    def restore(self, frames: Iterable[Buffer]) -> None:
        """Replace the state with that of a snapshot, or with what `changes` gave since it was
        complete, oldest first.

        Raises SnapshotError if it is damaged, or was written by a version that this code does not
        know or for other timelines.
        """
        parts: list[_Frame] = []
        for frame in frames:
            saved = decode_snapshot(frame, _Frame, (SNAPSHOT_VERSION,), "timelines")
            check_configuration(
                "timelines",
                {"lateness_us": saved.lateness_us, "timelines": saved.declared},
                {"lateness_us": self.lateness_us, "timelines": _described(self.declared)},
            )
            parts = [saved] if saved.everything else [*parts, saved]
        self._clear()
        if parts:
            self._fill([(np.frombuffer(part.slots, np.int32), part) for part in parts])

    def _fill(self, parts: Sequence[tuple[NDArray[np.int32], _Frame]]) -> None:
        """Take in each entity's events from the last part that has it."""
        room = max(int(slots.max(initial=-1)) for slots, _ in parts) + 1
        newest = np.full(room, -1, np.int64)
        wanted = np.zeros(room, np.bool_)
        for number, (slots, part) in enumerate(parts):
            newest[slots] = number
            wanted[slots] = False
            wanted[np.frombuffer(part.name_at, np.int32)] = True
        self._names = NameTable.of_rows([part.named for _, part in parts], wanted)
        self._grow_to_names()
        self._named[:room] = wanted
        for number, (slots, part) in enumerate(parts):
            chosen = (newest[slots] == number) & wanted[slots]
            for state, saved in zip(self._states, part.timelines, strict=True):
                state.take_in(slots, saved, chosen)

    def _shrink(self) -> None:
        """Give back the memory of entities that are gone."""
        frame = self._frame(np.flatnonzero(self._named).astype(np.int32), everything=True)
        self._clear()
        numbers = np.arange(len(frame.slots) // 4, dtype=np.int32)
        packed = msgspec.structs.replace(frame, name_at=numbers.tobytes())
        self._fill([(numbers, packed)])
        self._renumbered = True


class _SavedTimeline(msgspec.Struct, frozen=True, array_like=True):
    lengths: bytes  # int32 events of each entity
    levels: bytes  # int64 of each entity, how often its names were halved
    times: bytes  # int64 by entity
    values: bytes  # int64; none unless numbers or since when are kept
    names: bytes  # int32 index into the names that follow; none unless names are kept
    texts: bytes
    text_lengths: bytes  # int32


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    version: int
    lateness_us: int
    declared: str
    everything: bool  # what came before does not count
    slots: bytes  # int32 of entities; of those that are gone, too
    name_at: bytes  # int32 of those that are not
    name_lengths: bytes  # int32
    names: bytes
    timelines: list[_SavedTimeline]

    @property
    def named(self) -> NameRows:
        return NameRows(
            np.frombuffer(self.name_at, np.int32),
            np.frombuffer(self.name_lengths, np.int32),
            np.frombuffer(self.names, np.uint8),
        )


class _State:
    """One timeline of every entity; entities are told by their slots."""

    def __init__(self, declared: Timeline, lateness_us: int) -> None:
        self._declared = declared
        self._behind = lateness_us + declared.retention_us
        self._plan = _plan(declared)
        self._has_spread = any(ask.what is What.SPREAD for ask in declared.asks)
        self._pool = _new_pool(_FIRST_EVENTS, declared.keeps)
        self._entities = _new_entities(_FIRST_ENTITIES, self._plan)
        self._names = NameTable()
        self._sampling = kernel.Names(np.zeros(0, np.int32), np.zeros(0, np.uint32))
        self._names_left = 0  # when they were last forgotten

    @property
    def nbytes(self) -> int:
        arrays = (*self._pool, *self._sampling, self._entities)
        return sum(array.nbytes for array in arrays) + self._names.nbytes

    def grow(self, room: int) -> None:
        if room > len(self._entities):
            grown = _new_entities(room, self._plan)
            grown[: len(self._entities)] = self._entities
            self._entities = grown

    def answer(
        self,
        slots: NDArray[np.int32],
        times_us: NDArray[np.int64],
        asks: NDArray[np.bool_],
        given: Given,
        watermarks_us: NDArray[np.int64],
    ) -> Answered:
        names, puts = np.zeros(0, np.int32), given.puts
        if self._declared.keeps is Keeps.NAME:
            belonging = zip(given.names, puts.tolist(), strict=True)
            names = self._names.ids([name if put else None for name, put in belonging])
            puts = puts & (names != NO_NAME)
            self._know_names()
        answered = self._slide(
            kernel.Records(
                slots=slots,
                times=np.ascontiguousarray(times_us, np.int64),
                values=np.ascontiguousarray(given.values, np.int64),
                names=names,
                puts=np.ascontiguousarray(puts, np.uint8),
                asks=np.ascontiguousarray(asks, np.uint8),
                floors=watermarks_us - self._behind,
            )
        )
        self._forget_names()
        return answered

    def _slide(self, records: kernel.Records) -> Answered:
        n, asked = len(records.slots), len(self._plan.asks)
        numbers = np.zeros((asked, n), np.int64)
        spreads = np.zeros((asked, n) if self._has_spread else (0, 0))
        answers, done = kernel.Answers(numbers, spreads), 0
        while True:
            done = kernel.slide(
                self._pool,
                self._plan,
                self._sampling,
                self._entities,
                records,
                answers,
                done,
            )
            if done == n:
                return Answered(numbers, spreads)
            self._pool = _grown_pool(self._pool, self._declared.keeps)

    def _know_names(self) -> None:
        room, known = self._names.room, len(self._sampling.held)
        if room > known:
            held = np.pad(self._sampling.held, (0, 2 * room - known))
            self._sampling = kernel.Names(held, np.zeros(2 * room, np.uint32))
        self._sampling.hashes[:room] = self._names.hashes

    def _forget_names(self) -> None:
        """Free the names that no event has, once they may be most of them."""
        if len(self._names) > max(_KEEP_NAMES, 2 * self._names_left):
            unheld = np.flatnonzero(self._sampling.held[: self._names.room] == 0).astype(np.int32)
            self._names.forget(self._names.rows_of(unheld).ids)
            self._names_left = len(self._names)

    def sweep(
        self, named: NDArray[np.bool_], cursor: int, watermark_us: int, alive: NDArray[np.bool_]
    ) -> None:
        floor = watermark_us - self._behind
        kernel.sweep(
            self._pool, self._plan, self._sampling, self._entities, named, cursor, floor, alive
        )

    def saved(self, slots: NDArray[np.int32]) -> _SavedTimeline:
        rows, keeps = self._entities[slots], self._declared.keeps
        lengths = (rows[:, kernel.END] - rows[:, kernel.START]).astype(np.int32)
        n = int(lengths.sum())
        times, values, names = np.empty(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int32)
        kernel.gather(self._pool, self._plan, self._entities, slots, times, values, names)
        texts, text_lengths = b"", np.zeros(0, np.int32)
        if keeps is Keeps.NAME:
            used, places = np.unique(names, return_inverse=True)
            names = places.astype(np.int32)
            texts, text_lengths = self._names.names_of(used.astype(np.int32))
        valued = keeps in _NUMBERS or keeps is Keeps.KNOWN_AT
        return _SavedTimeline(
            lengths=lengths.tobytes(),
            levels=rows[:, kernel.LEVEL].tobytes(),
            times=times.tobytes(),
            values=values.tobytes() if valued else b"",
            names=names.tobytes() if keeps is Keeps.NAME else b"",
            texts=texts,
            text_lengths=text_lengths.tobytes(),
        )

    def take_in(
        self, slots: NDArray[np.int32], saved: _SavedTimeline, chosen: NDArray[np.bool_]
    ) -> None:
        """Put the events of a frame, of those of its entities that are chosen."""
        lengths = np.frombuffer(saved.lengths, np.int32)
        levels = np.frombuffer(saved.levels, np.int64)
        self._entities[slots[chosen], kernel.LEVEL] = levels[chosen]
        owners = np.repeat(slots[chosen], lengths[chosen])
        events = np.repeat(chosen, lengths)
        times = np.frombuffer(saved.times, np.int64)[events]
        values, names = np.zeros(len(times), np.int64), np.zeros(0, np.int32)
        if saved.values:
            values = np.frombuffer(saved.values, np.int64)[events]
        if self._declared.keeps is Keeps.NAME:
            text_lengths = np.frombuffer(saved.text_lengths, np.int32).copy()
            listed = self._names.ids_of(saved.texts, text_lengths)
            names = listed[np.frombuffer(saved.names, np.int32)[events]]
            self._know_names()
        for some in _slices(len(times)):
            n = len(times[some])
            # copies are writable, as a batch's arrays are: or the kernel would be compiled anew
            self._slide(
                kernel.Records(
                    slots=owners[some].copy(),
                    times=times[some].copy(),
                    values=values[some].copy(),
                    names=names[some].copy(),
                    puts=np.ones(n, np.uint8),
                    asks=np.zeros(n, np.uint8),
                    floors=np.full(n, kernel.MISSING, np.int64),
                )
            )


def _slices(n: int) -> Iterator[slice]:
    for begin in range(0, n, _RESTORE_AT_ONCE):
        yield slice(begin, begin + _RESTORE_AT_ONCE)


def _plan(timeline: Timeline) -> kernel.Plan:
    """The asks as edges, windows and trackers, each of them once."""
    windows = list(dict.fromkeys((ask.reach_us, ask.delay_us) for ask in timeline.asks))
    offsets = sorted({offset for window in windows for offset in window})
    trackers: list[tuple[int, int]] = []
    asks = []
    for ask in timeline.asks:
        window, tracker = windows.index((ask.reach_us, ask.delay_us)), NONE
        if ask.what in _TRACKED:
            if (window, int(ask.what)) not in trackers:
                trackers.append((window, int(ask.what)))
            tracker = trackers.index((window, int(ask.what)))
        asks.append((int(ask.what), window, tracker, int(ask.earlier)))
    edges = [(offsets.index(reach), offsets.index(delay)) for reach, delay in windows]
    return kernel.Plan(
        keeps=int(timeline.keeps),
        bound=EXACT_NAMES,
        offsets=np.array(offsets, np.int64),
        windows=np.array(edges, np.int64),
        trackers=np.array(trackers, np.int64).reshape(-1, 2),
        asks=np.array(asks, np.int64),
        edges_at=np.zeros(len(offsets), np.int64),
        tracked_at=np.zeros(len(trackers), np.int64),
    )


def _width(plan: kernel.Plan) -> int:
    return kernel.EDGES + len(plan.offsets) + len(plan.trackers)


def _described(declared: Sequence[Timeline]) -> str:
    return "; ".join(
        f"{timeline.keeps.name.lower()}: "
        + ", ".join(
            f"{a.what.name.lower()}{' earlier' if a.earlier else ''} {a.delay_us}+{a.window_us}"
            for a in timeline.asks
        )
        for timeline in declared
    )


def _new_pool(room: int, keeps: Keeps) -> kernel.Pool:
    slabs = np.full(SIZE_CLASSES + 1, NONE, np.int64)
    slabs[SIZE_CLASSES] = 0
    named = room if keeps is Keeps.NAME else 0
    return kernel.Pool(
        events=np.zeros((room, kernel.WIDTH[keeps]), np.int64),
        names=np.zeros(named, np.int32),
        links=np.zeros((named, 2), np.int32),
        slabs=slabs,
    )


def _grown_pool(pool: kernel.Pool, keeps: Keeps) -> kernel.Pool:
    grown = _new_pool(2 * len(pool.events), keeps)
    grown.events[: len(pool.events)] = pool.events
    grown.names[: len(pool.names)] = pool.names
    grown.links[: len(pool.links)] = pool.links
    return grown._replace(slabs=pool.slabs)


def _new_entities(room: int, plan: kernel.Plan) -> NDArray[np.int64]:
    entity = np.zeros(_width(plan), np.int64)
    kernel.clear(plan, entity)
    return np.tile(entity, (room, 1))
