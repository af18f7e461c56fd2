"""The session kernel: flat arrays, changed strictly record by record.

A *chain* is a run of one user's events in which each is at most one gap after the one before it.
A chain is cut greedily into *pieces*, as the caps demand; nearly always it is one piece. A piece is
a session. Pieces of a user are linked in time order; whether two neighbours belong to one chain
follows from their times. A piece keeps its events, unsorted, in a linked list in a shared pool:
most events only touch the aggregates of one piece, and only a change of the cut looks at the list.

An event is one int64, time << 3 | stage, so that sorting events also settles equal times.

A piece that was emitted and then lost its start is *buried*: its record, then called a tomb, stays
with the piece that took over its events. It holds the revision that its id has reached, and
whether the retraction is still to be published.

Deadlines are first filed, coarsely, in a ring of buckets, each a list of chunks of pieces. When the
watermark reaches a bucket, its pieces go to a heap, which orders them by (deadline, piece); those
whose deadline has moved on meanwhile are filed again. So the heap is small, and a piece costs
little however many there are. An entry counts only if it is the one that `piece.due` stands for:
a deadline that moves to an earlier time gets a new entry, and the old one is passed over.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dataflows.eventtime.lateness import NOT_AN_EVENT, Lateness
from dataflows.eventtime.watermark import END_OF_TIME_US, START_OF_TIME_US

# int64 and not int: a literal argument would compile a function once more
NONE: Final = np.int64(-1)
NEVER: Final = np.int64(2**63 - 1)
RING: Final = 1024  # buckets; a power of two
CHUNK: Final = 32  # int32 numbers: the next chunk, how many pieces, pieces
CHUNK_PIECES: Final = CHUNK - 2
STAGE_BITS: Final = 3
STAGE_MASK: Final = 7
EVENT: Final = 0
SKIP: Final = 2
UNLISTED: Final = -2

# Nothing here but `take_idle` makes or keeps an array. Counting references to the arrays of the
# store, several at each call, would take three quarters of the time.
kernel = njit(cache=True, nogil=True, _nrt=False)

ON_TIME: Final = int(Lateness.ON_TIME)
LATE: Final = int(Lateness.LATE)
BUFFERED: Final = int(Lateness.BUFFERED)
EXPIRED: Final = int(Lateness.EXPIRED)

PIECE = np.dtype(
    [
        ("first", "i8"),  # earliest event; of a tomb: the start that its id stands for
        ("last", "i8"),  # latest event
        ("due", "i8"),  # time of the deadline entry that counts, or NEVER
        ("older", "i4"),  # neighbours in time, of the same user
        ("newer", "i4"),  # of a tomb: the next tomb; of a free record: the next free one
        ("user", "i4"),
        ("tombs", "i4"),  # first of the tombs within this piece, in time order
        ("head", "i4"),  # list of events
        ("tail", "i4"),
        ("count", "i4"),  # events; 0 in a tomb
        ("revision", "i4"),  # last one published under this id, 0 if none
        ("stage", "u1"),  # highest stage among the events
        ("dirty", "?"),  # differs from what was published
        ("live", "?"),  # published and not retracted
        ("capped", "?"),  # the chain was cut
    ],
    align=True,
)
EVENT_SLOT = np.dtype([("event", "i8"), ("next", "i4")])
DEADLINE = np.dtype([("due", "i8"), ("piece", "i4")], align=True)
SCRATCH = np.dtype([("event", "i8"), ("slot", "i4"), ("cut", "i4"), ("known", "i4")])
USER = np.dtype([("newest", "i4"), ("next_idle", "i4")])
ROW = np.dtype(
    [
        ("started", "i8"),
        ("ended", "i8"),
        ("superseded_by", "i8"),
        ("record", "i4"),
        ("user", "i4"),
        ("count", "i4"),
        ("revision", "i4"),
        ("stage", "u1"),
        ("capped", "?"),
    ],
    align=True,
)
REGISTERS = np.dtype(
    [
        ("watermark", "i8"),
        ("opened", "i8"),  # last bucket of the ring that the watermark has reached
        ("opened_until", "i8"),  # its end
        ("touched", "i8"),  # of no use, but it keeps reads from being optimised away
        ("free_piece", "i4"),  # free records form a list; those from `used` on were never used
        ("free_pieces", "i4"),
        ("used_pieces", "i4"),
        ("free_event", "i4"),
        ("free_events", "i4"),
        ("used_events", "i4"),
        ("deadlines", "i4"),  # entries in the heap
        ("filed", "i4"),  # entries in the ring
        ("free_chunk", "i4"),
        ("used_chunks", "i4"),
        ("idle_user", "i4"),  # list of users that may have no pieces
        ("wanted_pieces", "i4"),  # what the kernel stopped for
        ("wanted_events", "i4"),
        ("wanted_rows", "i4"),
        ("applied", "?"),  # the record's event is in, its rows are not all out
    ],
    align=True,
)


class Store(NamedTuple):
    """The state, as arrays of the dtypes above; `registers` has one element.

    `scratch` is room to work in and no state; deadlines, ring, chunks and `piece.due` follow from
    the rest of the pieces, users from pieces and names. `changed_*` is 1 for each record in which
    anything else was written since it was last cleared.
    """

    pieces: NDArray[Any]
    events: NDArray[Any]
    deadlines: NDArray[Any]
    ring: NDArray[np.int32]
    chunks: NDArray[np.int32]
    users: NDArray[Any]
    registers: NDArray[Any]
    scratch: NDArray[Any]
    changed_pieces: NDArray[np.uint8]
    changed_events: NDArray[np.uint8]


class Limits(NamedTuple):
    """The settings, times in microseconds."""

    gap: int
    bound: int
    lateness: int
    max_duration: int
    max_events: int
    horizon: int
    bucket: int  # width of a bucket of the ring
    sparse_from: int  # so many free records are put up with


class Batch(NamedTuple):
    """n records, in order; `users` are ids, NONE where there is no user."""

    times: NDArray[np.int64]
    users: NDArray[np.int32]
    stages: NDArray[np.uint8]
    kinds: NDArray[np.uint8]


@kernel
def process(
    store: Store,
    limits: Limits,
    batch: Batch,
    lateness: NDArray[np.uint8],
    rows: NDArray[Any],
    record: int,
    filled: int,
) -> tuple[int, int]:
    """Process records from `record` on; return how far it got and how many rows are filled.

    It stops before n when an array is too small (see registers.wanted_*); call again with larger
    ones. It stops, too, after a record that leaves the store sparse (see is_sparse). `lateness`
    uint8[n] receives the class of each record.
    """
    registers = store.registers[0]
    while record < len(batch.times):
        kind = batch.kinds[record]
        user = np.int64(batch.users[record])
        outcome = NOT_AN_EVENT
        if kind != SKIP:
            time = min(max(batch.times[record], START_OF_TIME_US), END_OF_TIME_US)
            registers.watermark = max(registers.watermark, time - limits.bound)
            if registers.watermark >= registers.opened_until:
                open_buckets(store, limits)
            if kind == EVENT:
                outcome = classify_one(time, registers.watermark, limits)
                if outcome <= LATE and not registers.applied:
                    event = time << STAGE_BITS | batch.stages[record]
                    if not apply(store, limits, user, event):
                        return record, filled
                    registers.applied = True
            filled, complete = settle(store, limits, record, rows, filled)
            if not complete:
                return record, filled
            registers.applied = False
        lateness[record] = outcome
        if user >= 0 and store.users[user].newest == NONE:
            note_idle(store, user)
        record += 1
        if is_sparse(store, limits):
            break
    return record, filled


@kernel
def is_sparse(store: Store, limits: Limits) -> bool:
    """Whether most records are free: `compact` is to be called before the next log record.

    When that happens must depend on the log alone, for the numbers of pieces order rows that fall
    due at the same time.
    """
    registers = store.registers[0]
    return registers.free_pieces > max(
        limits.sparse_from, registers.used_pieces // 2
    ) or registers.free_events > max(limits.sparse_from, registers.used_events // 2)


@kernel
def classify_one(time: int, watermark: int, limits: Limits) -> int:
    if time >= watermark:
        return ON_TIME
    if time >= watermark - limits.lateness:
        return LATE
    if time >= watermark - limits.horizon:
        return BUFFERED
    return EXPIRED


@kernel
def find_invalid(
    times: NDArray[np.int64],
    name_lengths: NDArray[np.int32],
    stages: NDArray[np.uint8],
    kinds: NDArray[np.uint8],
    most: int,
) -> int:
    """The first event without a user, with an unknown stage or beyond `most` us; else NONE."""
    for record in range(len(times)):
        if kinds[record] == EVENT and (
            name_lengths[record] < 0
            or stages[record] > STAGE_MASK
            or not -most <= times[record] <= most
        ):
            return record
    return int(NONE)


@kernel
def touch(store: Store, users: NDArray[np.int32], newest: NDArray[np.int32]) -> int:
    """Read what the records of a batch will need first.

    Waits for memory overlap here, where no step depends on the one before. The value returned is
    of no use; it keeps the reads from being optimised away.
    """
    for i in range(len(users)):
        newest[i] = max(store.users[max(users[i], 0)].newest, 0)
    touched = 0
    for index in newest:
        touched += store.pieces[index].first + store.pieces[index].count  # two cache lines
    return touched


@njit(cache=True, nogil=True)
def take_idle(store: Store) -> NDArray[np.int32]:
    """Return the users that have no pieces and are listed as such; empty the list."""
    registers = store.registers[0]
    found = 0
    user = registers.idle_user
    while user >= 0:
        found += store.users[user].newest == NONE
        user = store.users[user].next_idle
    idle = np.empty(found, np.int32)
    user = registers.idle_user
    while user >= 0:
        entry = store.users[user]
        if entry.newest == NONE:
            found -= 1
            idle[found] = user
        user = entry.next_idle
        entry.next_idle = UNLISTED
    registers.idle_user = NONE
    return idle


@kernel
def note_idle(store: Store, user: int) -> None:
    entry = store.users[user]
    if entry.next_idle == UNLISTED:
        entry.next_idle = store.registers[0].idle_user
        store.registers[0].idle_user = user


# -- records and their lists


@kernel
def has_room(store: Store, pieces: int, events: int) -> bool:
    """Whether there is room for an event that schedules so many pieces and moves so many events."""
    registers = store.registers[0]
    deadlines = registers.deadlines + registers.filed + pieces
    fits = (
        registers.free_pieces + len(store.pieces) - registers.used_pieces >= pieces
        and len(store.deadlines) >= deadlines
        and len(store.chunks) >= chunks_for(deadlines)
        and registers.free_events + len(store.events) - registers.used_events >= 1
        and len(store.scratch) >= events
    )
    if not fits:
        registers.wanted_pieces = pieces
        registers.wanted_events = events
    return fits


@kernel
def chunks_for(deadlines: int) -> int:
    """Chunks that hold so many entries whichever buckets they are in, and one being emptied."""
    return deadlines // CHUNK_PIECES + RING + 2


@kernel
def new_piece(store: Store, user: int) -> np.int64:
    """A record for a piece that was never published, without events or neighbours."""
    registers = store.registers[0]
    index = np.int64(registers.free_piece)
    if index >= 0:
        registers.free_piece = store.pieces[index].newer
        registers.free_pieces -= 1
    else:
        index = registers.used_pieces
        registers.used_pieces += 1
    store.changed_pieces[index] = 1
    piece = store.pieces[index]
    piece.due = NEVER
    piece.older = NONE
    piece.newer = NONE
    piece.user = user
    piece.tombs = NONE
    piece.count = 0
    piece.revision = 0
    piece.stage = 0
    piece.dirty = True
    piece.live = False
    piece.capped = False
    return index


@kernel
def free_record(store: Store, index: int) -> None:
    registers = store.registers[0]
    store.changed_pieces[index] = 1
    piece = store.pieces[index]
    piece.due = NEVER
    piece.count = 0  # as in a tomb: no session
    piece.newer = registers.free_piece
    registers.free_piece = index
    registers.free_pieces += 1


@kernel
def new_event(store: Store, event: int) -> np.int64:
    registers = store.registers[0]
    slot = np.int64(registers.free_event)
    if slot >= 0:
        registers.free_event = store.events[slot].next
        registers.free_events -= 1
    else:
        slot = registers.used_events
        registers.used_events += 1
    store.changed_events[slot] = 1
    store.events[slot].event = event
    store.events[slot].next = NONE
    return slot


@kernel
def link(store: Store, user: int, older: int, newer: int) -> None:
    """Make two pieces of the user neighbours; either may be NONE."""
    if older >= 0:
        store.pieces[older].newer = newer
        store.changed_pieces[older] = 1
    if newer >= 0:
        store.pieces[newer].older = older
        store.changed_pieces[newer] = 1
    else:
        store.users[user].newest = older


@kernel
def free_piece(store: Store, index: int) -> None:
    """Free a piece with its events and tombs; note the user when it was the last."""
    registers = store.registers[0]
    piece = store.pieces[index]
    user = np.int64(piece.user)
    link(store, user, np.int64(piece.older), np.int64(piece.newer))
    store.events[piece.tail].next = registers.free_event
    store.changed_events[piece.tail] = 1
    registers.free_event = piece.head
    registers.free_events += piece.count
    tomb = np.int64(piece.tombs)
    while tomb >= 0:
        following = np.int64(store.pieces[tomb].newer)
        free_record(store, tomb)
        tomb = following
    if store.users[user].newest == NONE:
        note_idle(store, user)
    free_record(store, index)


# -- deadlines


@kernel
def deadline(piece: Any, limits: Limits) -> int:
    """The piece is due once the watermark is beyond this: to be emitted, or else to be freed."""
    closed = (piece.last >> STAGE_BITS) + limits.gap
    if piece.dirty:
        return closed
    return closed + limits.lateness


@kernel
def schedule(store: Store, limits: Limits, index: int) -> None:
    """See to it that there is an entry no later than the piece's deadline."""
    piece = store.pieces[index]
    due = deadline(piece, limits)
    if due < piece.due:
        file(store, limits, index, due)


