"""The compiled kernel of :mod:`dataflows.eventtime.windows`: flat arrays, no objects, no I/O.

Every entity owns one slab of the pool: its events in order of event time (equal times in order of
arrival), at positions ``start <= p < end``. Positions before ``start`` are expired. Links join the
occurrences of one `other` inside a slab: ``before`` and ``after`` of an event are the positions of
the neighbouring occurrences, or NONE; a ``before`` that is less than ``start`` has expired too.

Per entity and window the kernel keeps the state of the window that ends at the entity's newest
event: where it begins, where its maximum stands, how many others are in it. An event in order moves
that state by amortised O(1); an event out of order costs what it overtakes.

What is touched together lies together (a row an event, a row an entity), and the functions take few
arrays: both count more for speed here than the arithmetic does.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

NONE = -1
SMALLEST_SLAB = 4
SIZE_CLASSES = 32
NO_PREVIOUS = -1

# Columns of Pool.events
TIME, TOTAL = 0, 1
# Columns of Store.entities; then per window LO, PEAK and the distinct count of every other.
BASE, SIZE, START, END, WINDOWS = 0, 1, 2, 3, 4
LO, PEAK, DISTINCT = 0, 1, 2

# Nothing here makes or keeps an array; see sessions_kernel for what counting references costs.
kernel = njit(cache=True, nogil=True, _nrt=False)


class Pool(NamedTuple):
    """Slabs of events; P is the room, M the number of others of an event."""

    events: NDArray[np.int64]  # [P, 2] event time (us); sum of the slab's values up to this event
    others: NDArray[np.int32]  # [M, P] id of the other, or NONE
    links: NDArray[np.int32]  # [P, 2 M] before and after of every other
    slabs: NDArray[np.int64]  # [SIZE_CLASSES + 1] first free slab a class (the next one is in its
    # first event's time), then where the untouched part begins


class References(NamedTuple):
    """How many retained events name an other; an id that nobody names is put into `idle`."""

    held: NDArray[np.int32]  # [M, K]
    idle: NDArray[np.int32]  # [M, K]
    is_idle: NDArray[np.bool_]  # [M, K]
    idle_length: NDArray[np.int64]  # [M]


class Answers(NamedTuple):
    """The columns that one call fills; n is the number of records."""

    windows: NDArray[np.int64]  # [W, 3 + M, n] count, sum, maximum, distinct others
    seen: NDArray[np.bool_]  # [M, n]
    since: NDArray[np.int64]  # [n]


def entity_width(windows: int, others: int) -> int:
    """Columns of the entities' rows."""
    return WINDOWS + windows * (DISTINCT + others)


@kernel
def allocate(pool: Pool, size: int) -> int:
    """A slab of this size class, or NONE when the pool has to grow first."""
    base = pool.slabs[size]
    if base != NONE:
        pool.slabs[size] = pool.events[base, TIME]
        return base
    base = pool.slabs[SIZE_CLASSES]
    if base + (SMALLEST_SLAB << size) > len(pool.events):
        return NONE
    pool.slabs[SIZE_CLASSES] = base + (SMALLEST_SLAB << size)
    return base


@kernel
def release(pool: Pool, base: int, size: int) -> None:
    pool.events[base, TIME] = pool.slabs[size]
    pool.slabs[size] = base


@kernel
def make_room(pool: Pool, entity: NDArray[np.int32]) -> bool:
    """Room for one more event in a full slab: drop the expired, move where the size is wrong."""
    others = len(pool.others)
    size, start, end = entity[SIZE], entity[START], entity[END]
    live = end - start
    fitting = 0
    while SMALLEST_SLAB << fitting < live + max(live >> 1, 1):
        fitting += 1
    old = int(entity[BASE]) * SMALLEST_SLAB
    new = old
    if fitting != size:
        new = allocate(pool, fitting)
        if new == NONE:
            return False
    move_events(pool, old + start, new, live, start)
    if fitting != size and size != NONE:
        release(pool, old, size)
    entity[BASE] = new // SMALLEST_SLAB
    entity[SIZE] = fitting
    entity[START] = 0
    entity[END] = live
    for at in range(WINDOWS, len(entity), DISTINCT + others):
        entity[at + LO] -= start
        if entity[at + PEAK] != NONE:
            entity[at + PEAK] -= start
    return True


