"""Small integer ids for very many strings: a hash table over flat arrays.

It answers a batch at a time, several times faster than a dict of strings once there are a million,
and takes a third of the memory. Ids are freed for reuse; they depend on the names asked for and
on nothing else.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

NO_NAME: Final = np.int64(-1)
_FIRST_NAMES = 1024
_FIRST_BYTES = 16_384

SLOT = np.dtype([("hash", "u4"), ("id", "i4")])
# of a free id: the next free one, and length -1
NAME = np.dtype([("at", "i8"), ("length", "i4"), ("hash", "u4")], align=True)
REGISTERS = np.dtype(
    [("names", "i8"), ("used_ids", "i8"), ("free_id", "i8"), ("live", "i8"), ("used_bytes", "i8")]
)

# see sessions_kernel: reference counts would take most of the time
kernel = njit(cache=True, nogil=True, _nrt=False)


class Table(NamedTuple):
    """Hash slots, linearly probed, at most half of them taken; names by id; their UTF-8 bytes;
    which ids were given out since `changed` was cleared."""

    slots: NDArray[Any]
    names: NDArray[Any]
    arena: NDArray[np.uint8]
    registers: NDArray[Any]
    changed: NDArray[np.uint8]


class NameRows(NamedTuple):
    """n names with the ids they have: what a journal keeps of a table."""

    ids: NDArray[np.int32]  # [n]
    lengths: NDArray[np.int32]  # [n] bytes
    text: NDArray[np.uint8]  # one after the other


class NameTable:
    """A two-way map between strings and ids from 0; a forgotten id is given out again."""

    def __init__(self) -> None:
        registers = np.zeros(1, REGISTERS)
        registers["free_id"] = NO_NAME
        self._table = Table(
            slots=_new_slots(2 * _FIRST_NAMES),
            names=np.zeros(_FIRST_NAMES, NAME),
            arena=np.zeros(_FIRST_BYTES, np.uint8),
            registers=registers,
            changed=np.zeros(_FIRST_NAMES, np.uint8),
        )

    @classmethod
    def of_rows(cls, rows: Sequence[NameRows], wanted: NDArray[np.bool_]) -> "NameTable":
        """A table with the wanted ids, which are given by bool[ids]; of several rows for an id the
        last one counts. The other ids are free."""
        table = cls()
        ids, lengths, text = (np.concatenate(columns) for columns in zip(*rows, strict=True))
        known = ids < len(wanted)
        last = np.full(len(wanted), -1, np.int64)
        last[ids[known]] = np.flatnonzero(known)
        chosen = np.flatnonzero(wanted)
        if (last[chosen] < 0).any():
            raise ValueError("a name is missing")
        at = (np.cumsum(lengths, dtype=np.int64) - lengths)[last[chosen]]
        lengths = lengths[last[chosen]]
        names = max(len(wanted), _FIRST_NAMES)
        size = 2 * _FIRST_NAMES
        while size < 2 * (len(chosen) + 1):
            size *= 2
        table._table = Table(
            slots=_new_slots(size),
            names=np.zeros(names, NAME),
            arena=np.zeros(max(int(lengths.sum()), _FIRST_BYTES), np.uint8),
            registers=table._table.registers,
            changed=np.zeros(names, np.uint8),
        )
        install(table._table, chosen.astype(np.int32), text, at, lengths, len(wanted))
        rehash(table._table)
        return table

    @property
    def changed(self) -> NDArray[np.uint8]:
        """By id: 1 if it was given out since this was last cleared; to be cleared by the caller."""
        return self._table.changed

    @property
    def hashes(self) -> NDArray[np.uint32]:
        """By id, for those given out so far: 32 bits that depend on the name alone."""
        hashes: NDArray[np.uint32] = self._table.names["hash"][: self.room]
        return hashes

    @property
    def is_sparse(self) -> bool:
        """Whether most of the ids ever given out are free."""
        return self.room > 2 * max(len(self), 2 * _FIRST_NAMES)

    @property
    def text_bytes(self) -> int:
        """Bytes of all names."""
        return int(self._table.registers["live"][0])

    def rows_of(self, ids: NDArray[np.int32]) -> NameRows:
        """The names of those of the ids that are in use."""
        used = ids[self._table.names["length"][ids] >= 0]
        text, lengths = self.names_of(used)
        return NameRows(used, lengths, np.frombuffer(text, np.uint8))

    def __len__(self) -> int:
        return int(self._table.registers["names"][0])

    @property
    def room(self) -> int:
        """One more than the highest id given out so far."""
        return int(self._table.registers["used_ids"][0])

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self._table)

    def ids(self, names: Sequence[str | None]) -> NDArray[np.int32]:
        """The id of every name, in order, as int32[n]; new names get one. None has NO_NAME."""
        text, lengths = encode_names(names)
        return self.ids_of(text, lengths)

    def ids_of(self, text: bytes, lengths: NDArray[np.int32]) -> NDArray[np.int32]:
        """As `ids`, for UTF-8 names one after the other; a negative length stands for no name."""
        ids = np.empty(len(lengths), np.int32)
        hashes = np.empty(len(lengths), np.uint32)
        letters = np.frombuffer(text, np.uint8)
        hash_ahead(self._table, letters, lengths, hashes, ids)
        done = at = 0
        while True:
            done, at = find_or_add(self._table, letters, lengths, hashes, ids, done, at)
            if done == len(ids):
                return ids
            self._grow(int(lengths[done]))

    def names(self, ids: NDArray[np.int32]) -> list[str]:
        """The names that ids in use stand for."""
        text, lengths = self.names_of(ids)
        return _decode(text, lengths)

    def names_of(self, ids: NDArray[np.int32]) -> tuple[bytes, NDArray[np.int32]]:
        """As `names`, but as `ids_of` takes them."""
        lengths = self._table.names["length"][ids]
        text = np.empty(int(lengths.sum()), np.uint8)
        copy_names(self._table, ids, text)
        return text.tobytes(), lengths

    def forget(self, ids: NDArray[np.int32]) -> None:
        """Free ids in use that nothing needs any more."""
        remove(self._table, ids)

    def _grow(self, length: int) -> None:
        """Make room for one more name of so many bytes."""
        table = self._table
        registers = table.registers[0]
        used_ids = int(registers["used_ids"])
        if used_ids == len(table.names):
            names = np.zeros(2 * used_ids, NAME)
            names[:used_ids] = table.names
            changed = np.zeros(2 * used_ids, np.uint8)
            changed[:used_ids] = table.changed
            table = table._replace(names=names, changed=changed)
        if 2 * (len(self) + 1) > len(table.slots):
            table = table._replace(slots=_new_slots(2 * len(table.slots)))
            rehash(table)
        if int(registers["used_bytes"]) + length > len(table.arena):
            wanted = 2 * (int(registers["live"]) + length)
            arena = np.zeros(max(wanted, _FIRST_BYTES), np.uint8)
            compact(table, arena)
            table = table._replace(arena=arena)
        self._table = table


def _new_slots(n: int) -> NDArray[Any]:
    slots = np.zeros(n, SLOT)
    slots["id"] = NO_NAME
    return slots


def encode_names(names: Sequence[str | None]) -> tuple[bytes, NDArray[np.int32]]:
    """Names in UTF-8, one after the other, and their lengths in bytes, -1 for None."""
    missing: list[int] = []
    present: Any = names
    try:
        joined = "".join(present)
    except TypeError:
        missing = [i for i, name in enumerate(names) if name is None]
        present = [name or "" for name in names]
        joined = "".join(present)
    text = joined.encode()
    if len(text) == len(joined):
        lengths = np.fromiter(map(len, present), np.int32, len(present))
    else:
        encoded = [name.encode() for name in present]
        lengths = np.fromiter(map(len, encoded), np.int32, len(encoded))
    lengths[missing] = NO_NAME
    return text, lengths


def _decode(text: bytes, lengths: NDArray[np.int32]) -> list[str]:
    ends = np.cumsum(lengths).tolist()
    joined = text.decode()
    names = []
    start = 0
    if len(joined) == len(text):
        for end in ends:
            names.append(joined[start:end])
            start = end
    else:
        for end in ends:
            names.append(text[start:end].decode())
            start = end
    return names


@kernel
def hash_ahead(
    table: Table,
    text: NDArray[np.uint8],
    lengths: NDArray[np.int32],
    hashes: NDArray[np.uint32],
    likely: NDArray[np.int32],
) -> int:
    """Fill in the hashes, and touch what they lead to.

    Waits for memory overlap here, where no step depends on the one before. The value returned is
    of no use; it keeps the reads from being optimised away.
    """
    at = 0
    for i in range(len(lengths)):
        length = max(lengths[i], 0)
        hashes[i] = hash_of(text, at, length)
        at += length
    mask = len(table.slots) - 1
    for i in range(len(lengths)):
        slot = hashes[i] & mask
        while table.slots[slot].id != NO_NAME and table.slots[slot].hash != hashes[i]:
            slot = (slot + 1) & mask
        likely[i] = max(table.slots[slot].id, 0)
    touched = 0
    last = len(table.arena) - 1
    for index in likely:
        touched += table.arena[min(table.names[index].at, last)]  # `at` of a free id may be beyond
    return touched


@kernel
def find_or_add(
    table: Table,
    text: NDArray[np.uint8],
    lengths: NDArray[np.int32],
    hashes: NDArray[np.uint32],
    ids: NDArray[np.int32],
    done: int,
    at: int,
) -> tuple[int, int]:
    """Fill ids[done:], names starting at text[at]; return how far it got, in names and bytes.

    It stops before n when the table is too small for one more name.
    """
    while done < len(lengths):
        length = np.int64(lengths[done])
        if length >= 0:
            hashed = hashes[done]
            slot = find(table, text, at, length, hashed)
            if table.slots[slot].id == NO_NAME:
                if not has_room(table, length):
                    return done, at
                add(table, slot, text, at, length, hashed)
            ids[done] = table.slots[slot].id
            at += length
        else:
            ids[done] = NO_NAME
        done += 1
    return done, at


@kernel
def hash_of(text: NDArray[np.uint8], at: int, length: int) -> int:
    """FNV-1a, 64 bits folded to 32."""
    hashed = np.uint64(0xCBF29CE484222325)
    for i in range(at, at + length):
        hashed = (hashed ^ np.uint64(text[i])) * np.uint64(0x100000001B3)
    return np.uint32(hashed ^ (hashed >> np.uint64(32)))


@kernel
def find(table: Table, text: NDArray[np.uint8], at: int, length: int, hashed: int) -> int:
    """The slot that holds the name, or the free one where it belongs."""
    mask = len(table.slots) - 1
    slot = hashed & mask
    while table.slots[slot].id != NO_NAME:
        if table.slots[slot].hash == hashed:
            name = table.names[table.slots[slot].id]
            same = name.length == length
            i = 0
            while same and i < length:
                same = table.arena[name.at + i] == text[at + i]
                i += 1
            if same:
                break
        slot = (slot + 1) & mask
    return slot


@kernel
def has_room(table: Table, length: int) -> bool:
    registers = table.registers[0]
    return (
        (registers.free_id >= 0 or registers.used_ids < len(table.names))
        and 2 * (registers.names + 1) <= len(table.slots)
        and registers.used_bytes + length <= len(table.arena)
    )


@kernel
def add(
    table: Table, slot: int, text: NDArray[np.uint8], at: int, length: int, hashed: int
) -> None:
    """Enter a new name in its slot; there is room."""
    registers = table.registers[0]
    index = registers.free_id
    if index >= 0:
        registers.free_id = table.names[index].at
    else:
        index = registers.used_ids
        registers.used_ids += 1
    registers.names += 1
    name = table.names[index]
    name.at = registers.used_bytes
    name.length = length
    name.hash = hashed
    for i in range(length):
        table.arena[name.at + i] = text[at + i]
    registers.used_bytes += length
    registers.live += length
    table.slots[slot].hash = hashed
    table.slots[slot].id = index
    table.changed[index] = 1


@kernel
def install(
    table: Table,
    ids: NDArray[np.int32],
    text: NDArray[np.uint8],
    at: NDArray[np.int64],
    lengths: NDArray[np.int32],
    room: int,
) -> None:
    """Enter names under given ids, ascending, in an empty table with room for them; not yet in its
    slots. The ids below `room` that are left over are free."""
    registers = table.registers[0]
    registers.used_ids = room
    registers.names = len(ids)
    end = 0
    for i in range(len(ids)):
        name = table.names[ids[i]]
        for j in range(lengths[i]):
            table.arena[end + j] = text[at[i] + j]
        name.at = end
        name.length = lengths[i]
        name.hash = hash_of(table.arena, end, np.int64(lengths[i]))
        end += lengths[i]
    registers.used_bytes = end
    registers.live = end
    following = len(ids) - 1
    for index in range(room - 1, -1, -1):
        if following >= 0 and ids[following] == index:
            following -= 1
            continue
        name = table.names[index]
        name.length = NO_NAME
        name.at = registers.free_id
        registers.free_id = index


@kernel
def remove(table: Table, ids: NDArray[np.int32]) -> None:
    registers = table.registers[0]
    mask = len(table.slots) - 1
    for index in ids:
        name = table.names[index]
        slot = name.hash & mask
        while table.slots[slot].id != index:
            slot = (slot + 1) & mask
        close_gap(table, slot)
        registers.live -= name.length
        name.length = NO_NAME
        name.at = registers.free_id
        registers.free_id = index
        registers.names -= 1


@kernel
def close_gap(table: Table, gap: int) -> None:
    """Empty a slot and move up what was pushed beyond it, so that no search ends early."""
    mask = len(table.slots) - 1
    slot = gap
    while True:
        slot = (slot + 1) & mask
        entry = table.slots[slot]
        if entry.id == NO_NAME:
            break
        if ((slot - entry.hash) & mask) >= ((slot - gap) & mask):
            table.slots[gap].hash = entry.hash
            table.slots[gap].id = entry.id
            gap = slot
    table.slots[gap].id = NO_NAME


@kernel
def copy_names(table: Table, ids: NDArray[np.int32], text: NDArray[np.uint8]) -> None:
    """Write the names one after the other."""
    at = 0
    for index in ids:
        name = table.names[index]
        for i in range(name.length):
            text[at + i] = table.arena[name.at + i]
        at += name.length


@kernel
def rehash(table: Table) -> None:
    """Enter every name in the slots, which are empty."""
    mask = len(table.slots) - 1
    for index in range(table.registers[0].used_ids):
        name = table.names[index]
        if name.length >= 0:
            slot = name.hash & mask
            while table.slots[slot].id != NO_NAME:
                slot = (slot + 1) & mask
            table.slots[slot].hash = name.hash
            table.slots[slot].id = index


@kernel
def compact(table: Table, arena: NDArray[np.uint8]) -> None:
    """Move the bytes of every name to a new arena."""
    registers = table.registers[0]
    end = 0
    for index in range(registers.used_ids):
        name = table.names[index]
        if name.length >= 0:
            for i in range(name.length):
                arena[end + i] = table.arena[name.at + i]
            name.at = end
            end += name.length
    registers.used_bytes = end