@kernel
def file(store: Store, limits: Limits, index: int, due: int) -> None:
    """Enter a deadline, in the heap or in the ring."""
    registers = store.registers[0]
    store.pieces[index].due = due
    if due < registers.opened_until:
        push(store, due, index)
        return
    bucket = due // limits.bucket & (RING - 1)
    chunk = np.int64(store.ring[bucket])
    if chunk == NONE or store.chunks[chunk, 1] == CHUNK_PIECES:
        chunk = new_chunk(store, chunk)
        store.ring[bucket] = chunk
    store.chunks[chunk, 2 + store.chunks[chunk, 1]] = index
    store.chunks[chunk, 1] += 1
    registers.filed += 1


@kernel
def new_chunk(store: Store, following: int) -> np.int64:
    registers = store.registers[0]
    chunk = np.int64(registers.free_chunk)
    if chunk >= 0:
        registers.free_chunk = store.chunks[chunk, 0]
    else:
        chunk = np.int64(registers.used_chunks)
        registers.used_chunks += 1
    store.chunks[chunk, 0] = following
    store.chunks[chunk, 1] = 0
    return chunk


@kernel
def open_buckets(store: Store, limits: Limits) -> None:
    """Open the buckets that the watermark has reached, at most once round the ring."""
    registers = store.registers[0]
    reached = registers.watermark // limits.bucket
    first = registers.opened + 1
    last = min(reached, registers.opened + RING)
    registers.opened = reached
    registers.opened_until = (reached + 1) * limits.bucket
    for bucket in range(first, last + 1):
        open_bucket(store, limits, bucket)