@kernel
def move_events(pool: Pool, source: int, target: int, live: int, shift: int) -> None:
    """Copy `live` events to the front of a slab; their links lose `shift` positions."""
    paid = int(pool.events[source - 1, TOTAL]) if shift > 0 else 0
    for j in range(live):
        pool.events[target + j, TIME] = pool.events[source + j, TIME]
        pool.events[target + j, TOTAL] = pool.events[source + j, TOTAL] - paid
        for m in range(len(pool.others)):
            pool.others[m, target + j] = pool.others[m, source + j]
        for k in range(pool.links.shape[1]):
            pool.links[target + j, k] = max(pool.links[source + j, k] - shift, NONE)


@kernel
def value_at(events: NDArray[np.int64], base: int, position: int) -> int:
    if position == 0:
        return events[base, TOTAL]
    return events[base + position, TOTAL] - events[base + position - 1, TOTAL]


@kernel
def highest(events: NDArray[np.int64], base: int, lo: int, hi: int) -> int:
    """Position of the last maximum in lo <= p < hi; NONE if there is none."""
    best = NONE
    most = 0
    for p in range(lo, hi):
        value = value_at(events, base, p)
        if best == NONE or value >= most:
            best, most = p, value
    return best


@kernel
def let_go(references: References, m: int, name: int) -> None:
    """Put an id on the idle list, once, when no event names it."""
    if name != NONE and references.held[m, name] == 0 and not references.is_idle[m, name]:
        references.is_idle[m, name] = True
        references.idle[m, references.idle_length[m]] = name
        references.idle_length[m] += 1


@kernel
def leave(pool: Pool, entity: NDArray[np.int32], at: int, event: int) -> None:
    """The first event of the newest window at `at` leaves it: its others may leave with it."""
    for m in range(len(pool.others)):
        if pool.others[m, event] != NONE and pool.links[event, 2 * m + 1] == NONE:
            entity[at + DISTINCT + m] -= 1
    entity[at + LO] += 1


@kernel
def expire(pool: Pool, references: References, entity: NDArray[np.int32], floor: int) -> None:
    """Free the entity's events with time <= floor, and its slab when none is left."""
    base, end = int(entity[BASE]) * SMALLEST_SLAB, entity[END]
    others = len(pool.others)
    p = entity[START]
    while p < end and pool.events[base + p, TIME] <= floor:
        for at in range(WINDOWS, len(entity), DISTINCT + others):
            if entity[at + LO] == p:
                leave(pool, entity, at, base + p)
        for m in range(others):
            name = pool.others[m, base + p]
            if name != NONE:
                references.held[m, name] -= 1
                let_go(references, m, name)
        p += 1
    entity[START] = p
    for at in range(WINDOWS, len(entity), DISTINCT + others):
        if entity[at + PEAK] < p:
            entity[at + PEAK] = highest(pool.events, base, entity[at + LO], end)
    if p == end:
        release(pool, base, entity[SIZE])
        entity[:] = 0
        entity[SIZE] = NONE
        for at in range(WINDOWS, len(entity), DISTINCT + others):
            entity[at + PEAK] = NONE


@kernel
def latest(names: NDArray[np.int32], lo: int, hi: int, name: int) -> int:
    """The last index in lo <= i < hi that holds the name, or NONE."""
    stride = 32
    while hi - lo >= stride:
        found = False  # without an early exit the compiler compares many at once
        for i in range(hi - stride, hi):
            found |= names[i] == name
        if found:
            break
        hi -= stride
    for i in range(hi - 1, lo - 1, -1):
        if names[i] == name:
            return i
    return NONE


