"""The compiled kernel of :mod:`dataflows.eventtime.timelines`: flat arrays, no objects, no I/O.

As in :mod:`dataflows.eventtime.windows_kernel` every entity owns one slab of a pool: its events in
order of event time (equal times in order of arrival), at positions ``start <= p < end``. Beside the
time an event has the sums of the slab up to it, so that any window costs two reads.

A window (t - d - w, t - d] lies between two edges; an edge at offset o is the first position whose
time is > t - o. Windows share edges. Per entity the edges are kept for the last time that was
asked about, and per tracker what adding does not give: where the window's extreme stands, or how
many names are in it. Asking in order moves both by amortised O(1); asking about an earlier time
searches anew.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dataflows.eventtime.windows_kernel import NONE, SMALLEST_SLAB, allocate, latest, release

# What the events of a timeline keep beside their time.
NOTHING, NUMBER, SQUARES, KNOWN_AT, NAME = 0, 1, 2, 3, 4

# Columns of Pool.events. TOTAL is there for NUMBER and SQUARES, KNOWN in its place for KNOWN_AT.
TIME, TOTAL, HIGH, LOW = 0, 1, 2, 3
KNOWN = 1
WIDTH = (1, 2, 4, 2, 1)  # columns by what is kept

# Columns of an entity's row; then its edges, then its trackers.
BASE, SIZE, START, END, ASKED, LAST_KNOWN, NAMES, LEVEL, EDGES = 0, 1, 2, 3, 4, 5, 6, 7, 8

# What can be asked of a window.
COUNT, SUM, SPREAD, MIN, MAX, FIRST, LAST, SINCE_FIRST, SINCE_LAST, DISTINCT = range(10)

AHEAD = 64  # records whose memory is asked for at once
MOST_LEVEL = 24
NEVER = -(2**62)
MISSING = -(2**63)

kernel = njit(cache=True, nogil=True, _nrt=False)


class Pool(NamedTuple):
    """Slabs of events; P is the room."""

    events: NDArray[np.int64]  # [P, WIDTH[keeps]]
    names: NDArray[np.int32]  # [P] id of the event's name; [0] unless names are kept
    links: NDArray[np.int32]  # [P, 2] positions of the same name before and after, or NONE
    slabs: NDArray[np.int64]  # as windows_kernel.Pool.slabs


class Names(NamedTuple):
    """Of K names: how many events have each, and its hash, by which names are sampled."""

    held: NDArray[np.int32]  # [K]
    hashes: NDArray[np.uint32]  # [K]


class Plan(NamedTuple):
    """What a timeline is asked, the same for every record."""

    keeps: int
    bound: int  # names of an entity; beyond them a sample of names is kept
    offsets: NDArray[np.int64]  # [E] of the edges
    windows: NDArray[np.int64]  # [W, 2] edge at which it begins, and at which it ends
    trackers: NDArray[np.int64]  # [T, 2] window, and MIN, MAX or DISTINCT
    asks: NDArray[np.int64]  # [K, 4] what, window, tracker or NONE, 1: without the record
    edges_at: NDArray[np.int64]  # [E] scratch
    tracked_at: NDArray[np.int64]  # [T] scratch


class Records(NamedTuple):
    """n records. `names` is [0] unless the timeline keeps names."""

    slots: NDArray[np.int32]  # [n] entity, or NONE
    times: NDArray[np.int64]  # [n]
    values: NDArray[np.int64]  # [n] number kept; for KNOWN_AT since when it is known
    names: NDArray[np.int32]  # [n]
    puts: NDArray[np.uint8]  # [n] 1: it belongs to the timeline
    asks: NDArray[np.uint8]  # [n] 1: it asks
    floors: NDArray[np.int64]  # [n] events at or before have expired; never falls


class Answers(NamedTuple):
    """A row an ask. A SPREAD is count * sum of squares - sum * sum, in `spreads`."""

    numbers: NDArray[np.int64]  # [K, n]
    spreads: NDArray[np.float64]  # [K, n], or [0, 0] where no SPREAD is asked


@kernel
def square(value: int) -> tuple[np.uint64, np.uint64]:
    """value * value as 128 bits, high and low."""
    x = np.uint64(abs(value))
    return product(x, x)


@kernel
def product(x: np.uint64, y: np.uint64) -> tuple[np.uint64, np.uint64]:
    """x * y as 128 bits, high and low."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    a, b, c, d = x >> half, x & mask, y >> half, y & mask
    low = b * d
    middle = a * d + (low >> half)
    other = b * c + (middle & mask)
    high = a * c + (middle >> half) + (other >> half)
    return high, (other << half) | (low & mask)