@kernel
def open_bucket(store: Store, limits: Limits, bucket: int) -> None:
    """File the pieces of a bucket anew: by now they belong in the heap, or in a later bucket."""
    registers = store.registers[0]
    begin = bucket * limits.bucket
    end = begin + limits.bucket
    chunk = np.int64(store.ring[bucket & (RING - 1)])
    store.ring[bucket & (RING - 1)] = NONE
    while chunk >= 0:
        entries = store.chunks[chunk, 1]
        for i in range(2, 2 + entries):  # the waits for memory overlap
            piece = store.pieces[store.chunks[chunk, i]]
            registers.touched += piece.due + piece.count
        registers.filed -= entries
        for i in range(2, 2 + entries):
            index = np.int64(store.chunks[chunk, i])
            piece = store.pieces[index]
            if begin <= piece.due < end:
                file(store, limits, index, deadline(piece, limits))
        following = np.int64(store.chunks[chunk, 0])
        store.chunks[chunk, 0] = registers.free_chunk
        registers.free_chunk = chunk
        chunk = following


@kernel
def push(store: Store, due: int, index: int) -> None:
    heap = store.deadlines
    at = store.registers[0].deadlines
    store.registers[0].deadlines += 1
    while at > 0:
        parent = (at - 1) >> 1
        if not precedes(due, index, heap[parent]):
            break
        heap[at].due = heap[parent].due
        heap[at].piece = heap[parent].piece
        at = parent
    heap[at].due = due
    heap[at].piece = index