@kernel
def shift_up(pool: Pool, base: int, start: int, position: int, end: int, value: int) -> None:
    """Move the events from `position` on up by one; `value` now comes before them."""
    for j in range(end - 1, position - 1, -1):
        event = base + j
        pool.events[event + 1, TIME] = pool.events[event, TIME]
        pool.events[event + 1, TOTAL] = pool.events[event, TOTAL] + value
        for m in range(len(pool.others)):
            before, after = pool.links[event, 2 * m], pool.links[event, 2 * m + 1]
            if before >= position:
                before += 1
            elif before >= start:
                pool.links[base + before, 2 * m + 1] = j + 1
            pool.others[m, event + 1] = pool.others[m, event]
            pool.links[event + 1, 2 * m] = before
            pool.links[event + 1, 2 * m + 1] = after + 1 if after != NONE else NONE


@kernel
def link(pool: Pool, base: int, start: int, p: int, end: int, m: int, name: int) -> None:
    """Enter the new event's other at position p between its neighbouring occurrences."""
    others, links, event = pool.others[m], pool.links, base + p
    others[event] = name
    links[event, 2 * m] = NONE
    links[event, 2 * m + 1] = NONE
    if name == NONE:
        return
    before = latest(others, base + start, event, name)
    if before != NONE:
        after = links[before, 2 * m + 1]
        links[before, 2 * m + 1] = p
        links[event, 2 * m] = before - base
        links[event, 2 * m + 1] = after
        if after != NONE:
            links[base + after, 2 * m] = p
        return
    for j in range(p + 1, end):
        if others[base + j] == name:
            links[event, 2 * m + 1] = j
            links[base + j, 2 * m] = p
            return


@kernel
def insert(pool: Pool, entity: NDArray[np.int32], time: int, value: int) -> int:
    """Put an event at its place in time (there is room) and return its position."""
    events = pool.events
    base, start, end = int(entity[BASE]) * SMALLEST_SLAB, entity[START], entity[END]
    p = end
    while p > start and events[base + p - 1, TIME] > time:
        p -= 1
    if p < end:
        shift_up(pool, base, start, p, end, value)
    events[base + p, TIME] = time
    events[base + p, TOTAL] = value + (events[base + p - 1, TOTAL] if p > 0 else 0)
    entity[END] = end + 1
    return p


@kernel
def enter_windows(
    pool: Pool, entity: NDArray[np.int32], p: int, value: int, windows: NDArray[np.int64]
) -> None:
    """Bring the newest windows up to date with the event just inserted and linked at p."""
    events, others = pool.events, len(pool.others)
    base, end = int(entity[BASE]) * SMALLEST_SLAB, entity[END]
    event = base + p
    newest = events[base + end - 1, TIME]
    for w in range(len(windows)):
        at = WINDOWS + w * (DISTINCT + others)
        lo, peak, until = entity[at + LO], entity[at + PEAK], newest - windows[w]
        if p < lo:
            entity[at + LO] += 1
            if peak != NONE:
                entity[at + PEAK] += 1
            continue
        if peak >= p:
            peak += 1
        if peak == NONE or value >= value_at(events, base, peak):
            peak = p
        for m in range(others):
            alone = pool.links[event, 2 * m] < lo and pool.links[event, 2 * m + 1] == NONE
            if alone and pool.others[m, event] != NONE:
                entity[at + DISTINCT + m] += 1
        while events[base + lo, TIME] <= until:
            leave(pool, entity, at, base + lo)
            lo += 1
        entity[at + PEAK] = peak if peak >= lo else highest(events, base, lo, end)


@kernel
def distinct_before(pool: Pool, entity: NDArray[np.int32], at: int, m: int, p: int, lo: int) -> int:
    """Distinct others at lo..p, from those of the newest window by moving both its edges back."""
    base, end = int(entity[BASE]) * SMALLEST_SLAB, entity[END]
    edge = entity[at + LO]
    found = 0
    if edge > p:
        edge = p + 1
    else:
        found += entity[at + DISTINCT + m]
        for event in range(base + end - 1, base + p, -1):
            if pool.others[m, event] != NONE and pool.links[event, 2 * m] < edge:
                found -= 1
    for event in range(base + edge - 1, base + lo - 1, -1):
        after = pool.links[event, 2 * m + 1]
        if pool.others[m, event] != NONE and (after == NONE or after > p):
            found += 1
    return found