@kernel
def minus(
    high: np.uint64, low: np.uint64, less_high: np.uint64, less_low: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """The difference of two numbers of 128 bits."""
    borrow = np.uint64(1) if low < less_low else np.uint64(0)
    return high - less_high - borrow, low - less_low


@kernel
def add_squares(events: NDArray[np.int64], at: int, high: np.uint64, low: np.uint64) -> None:
    before = np.uint64(events[at, LOW])
    after = before + low
    carry = np.uint64(1) if after < before else np.uint64(0)
    events[at, LOW] = np.int64(after)
    events[at, HIGH] = np.int64(np.uint64(events[at, HIGH]) + high + carry)


@kernel
def value_at(events: NDArray[np.int64], base: int, position: int) -> int:
    if position == 0:
        return events[base, TOTAL]
    return events[base + position, TOTAL] - events[base + position - 1, TOTAL]


@kernel
def copy_event(pool: Pool, source: int, target: int) -> None:
    for c in range(pool.events.shape[1]):
        pool.events[target, c] = pool.events[source, c]
    if len(pool.names):
        pool.names[target] = pool.names[source]
        pool.links[target, 0] = pool.links[source, 0]
        pool.links[target, 1] = pool.links[source, 1]


@kernel
def make_room(pool: Pool, plan: Plan, entity: NDArray[np.int64]) -> bool:
    """Room for one more event in a full slab: drop the expired, move where the size is wrong."""
    size, start, end = entity[SIZE], entity[START], entity[END]
    live = end - start
    fitting = 0
    while SMALLEST_SLAB << fitting < live + max(live >> 1, 1):
        fitting += 1
    old = entity[BASE]
    new = old
    if fitting != size:
        new = allocate(pool, fitting)
        if new == NONE:
            return False
    move_events(pool, plan, old + start, new, live, start)
    if fitting != size and size != NONE:
        release(pool, old, size)
    entity[BASE], entity[SIZE], entity[START], entity[END] = new, fitting, 0, live
    for e in range(len(plan.offsets)):
        entity[EDGES + e] -= start
    shift_peaks(plan, entity, 0, -start)
    return True


@kernel
def move_events(pool: Pool, plan: Plan, source: int, target: int, live: int, shift: int) -> None:
    """Copy `live` events to the front of a slab, their sums begun anew."""
    events = pool.events
    paid, high, low = 0, np.uint64(0), np.uint64(0)
    if shift > 0 and plan.keeps in (NUMBER, SQUARES):
        paid = events[source - 1, TOTAL]
        if plan.keeps == SQUARES:
            high, low = np.uint64(events[source - 1, HIGH]), np.uint64(events[source - 1, LOW])
    for j in range(live):
        at = target + j
        copy_event(pool, source + j, at)
        if plan.keeps in (NUMBER, SQUARES):
            events[at, TOTAL] -= paid
        if plan.keeps == SQUARES:
            new_high, new_low = minus(
                np.uint64(events[at, HIGH]), np.uint64(events[at, LOW]), high, low
            )
            events[at, HIGH], events[at, LOW] = np.int64(new_high), np.int64(new_low)
        if plan.keeps == NAME:
            for side in range(2):
                pool.links[at, side] = max(pool.links[at, side] - shift, NONE)


@kernel
def shift_peaks(plan: Plan, entity: NDArray[np.int64], least: int, by: int) -> None:
    """Add to the positions of extremes from `least` on."""
    for k in range(len(plan.trackers)):
        at = EDGES + len(plan.offsets) + k
        if plan.trackers[k, 1] != DISTINCT and entity[at] != NONE and entity[at] >= least:
            entity[at] += by


@kernel
def best_of(events: NDArray[np.int64], base: int, what: int, peak: int, lo: int, hi: int) -> int:
    """The last position of an extreme in lo <= p < hi, or `peak` if it is more extreme."""
    sign = 1 if what == MAX else -1
    most = sign * value_at(events, base, peak) if peak != NONE else 0
    for p in range(lo, hi):
        value = sign * value_at(events, base, p)
        if peak == NONE or value >= most:
            peak, most = p, value
    return peak


@kernel
def advance(pool: Pool, plan: Plan, entity: NDArray[np.int64]) -> None:
    """Move every edge on to where plan.edges_at says, and the trackers with them."""
    base = entity[BASE]
    for k in range(len(plan.trackers)):
        at = EDGES + len(plan.offsets) + k
        begin, end = plan.windows[plan.trackers[k, 0], 0], plan.windows[plan.trackers[k, 0], 1]
        lo, hi = entity[EDGES + begin], entity[EDGES + end]
        new_lo, new_hi = plan.edges_at[begin], plan.edges_at[end]
        what = plan.trackers[k, 1]
        if what == DISTINCT:
            for p in range(hi, new_hi):
                entity[at] += pool.links[base + p, 0] < lo
            for p in range(lo, new_lo):
                after = pool.links[base + p, 1]
                entity[at] -= after == NONE or after >= new_hi
            continue
        peak = entity[at]
        if peak != NONE and peak < new_lo:
            peak, hi = NONE, new_lo
        entity[at] = best_of(pool.events, base, what, peak, max(hi, new_lo), new_hi)
    for e in range(len(plan.offsets)):
        entity[EDGES + e] = plan.edges_at[e]


@kernel
def clear(plan: Plan, entity: NDArray[np.int64]) -> None:
    """The row of an entity without events."""
    entity[:] = 0
    entity[SIZE] = NONE
    entity[ASKED] = NEVER
    entity[LAST_KNOWN] = NEVER
    for k in range(len(plan.trackers)):
        if plan.trackers[k, 1] != DISTINCT:
            entity[EDGES + len(plan.offsets) + k] = NONE


@kernel
def expire(pool: Pool, plan: Plan, names: Names, entity: NDArray[np.int64], floor: int) -> None:
    """Free the entity's events with time <= floor, and its slab when none is left."""
    base, start, end = entity[BASE], entity[START], entity[END]
    p = start
    while p < end and pool.events[base + p, TIME] <= floor:
        p += 1
    for e in range(len(plan.offsets)):
        plan.edges_at[e] = max(entity[EDGES + e], p)
    advance(pool, plan, entity)
    if plan.keeps == NAME:
        for q in range(start, p):
            names.held[pool.names[base + q]] -= 1
            entity[NAMES] -= pool.links[base + q, 1] == NONE
    entity[START] = p
    if p == end:
        release(pool, base, entity[SIZE])
        clear(plan, entity)


@kernel
def shift_up(pool: Pool, plan: Plan, base: int, start: int, p: int, end: int) -> None:
    """Move the events from position p on up by one."""
    for j in range(end - 1, p - 1, -1):
        copy_event(pool, base + j, base + j + 1)
        if plan.keeps == NAME:
            before, after = pool.links[base + j, 0], pool.links[base + j, 1]
            if before >= p:
                pool.links[base + j + 1, 0] = before + 1
            elif before >= start:
                pool.links[base + before, 1] = j + 1
            if after != NONE:
                pool.links[base + j + 1, 1] = after + 1


@kernel
def insert(pool: Pool, plan: Plan, entity: NDArray[np.int64], time: int, value: int) -> int:
    """Put an event at its place in time (there is room) and return its position."""
    events = pool.events
    base, start, end = entity[BASE], entity[START], entity[END]
    p = end
    while p > start and events[base + p - 1, TIME] > time:
        p -= 1
    if p < end:
        shift_up(pool, plan, base, start, p, end)
    event = base + p
    events[event, TIME] = time
    if plan.keeps == KNOWN_AT:
        events[event, KNOWN] = value
        entity[LAST_KNOWN] = max(entity[LAST_KNOWN], value)
    elif plan.keeps in (NUMBER, SQUARES):
        events[event, TOTAL] = value + (events[event - 1, TOTAL] if p > 0 else 0)
        for j in range(p + 1, end + 1):
            events[base + j, TOTAL] += value
    if plan.keeps == SQUARES:
        high, low = square(value)
        events[event, HIGH] = events[event - 1, HIGH] if p > 0 else 0
        events[event, LOW] = events[event - 1, LOW] if p > 0 else 0
        for j in range(p, end + 1):
            add_squares(events, base + j, high, low)
    entity[END] = end + 1
    return p


@kernel
def link(pool: Pool, entity: NDArray[np.int64], p: int, name: int) -> None:
    """Enter the name of the new event at position p between its neighbouring occurrences."""
    links = pool.links
    base, start, end = entity[BASE], entity[START], entity[END]
    event = base + p
    pool.names[event] = name
    links[event, 0] = NONE
    links[event, 1] = NONE
    before = latest(pool.names, base + start, event, name)
    if before != NONE:
        after = links[before, 1]
        links[before, 1] = p
        links[event, 0] = before - base
        links[event, 1] = after
        if after != NONE:
            links[base + after, 0] = p
        return
    for j in range(p + 1, end):
        if pool.names[base + j] == name:
            links[event, 1] = j
            links[base + j, 0] = p
            return
    entity[NAMES] += 1


@kernel
def enter(pool: Pool, plan: Plan, entity: NDArray[np.int64], p: int, time: int) -> None:
    """Bring edges and trackers up to date with the event just put at position p."""
    base, edges = entity[BASE], len(plan.offsets)
    shift_peaks(plan, entity, p, 1)
    for e in range(edges):
        entity[EDGES + e] += time <= entity[ASKED] - plan.offsets[e]
    for k in range(len(plan.trackers)):
        begin, end = plan.windows[plan.trackers[k, 0], 0], plan.windows[plan.trackers[k, 0], 1]
        lo, hi = entity[EDGES + begin], entity[EDGES + end]
        if not lo <= p < hi:
            continue
        at = EDGES + edges + k
        if plan.trackers[k, 1] == DISTINCT:
            before, after = pool.links[base + p, 0], pool.links[base + p, 1]
            entity[at] += before < lo and (after == NONE or after >= hi)
        else:
            entity[at] = best_of(pool.events, base, plan.trackers[k, 1], entity[at], p, p + 1)


@kernel
def is_sampled(hashed: np.uint32, level: int) -> bool:
    return (np.int64(hashed) & ((1 << level) - 1)) == 0


@kernel
def thin_out(pool: Pool, plan: Plan, names: Names, entity: NDArray[np.int64]) -> None:
    """Keep half of the entity's names, by their hashes, until they are no more than the bound."""
    while entity[NAMES] > plan.bound and entity[LEVEL] < MOST_LEVEL:
        entity[LEVEL] += 1
        base, start, end = entity[BASE], entity[START], entity[END]
        entity[END], entity[NAMES] = start, 0
        for e in range(len(plan.offsets)):
            entity[EDGES + e] = start
        for k in range(len(plan.trackers)):
            entity[EDGES + len(plan.offsets) + k] = 0
        for p in range(start, end):
            name, time = pool.names[base + p], pool.events[base + p, TIME]
            if not is_sampled(names.hashes[name], entity[LEVEL]):
                names.held[name] -= 1
                continue
            q = entity[END]
            pool.events[base + q, TIME] = time
            entity[END] = q + 1
            link(pool, entity, q, name)
            enter(pool, plan, entity, q, time)


@kernel
def find_edges(pool: Pool, plan: Plan, entity: NDArray[np.int64], time: int) -> None:
    """plan.edges_at for a time that is not before the last one asked about."""
    base, end = entity[BASE], entity[END]
    for e in range(len(plan.offsets)):
        p, until = entity[EDGES + e], time - plan.offsets[e]
        while p < end and pool.events[base + p, TIME] <= until:
            p += 1
        plan.edges_at[e] = p


@kernel
def search_edges(pool: Pool, plan: Plan, entity: NDArray[np.int64], time: int) -> None:
    """plan.edges_at for any time."""
    base = entity[BASE]
    for e in range(len(plan.offsets)):
        lo, hi, until = entity[START], entity[END], time - plan.offsets[e]
        while lo < hi:
            middle = (lo + hi) // 2
            if pool.events[base + middle, TIME] <= until:
                lo = middle + 1
            else:
                hi = middle
        plan.edges_at[e] = lo


@kernel
def search_tracked(pool: Pool, plan: Plan, entity: NDArray[np.int64]) -> None:
    """plan.tracked_at for windows that lie elsewhere than the entity's."""
    base = entity[BASE]
    for k in range(len(plan.trackers)):
        lo = plan.edges_at[plan.windows[plan.trackers[k, 0], 0]]
        hi = plan.edges_at[plan.windows[plan.trackers[k, 0], 1]]
        what = plan.trackers[k, 1]
        if what == DISTINCT:
            found = 0
            for p in range(lo, hi):
                found += pool.links[base + p, 0] < lo
            plan.tracked_at[k] = found
        else:
            plan.tracked_at[k] = best_of(pool.events, base, what, NONE, lo, hi)


@kernel
def spread_of(events: NDArray[np.int64], base: int, lo: int, hi: int) -> float:
    """count * sum of squares - sum * sum, rounded once; 0 for less than two events."""
    n = hi - lo
    if n < 2:
        return 0.0
    last, first = base + hi - 1, base + lo - 1
    total = events[last, TOTAL] - (events[first, TOTAL] if lo > 0 else 0)
    high, low = np.uint64(events[last, HIGH]), np.uint64(events[last, LOW])
    if lo > 0:
        high, low = minus(high, low, np.uint64(events[first, HIGH]), np.uint64(events[first, LOW]))
    carried, small = product(np.uint64(n), low)
    large = np.uint64(n) * high + carried
    square_high, square_low = square(total)
    large, small = minus(large, small, square_high, square_low)
    return np.float64(large) * 18446744073709551616.0 + np.float64(small)


@kernel
def known_between(pool: Pool, base: int, lo: int, hi: int, time: int) -> tuple[int, int, int]:
    """How many events at lo <= p < hi are known at a time, and the first and last of them."""
    found, first, last = 0, NONE, NONE
    for p in range(lo, hi):
        if pool.events[base + p, KNOWN] <= time:
            found += 1
            last = p
            if first == NONE:
                first = p
    return found, first, last


@kernel
def answer(
    pool: Pool,
    plan: Plan,
    entity: NDArray[np.int64],
    time: int,
    inside: bool,
    answers: Answers,
    i: int,
) -> None:
    """Column i, from plan.edges_at and plan.tracked_at; `inside`: the record is in the timeline."""
    events, base = pool.events, entity[BASE]
    for k in range(len(plan.asks)):
        what, window, tracker = plan.asks[k, 0], plan.asks[k, 1], plan.asks[k, 2]
        ends_at = plan.windows[window, 1]
        lo, hi = plan.edges_at[plan.windows[window, 0]], plan.edges_at[ends_at]
        if plan.asks[k, 3] and inside and plan.offsets[ends_at] == 0:
            hi -= 1
        found, first, last = hi - lo, lo, hi - 1
        if plan.keeps == KNOWN_AT and entity[LAST_KNOWN] > time:
            found, first, last = known_between(pool, base, lo, hi, time)
        if what == COUNT:
            answers.numbers[k, i] = found
        elif what == SUM:
            if found > 0:
                paid = events[base + lo - 1, TOTAL] if lo > 0 else 0
                answers.numbers[k, i] = events[base + hi - 1, TOTAL] - paid
        elif what == SPREAD:
            answers.numbers[k, i] = found
            answers.spreads[k, i] = spread_of(events, base, lo, hi)
        elif what == DISTINCT:
            answers.numbers[k, i] = plan.tracked_at[tracker] << entity[LEVEL]
        elif found <= 0:
            answers.numbers[k, i] = MISSING
        elif what == FIRST:
            answers.numbers[k, i] = value_at(events, base, first)
        elif what == LAST:
            answers.numbers[k, i] = value_at(events, base, last)
        elif what == SINCE_FIRST:
            answers.numbers[k, i] = time - events[base + first, TIME]
        elif what == SINCE_LAST:
            answers.numbers[k, i] = time - events[base + last, TIME]
        else:
            answers.numbers[k, i] = value_at(events, base, plan.tracked_at[tracker])


@kernel
def answer_alone(plan: Plan, value: int, inside: bool, answers: Answers, i: int) -> None:
    """Column i for a record that nothing retained can stand beside."""
    for k in range(len(plan.asks)):
        what, ends_at = plan.asks[k, 0], plan.windows[plan.asks[k, 1], 1]
        alone = inside and plan.offsets[ends_at] == 0 and not plan.asks[k, 3]
        if what in (COUNT, SPREAD, DISTINCT):
            answers.numbers[k, i] = alone
        elif what == SUM:
            answers.numbers[k, i] = value if alone else 0
        elif not alone:
            answers.numbers[k, i] = MISSING
        else:
            answers.numbers[k, i] = 0 if what in (SINCE_FIRST, SINCE_LAST) else value


@kernel
def ask(
    pool: Pool,
    plan: Plan,
    entity: NDArray[np.int64],
    time: int,
    inside: bool,
    answers: Answers,
    i: int,
) -> None:
    if time < entity[ASKED]:
        search_edges(pool, plan, entity, time)
        search_tracked(pool, plan, entity)
    else:
        find_edges(pool, plan, entity, time)
        advance(pool, plan, entity)
        if entity[END] > 0:
            entity[ASKED] = time
        for k in range(len(plan.trackers)):
            plan.tracked_at[k] = entity[EDGES + len(plan.offsets) + k]
    answer(pool, plan, entity, time, inside, answers, i)


@kernel
def touch(
    pool: Pool, plan: Plan, entities: NDArray[np.int64], slots: NDArray[np.int32], begin: int
) -> int:
    """Read what the next records will: here waits for memory overlap, as no step depends on the
    one before. The value returned is of no use; it keeps the reads from being optimised away."""
    touched = 0
    for i in range(begin, min(begin + AHEAD, len(slots))):
        touched += entities[max(slots[i], 0), END]
    for i in range(begin, min(begin + AHEAD, len(slots))):
        entity = entities[max(slots[i], 0)]
        base = entity[BASE]
        touched += pool.events[base + entity[START], TIME]
        for e in range(len(plan.offsets)):
            touched += pool.events[base + max(entity[EDGES + e] - 1, 0), TIME]
    return touched


@kernel
def slide(
    pool: Pool,
    plan: Plan,
    names: Names,
    entities: NDArray[np.int64],
    records: Records,
    answers: Answers,
    begin: int,
) -> int:
    """Process records from `begin` on; return how far it got (less than n: the pool must grow)."""
    touched = 0
    for i in range(begin, len(records.slots)):
        if (i - begin) % AHEAD == 0:
            touched ^= touch(pool, plan, entities, records.slots, i)
        if records.slots[i] == NONE:
            continue
        entity, time, floor = entities[records.slots[i]], records.times[i], records.floors[i]
        if entity[END] > 0 and pool.events[entity[BASE] + entity[START], TIME] <= floor:
            expire(pool, plan, names, entity, floor)
        puts = records.puts[i] != 0
        if time <= floor:
            if records.asks[i]:
                answer_alone(plan, records.values[i], puts, answers, i)
            continue
        if puts and (
            plan.keeps != NAME or is_sampled(names.hashes[records.names[i]], entity[LEVEL])
        ):
            size = entity[SIZE]
            full = size == NONE or entity[END] == SMALLEST_SLAB << size
            if full and not make_room(pool, plan, entity):
                return i
            p = insert(pool, plan, entity, time, records.values[i])
            if plan.keeps == NAME:
                link(pool, entity, p, records.names[i])
                names.held[records.names[i]] += 1
            enter(pool, plan, entity, p, time)
            if entity[NAMES] > plan.bound:
                thin_out(pool, plan, names, entity)
        if records.asks[i]:
            ask(pool, plan, entity, time, puts, answers, i)
    return len(records.slots) if touched != MISSING else NONE


@kernel
def sweep(
    pool: Pool,
    plan: Plan,
    names: Names,
    entities: NDArray[np.int64],
    named: NDArray[np.bool_],
    cursor: int,
    floor: int,
    alive: NDArray[np.bool_],
) -> None:
    """Expire the next len(alive) entities from `cursor` on; mark those that have events left."""
    for k in range(len(alive)):
        slot = (cursor + k) % len(named)
        if not named[slot]:
            continue
        entity = entities[slot]
        if entity[END] > 0:
            if pool.events[entity[BASE] + entity[START], TIME] <= floor:
                expire(pool, plan, names, entity, floor)
            alive[k] |= entity[END] > 0


@kernel
def gather(
    pool: Pool,
    plan: Plan,
    entities: NDArray[np.int64],
    slots: NDArray[np.int32],
    times: NDArray[np.int64],
    values: NDArray[np.int64],
    names: NDArray[np.int32],
) -> None:
    """Copy the events of the given entities, in this order, into flat arrays."""
    n = 0
    for slot in slots:
        base = entities[slot, BASE]
        for p in range(entities[slot, START], entities[slot, END]):
            times[n] = pool.events[base + p, TIME]
            if plan.keeps in (NUMBER, SQUARES):
                values[n] = value_at(pool.events, base, p)
            elif plan.keeps == KNOWN_AT:
                values[n] = pool.events[base + p, KNOWN]
            elif plan.keeps == NAME:
                names[n] = pool.names[base + p]
            n += 1