@kernel
def pop(store: Store) -> None:
    """Drop the first entry of the heap."""
    heap = store.deadlines
    store.registers[0].deadlines -= 1
    size = store.registers[0].deadlines
    if size == 0:
        return
    due = heap[size].due
    index = np.int64(heap[size].piece)
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and precedes(heap[child + 1].due, heap[child + 1].piece, heap[child]):
            child += 1
        if precedes(due, index, heap[child]):
            break
        heap[at].due = heap[child].due
        heap[at].piece = heap[child].piece
        at = child
    heap[at].due = due
    heap[at].piece = index


@kernel
def precedes(due: int, piece: int, entry: Any) -> bool:
    return due < entry.due or (due == entry.due and piece < entry.piece)


@kernel
def settle(
    store: Store, limits: Limits, record: int, rows: NDArray[Any], filled: int
) -> tuple[int, bool]:
    """Emit and free what the watermark has passed; return how many rows are filled.

    With it comes False if there are more and `rows` is full.
    """
    registers = store.registers[0]
    while registers.deadlines > 0 and store.deadlines[0].due < registers.watermark:
        expected = store.deadlines[0].due
        index = np.int64(store.deadlines[0].piece)
        piece = store.pieces[index]
        due = deadline(piece, limits)
        if piece.due != expected:
            pop(store)
            continue
        if due == expected and piece.dirty:
            wanted = 1 + count_pending(store, piece.tombs)
            if filled + wanted > len(rows):
                registers.wanted_rows = filled + wanted
                return filled, False
            filled = emit(store, index, record, rows, filled)
            due = deadline(piece, limits)
        elif due == expected:
            free_piece(store, index)
            due = NEVER
        pop(store)
        if due != NEVER:
            file(store, limits, index, due)
    return filled, True