@kernel
def highest_before(pool: Pool, entity: NDArray[np.int32], at: int, lo: int, p: int) -> int:
    """Position of a maximum at lo..p; that of the newest window spares most of the search."""
    base = int(entity[BASE]) * SMALLEST_SLAB
    peak = entity[at + PEAK]
    if not lo <= peak <= p:
        return highest(pool.events, base, lo, p + 1)
    earlier = highest(pool.events, base, lo, entity[at + LO])
    if earlier == NONE:
        return peak
    most = value_at(pool.events, base, peak)
    return earlier if value_at(pool.events, base, earlier) > most else peak


@kernel
def answer_newest(
    pool: Pool, entity: NDArray[np.int32], windows: int, answers: NDArray[np.int64], i: int
) -> None:
    """Row i from the newest windows as they stand."""
    others = len(pool.others)
    base, last = int(entity[BASE]) * SMALLEST_SLAB, entity[END] - 1
    for w in range(windows):
        at = WINDOWS + w * (DISTINCT + others)
        lo = entity[at + LO]
        paid = pool.events[base + lo - 1, TOTAL] if lo > 0 else 0
        answers[w, 0, i] = last + 1 - lo
        answers[w, 1, i] = pool.events[base + last, TOTAL] - paid
        answers[w, 2, i] = value_at(pool.events, base, entity[at + PEAK])
        for m in range(others):
            answers[w, 3 + m, i] = entity[at + DISTINCT + m]


@kernel
def answer_earlier(
    pool: Pool,
    entity: NDArray[np.int32],
    p: int,
    windows: NDArray[np.int64],
    answers: NDArray[np.int64],
    i: int,
) -> None:
    """Row i for an event that is not the newest: the windows that end at position p."""
    others = len(pool.others)
    base, start = int(entity[BASE]) * SMALLEST_SLAB, entity[START]
    for w in range(len(windows)):
        at = WINDOWS + w * (DISTINCT + others)
        since = pool.events[base + p, TIME] - windows[w]
        lo = min(entity[at + LO], p)
        while lo > start and pool.events[base + lo - 1, TIME] > since:
            lo -= 1
        paid = pool.events[base + lo - 1, TOTAL] if lo > 0 else 0
        answers[w, 0, i] = p + 1 - lo
        answers[w, 1, i] = pool.events[base + p, TOTAL] - paid
        answers[w, 2, i] = value_at(pool.events, base, highest_before(pool, entity, at, lo, p))
        for m in range(others):
            answers[w, 3 + m, i] = distinct_before(pool, entity, at, m, p, lo)


@kernel
def answer_alone(
    value: int, others: NDArray[np.int32], answers: Answers, references: References, i: int
) -> None:
    """Row i for an event that nothing retained can stand beside."""
    for w in range(len(answers.windows)):
        answers.windows[w, 0, i] = 1
        answers.windows[w, 1, i] = value
        answers.windows[w, 2, i] = value
        for m in range(len(others)):
            answers.windows[w, 3 + m, i] = others[m] != NONE
    for m in range(len(others)):
        let_go(references, m, others[m])


@kernel
def was_seen(pool: Pool, base: int, start: int, p: int, m: int, since: int, until: int) -> bool:
    """Whether the other of the event at p occurs before it at a time in (since, until]."""
    before = pool.links[base + p, 2 * m]
    if before < start or pool.events[base + before, TIME] <= since:
        return False
    if pool.events[base + before, TIME] <= until:
        return True
    lo, hi = start, int(before)  # the nearest occurrence is too young: look behind `until`
    while lo < hi:
        middle = (lo + hi) // 2
        if pool.events[base + middle, TIME] <= until:
            lo = middle + 1
        else:
            hi = middle
    found = latest(pool.others[m], base + start, base + lo, pool.others[m, base + p])
    return found != NONE and pool.events[found, TIME] > since