# -- rows


@kernel
def count_pending(store: Store, tomb: int) -> int:
    pending = 0
    while tomb >= 0:
        pending += store.pieces[tomb].live
        tomb = store.pieces[tomb].newer
    return pending


@kernel
def emit(store: Store, index: int, record: int, rows: NDArray[Any], filled: int) -> int:
    """Write the piece's row, then the retractions of ids that it supersedes, in time order."""
    store.changed_pieces[index] = 1
    piece = store.pieces[index]
    piece.revision += 1
    piece.dirty = False
    piece.live = True
    row = rows[filled]
    row.record = record
    row.user = piece.user
    row.started = piece.first >> STAGE_BITS
    row.ended = piece.last >> STAGE_BITS
    row.superseded_by = NONE
    row.count = piece.count
    row.revision = piece.revision
    row.stage = piece.stage
    row.capped = piece.capped
    filled += 1
    index = piece.tombs
    while index >= 0:
        tomb = store.pieces[index]
        if tomb.live:
            store.changed_pieces[index] = 1
            tomb.revision += 1
            tomb.live = False
            row = rows[filled]
            row.record = record
            row.user = piece.user
            row.started = tomb.first >> STAGE_BITS
            row.ended = row.started
            row.superseded_by = piece.first >> STAGE_BITS
            row.count = 0
            row.revision = tomb.revision
            row.stage = 0
            row.capped = False
            filled += 1
        index = tomb.newer
    return filled


# -- an event


@kernel
def fits(limits: Limits, first: int, count: int, event: int) -> bool:
    """Whether the caps let an event follow `count` others in a piece.

    Events of the very instant at which a piece starts always fit: the next piece would start at
    the same time, and the start is what names a session.
    """
    started = first >> STAGE_BITS
    time = event >> STAGE_BITS
    return time - started <= limits.max_duration and (count < limits.max_events or time == started)


@kernel
def accepts(limits: Limits, piece: Any, event: int) -> bool:
    """Whether an event at or after the piece's first goes in without another going out."""
    instant = piece.first >> STAGE_BITS == piece.last >> STAGE_BITS
    full = piece.count >= limits.max_events and not instant
    return not full and fits(limits, piece.first, np.int64(piece.count), event)


@kernel
def apart(limits: Limits, earlier: int, later: int) -> bool:
    """Whether more than a gap lies between two events."""
    return (later >> STAGE_BITS) - (earlier >> STAGE_BITS) > limits.gap


@kernel
def apply(store: Store, limits: Limits, user: int, event: int) -> bool:
    """Bring an accepted event in; return False, with nothing changed, if the store is too small."""
    if not has_room(store, np.int64(2), np.int64(0)):
        return False
    pieces = store.pieces
    newer = NONE
    older = np.int64(store.users[user].newest)
    while older >= 0 and pieces[older].first > event:
        newer = older
        older = np.int64(pieces[older].older)
    joins_older = older >= 0 and not apart(limits, pieces[older].last, event)
    joins_newer = newer >= 0 and not apart(limits, event, pieces[newer].first)
    if joins_older:
        piece = pieces[older]
        within = event < piece.last
        bridges = joins_newer and apart(limits, piece.last, pieces[newer].first)
        if not bridges and accepts(limits, piece, event):
            append(store, older, event)
            schedule(store, limits, older)
            return True
        reused = piece.tombs != NONE  # its start may be the id of one of them
        if joins_newer or within or reused:
            return recut(store, limits, user, older, event)
        if not piece.capped:
            store.changed_pieces[older] = 1
            piece.capped = True
            piece.dirty = True
            schedule(store, limits, older)
    elif joins_newer:
        return recut(store, limits, user, newer, event)
    index = new_piece(store, user)
    pieces[index].first = event
    pieces[index].tail = NONE
    pieces[index].head = NONE
    pieces[index].last = event
    pieces[index].capped = joins_older
    append(store, index, event)
    link(store, user, older, index)
    link(store, user, index, newer)
    schedule(store, limits, index)
    return True


@kernel
def append(store: Store, index: int, event: int) -> None:
    """Add an event that does not come before the piece's first."""
    slot = new_event(store, event)
    store.changed_pieces[index] = 1
    piece = store.pieces[index]
    if piece.count == 0:
        piece.tail = slot
    else:
        store.events[slot].next = piece.head
    piece.head = slot
    piece.count += 1
    piece.last = max(piece.last, event)
    piece.stage = max(piece.stage, event & STAGE_MASK)
    piece.dirty = True


# -- cutting a chain again


@kernel
def recut(store: Store, limits: Limits, user: int, start: int, event: int) -> bool:
    """Bring in an event that changes where pieces begin; False if the store is too small.

    Pieces are cut again from `start` on, until the cut falls in with the old one. `event` lies in
    or next to `start`.
    """
    pieces, events = measure(store, limits, start, event)
    if not has_room(store, pieces + 2, events + 2):
        return False
    scratch = store.scratch
    loaded = load(store, start, np.int64(0))
    loaded = insert(store, loaded, event)
    capped = store.pieces[start].capped
    outer = next_in_chain(store, limits, start, event)
    begin = 0
    cuts = 0
    while begin < loaded:
        scratch[cuts].cut = begin
        cuts += 1
        first = scratch[begin].event
        end = begin + 1
        while True:
            while end < loaded and fits(limits, first, end - begin, scratch[end].event):
                end += 1
            if end < loaded or outer == NONE:
                break
            if not fits(limits, first, end - begin, store.pieces[outer].first):
                break
            loaded = load(store, outer, loaded)
            outer = next_in_chain(store, limits, outer, event)
        begin = end
    scratch[cuts].cut = loaded
    if outer != NONE and not store.pieces[outer].capped:
        store.changed_pieces[outer] = 1
        store.pieces[outer].capped = True
        store.pieces[outer].dirty = True
        schedule(store, limits, outer)
    capped |= cuts > 1 or outer != NONE  # that `outer` was capped implies one of these
    reconcile(store, limits, user, start, cuts, capped)
    return True


@kernel
def next_in_chain(store: Store, limits: Limits, index: int, event: int) -> np.int64:
    """The piece after this one in its chain, NONE at the end; `event` is about to join it."""
    piece = store.pieces[index]
    following = np.int64(piece.newer)
    if following >= 0 and not apart(limits, max(piece.last, event), store.pieces[following].first):
        return following
    return NONE