@kernel
def slide(
    pool: Pool,
    references: References,
    entities: NDArray[np.int32],
    windows: NDArray[np.int64],
    retention: int,
    settle: int,
    slots: NDArray[np.int32],
    times: NDArray[np.int64],
    values: NDArray[np.int64],
    others: NDArray[np.int32],
    floors: NDArray[np.int64],
    answers: Answers,
    begin: int,
) -> int:
    """Process records from `begin` on; return how far it got (less than n: the pool must grow).

    `entities` is [N, entity_width], `others` [n, M]; `floors[i]` is the time at or before which
    events have expired when record i arrives; it never falls.
    """
    events = pool.events
    for i in range(begin, len(slots)):
        if slots[i] == NONE:
            for m in range(others.shape[1]):
                let_go(references, m, others[i, m])
            continue
        entity = entities[slots[i]]
        start = entity[START]
        if entity[END] > start:
            first = int(entity[BASE]) * SMALLEST_SLAB + start
            if events[first, TIME] <= floors[i]:
                expire(pool, references, entity, floors[i])
        if times[i] <= floors[i]:
            answer_alone(values[i], others[i], answers, references, i)
            continue
        size = entity[SIZE]
        full = size == NONE or entity[END] == SMALLEST_SLAB << size
        if full and not make_room(pool, entity):
            return i
        p = insert(pool, entity, times[i], values[i])
        start, end = entity[START], entity[END]
        base = int(entity[BASE]) * SMALLEST_SLAB
        since = times[i] - retention
        for m in range(others.shape[1]):
            name = others[i, m]
            link(pool, base, start, p, end, m, name)
            if name != NONE:
                references.held[m, name] += 1
                until = times[i] - settle
                answers.seen[m, i] = was_seen(pool, base, start, p, m, since, until)
        enter_windows(pool, entity, p, values[i], windows)
        if p > start and events[base + p - 1, TIME] > since:
            answers.since[i] = times[i] - events[base + p - 1, TIME]
        if p == end - 1:
            answer_newest(pool, entity, len(windows), answers.windows, i)
        else:
            answer_earlier(pool, entity, p, windows, answers.windows, i)
    return len(slots)


@kernel
def sweep(
    pool: Pool,
    references: References,
    entities: NDArray[np.int32],
    named: NDArray[np.bool_],
    cursor: int,
    floor: int,
    empty: NDArray[np.int32],
) -> int:
    """Expire the next len(empty) entities from `cursor` on.

    Fill `empty` with those that have no event left; return how many they are.
    """
    found = 0
    for k in range(cursor, cursor + len(empty)):
        slot = k if k < len(named) else k - len(named)
        if not named[slot]:
            continue
        entity = entities[slot]
        if entity[END] > 0:
            first = int(entity[BASE]) * SMALLEST_SLAB + entity[START]
            if pool.events[first, TIME] <= floor:
                expire(pool, references, entity, floor)
        if entity[END] == 0:
            empty[found] = slot
            found += 1
    return found


@kernel
def gather(
    pool: Pool,
    entities: NDArray[np.int32],
    slots: NDArray[np.int32],
    times: NDArray[np.int64],
    values: NDArray[np.int64],
    others: NDArray[np.int32],
) -> None:
    """Copy the events of the given entities, in this order, into flat arrays ([M, n] others)."""
    n = 0
    for slot in slots:
        base = int(entities[slot, BASE]) * SMALLEST_SLAB
        for p in range(entities[slot, START], entities[slot, END]):
            times[n] = pool.events[base + p, TIME]
            values[n] = value_at(pool.events, base, p)
            for m in range(len(others)):
                others[m, n] = pool.others[m, base + p]
            n += 1