@kernel
def measure(store: Store, limits: Limits, start: int, event: int) -> tuple[int, int]:
    """Pieces and events of the chain from `start` on."""
    pieces = 0
    events = 0
    index = start
    while index != NONE:
        pieces += 1
        events += store.pieces[index].count
        index = next_in_chain(store, limits, index, event)
    return pieces, events


@kernel
def load(store: Store, index: int, at: int) -> int:
    """Copy a piece's events, sorted, and their slots to scratch[at:]; return where they end."""
    scratch = store.scratch
    end = at + store.pieces[index].count
    slot = store.pieces[index].head
    ordered = True
    for i in range(end - 1, at - 1, -1):
        scratch[i].event = store.events[slot].event
        scratch[i].slot = slot
        ordered &= i == end - 1 or scratch[i].event <= scratch[i + 1].event
        slot = store.events[slot].next
    if not ordered:
        sort_events(scratch, at, end)
    return end


@kernel
def sort_events(scratch: NDArray[Any], begin: int, end: int) -> None:
    """Shell sort with Knuth's gaps: quick on what is nearly sorted, never quadratic."""
    gap = 1
    while gap < (end - begin) // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(begin + gap, end):
            event = scratch[i].event
            at = i
            while at - gap >= begin and scratch[at - gap].event > event:
                scratch[at].event = scratch[at - gap].event
                at -= gap
            scratch[at].event = event
        gap //= 3


@kernel
def insert(store: Store, loaded: int, event: int) -> int:
    """Put a new event in its place among the loaded ones; return how many there are now."""
    scratch = store.scratch
    at = loaded
    while at > 0 and scratch[at - 1].event > event:
        scratch[at].event = scratch[at - 1].event
        at -= 1
    scratch[at].event = event
    scratch[loaded].slot = new_event(store, event)
    return loaded + 1


@kernel
def reconcile(store: Store, limits: Limits, user: int, start: int, cuts: int, capped: bool) -> None:
    """Replace the pieces from `start` on, whose events are loaded, by those between the cuts.

    A piece that starts where an old one, or a tomb, does goes on under its id; the other old ones
    are buried in the piece that covers their start.
    """
    scratch = store.scratch
    previous = np.int64(store.pieces[start].older)
    known, outer = list_known(store, start, scratch[cuts].cut - 1)
    k = np.int64(0)
    for n in range(cuts):
        started = scratch[scratch[n].cut].event >> STAGE_BITS
        if n > 0:
            k = bury_until(store, k, known, started, previous)
            schedule(store, limits, previous)
        if k < known and store.pieces[scratch[k].known].first >> STAGE_BITS == started:
            index = np.int64(scratch[k].known)
            k += 1
        else:
            index = new_piece(store, user)
        store.pieces[index].tombs = NONE
        refill(store, index, scratch[n].cut, scratch[n + 1].cut, capped)
        link(store, user, previous, index)
        previous = index
    bury_until(store, k, known, NEVER, previous)
    schedule(store, limits, previous)
    link(store, user, previous, outer)


@kernel
def list_known(store: Store, start: int, events: int) -> tuple[int, np.int64]:
    """Write the pieces from `start` on that hold so many events, and their tombs, to `known`.

    They come in the order of their starts. Return how many, and the piece after them.
    """
    known = 0
    index = np.int64(start)
    while events > 0:
        events -= store.pieces[index].count
        store.scratch[known].known = index
        known += 1
        tomb = store.pieces[index].tombs
        while tomb >= 0:
            store.scratch[known].known = tomb
            known += 1
            tomb = store.pieces[tomb].newer
        index = np.int64(store.pieces[index].newer)
    return known, index


@kernel
def bury_until(store: Store, k: int, known: int, started: int, owner: int) -> int:
    """Bury the known from k on that start before `started` in the owner; return the next k."""
    last_tomb = NONE
    while k < known and store.pieces[store.scratch[k].known].first >> STAGE_BITS < started:
        index = np.int64(store.scratch[k].known)
        k += 1
        tomb = store.pieces[index]
        if tomb.revision == 0:
            free_record(store, index)
            continue
        store.changed_pieces[index] = 1
        tomb.due = NEVER
        tomb.count = 0
        tomb.tombs = NONE
        tomb.newer = NONE
        if last_tomb == NONE:
            store.pieces[owner].tombs = index  # just filled, so marked as changed
        else:
            store.pieces[last_tomb].newer = index
        last_tomb = index
        if tomb.live:
            # the owner gained an event, yet looks the same if it lost another of its first instant
            store.pieces[owner].dirty = True
    return k


@kernel
def refill(store: Store, index: int, begin: int, end: int, capped: bool) -> None:
    """Make the loaded events begin..end the content of the piece."""
    scratch = store.scratch
    stage = 0
    below = NONE
    for i in range(begin, end):
        slot = scratch[i].slot
        store.changed_events[slot] = 1
        store.events[slot].event = scratch[i].event
        store.events[slot].next = below
        below = np.int64(slot)
        stage = max(stage, scratch[i].event & STAGE_MASK)
    store.changed_pieces[index] = 1
    piece = store.pieces[index]
    last = scratch[end - 1].event
    if (
        piece.count != end - begin
        or piece.last >> STAGE_BITS != last >> STAGE_BITS
        or piece.stage != stage
        or piece.capped != capped
    ):
        piece.dirty = True
    piece.first = scratch[begin].event
    piece.last = last
    piece.head = scratch[end - 1].slot
    piece.tail = scratch[begin].slot
    piece.count = end - begin
    piece.stage = stage
    piece.capped = capped


# -- the store anew


@kernel
def compact(store: Store, dense: Store, moved: NDArray[np.int32]) -> None:
    """Copy what is in use to an empty store with room for it; pieces keep their order.

    `moved` int32[used pieces] receives their new numbers. Registers, users and ring are shared by
    both stores.
    """
    registers = store.registers[0]
    number_in_order(store, moved)
    events = 0
    for index in range(len(moved)):
        if moved[index] == NONE:
            continue
        dense.pieces[moved[index]] = store.pieces[index]
        piece = dense.pieces[moved[index]]
        piece.older = renumbered(moved, np.int64(piece.older))
        piece.newer = renumbered(moved, np.int64(piece.newer))
        piece.tombs = renumbered(moved, np.int64(piece.tombs))
        if piece.count > 0:
            piece.head = events
            events = copy_events(store, dense, store.pieces[index], events)
            piece.tail = events - 1
    for user in range(len(store.users)):
        store.users[user].newest = renumbered(moved, np.int64(store.users[user].newest))
    registers.used_pieces -= registers.free_pieces
    registers.free_pieces = 0
    registers.free_piece = NONE
    registers.used_events = events
    registers.free_events = 0
    registers.free_event = NONE


@kernel
def number_in_order(store: Store, moved: NDArray[np.int32]) -> None:
    """Number the pieces in use from 0 on; the free ones get NONE."""
    moved[:] = 0
    free = np.int64(store.registers[0].free_piece)
    while free >= 0:
        moved[free] = NONE
        free = np.int64(store.pieces[free].newer)
    used = 0
    for index in range(len(moved)):
        if moved[index] != NONE:
            moved[index] = used
            used += 1


@kernel
def renumbered(moved: NDArray[np.int32], index: int) -> np.int64:
    return np.int64(moved[index]) if index >= 0 else NONE


@kernel
def copy_events(store: Store, dense: Store, piece: Any, at: int) -> int:
    """Copy a piece's events to slots from `at` on; return where they end."""
    slot = np.int64(piece.head)
    for i in range(piece.count):
        dense.events[at].event = store.events[slot].event
        dense.events[at].next = at + 1 if i < piece.count - 1 else NONE
        slot = np.int64(store.events[slot].next)
        at += 1
    return at


@kernel
def file_all(store: Store, limits: Limits) -> None:
    """Enter the deadlines of all pieces, where there is none yet but room for them."""
    registers = store.registers[0]
    registers.deadlines = 0
    registers.filed = 0
    registers.used_chunks = 0
    registers.free_chunk = NONE
    store.ring[:] = NONE
    for index in range(registers.used_pieces):
        piece = store.pieces[index]
        if piece.count > 0:
            file(store, limits, np.int64(index), deadline(piece, limits))


@kernel
def find_newest(store: Store) -> None:
    """Enter each user's newest piece, where there is none yet."""
    for index in range(store.registers[0].used_pieces):
        piece = store.pieces[index]
        if piece.count > 0 and piece.newer == NONE:
            store.users[piece.user].newest = index
