"""Timelines equal brute force in whole numbers: any order, any batches, across restores."""

from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.eventtime.snapshots import SnapshotError
from dataflows.eventtime.timelines import (
    EXACT_NAMES,
    MISSING,
    Answered,
    Ask,
    Given,
    Keeps,
    Timeline,
    Timelines,
    What,
)

LATENESS = 20
SPANS = ((1, 0), (7, 0), (30, 0), (7, 9), (3, 30))
VALUED = (What.SUM, What.SPREAD, What.FIRST, What.LAST)
PLACED = (What.COUNT, What.SINCE_FIRST, What.SINCE_LAST)
NOTHING_ASKED = "nothing asked"


def asks(whats: tuple[What, ...], earlier: bool = False) -> tuple[Ask, ...]:
    return tuple(Ask(what, window, delay, earlier) for what in whats for window, delay in SPANS)


EVERYTHING = (
    Timeline(
        Keeps.SQUARES,
        asks((*PLACED, *VALUED, What.MIN, What.MAX)) + asks((*PLACED, *VALUED), earlier=True),
    ),
    Timeline(Keeps.NUMBER, asks((What.SUM, What.MAX))),
    Timeline(Keeps.NOTHING, asks(PLACED)),
    Timeline(Keeps.KNOWN_AT, asks(PLACED)),
    Timeline(Keeps.NAME, asks((What.DISTINCT, What.COUNT))),
)


class Record(NamedTuple):
    entity: str | None
    time: int
    value: int
    known: int
    name: str | None
    puts: tuple[bool, ...]
    asks: bool
    watermark: int

    def belongs(self, t: int) -> bool:
        return self.puts[t] and not (EVERYTHING[t].keeps is Keeps.NAME and self.name is None)


Drawn: TypeAlias = tuple[str | None, int, int, int, int, str | None, list[bool], bool]

arrivals = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from(["ann", "bob", "zoë"])),
        st.integers(0, 6),  # how far event time moves
        st.one_of(st.just(0), st.integers(0, 60)),  # how far behind the event is
        st.integers(-(2**50), 2**50),
        st.integers(-30, 10),  # since when it is known
        st.one_of(st.none(), st.sampled_from(["x", "y", "z", ""])),
        st.lists(st.booleans(), min_size=5, max_size=5),
        st.booleans(),
    ),
    max_size=120,
)


def as_records(drawn: list[Drawn]) -> list[Record]:
    records = []
    now, watermark = 1000, -(2**62)
    for entity, step, behind, value, known, name, puts, asking in drawn:
        now += step
        watermark = max(watermark, now - 5)
        record = Record(
            entity, now - behind, value, now + known, name, tuple(puts), asking, watermark
        )
        records.append(record)
    return records


def feed(state: Timelines, records: list[Record]) -> list[Answered]:
    values = np.array([r.value for r in records], np.int64)
    known = np.array([r.known for r in records], np.int64)
    names = [r.name for r in records]
    puts = np.array([r.puts for r in records], np.bool_).reshape(-1, 5)
    return state.process(
        [r.entity for r in records],
        np.array([r.time for r in records], np.int64),
        np.array([r.asks for r in records], np.bool_),
        [Given(puts[:, k], known if k == 3 else values, names) for k in range(5)],
        np.array([r.watermark for r in records], np.int64),
    )


def told(ask: Ask, answered: Answered, k: int, i: int) -> float | None:
    """An answer, None for none."""
    if ask.what is What.SPREAD:
        return float(answered.spreads[k, i])
    number = int(answered.numbers[k, i])
    return None if number == MISSING else number


def expected(t: int, ask: Ask, record: Record, arrived: list[Record]) -> object:
    """The answer from every record of the entity that has arrived; the asking one is the last if it
    belongs."""
    others = arrived[:-1] if record.belongs(t) else arrived
    end = record.time - ask.delay_us
    window = [r for r in others if end - ask.window_us < r.time <= end]
    if record.belongs(t) and not ask.earlier and ask.delay_us == 0:
        window.append(record)
    if EVERYTHING[t].keeps is Keeps.KNOWN_AT:
        window = [r for r in window if r.known <= record.time]
    window.sort(key=lambda r: r.time)  # stable: equal times in order of arrival
    values = [r.value for r in window]
    if ask.what is What.COUNT:
        return len(window)
    if ask.what is What.SUM:
        return sum(values)
    if ask.what is What.SPREAD:
        return float(len(values) * sum(v * v for v in values) - sum(values) ** 2)
    if ask.what is What.DISTINCT:
        return len({r.name for r in window})
    if not window:
        return None
    return {
        What.MIN: min(values),
        What.MAX: max(values),
        What.FIRST: values[0],
        What.LAST: values[-1],
        What.SINCE_FIRST: record.time - window[0].time,
        What.SINCE_LAST: record.time - window[-1].time,
    }[ask.what]


def brute_force(records: list[Record]) -> list[list[list[object]]]:
    """[timeline][ask][record]."""
    answers: list[list[list[object]]] = []
    for t, timeline in enumerate(EVERYTHING):
        arrived: dict[str, list[Record]] = {}
        columns: list[list[object]] = [[] for _ in timeline.asks]
        for record in records:
            floor = record.watermark - LATENESS - timeline.retention_us
            mine = [r for r in arrived.get(str(record.entity), ()) if r.time > floor]
            if record.belongs(t):
                mine.append(record)
            if record.entity is not None and record.time > floor:
                arrived[record.entity] = mine
            asking = record.entity is not None and record.asks
            if record.time <= floor and timeline.keeps is Keeps.KNOWN_AT:
                asking = False  # a label does not ask
            for column, ask in zip(columns, timeline.asks, strict=True):
                column.append(expected(t, ask, record, mine) if asking else NOTHING_ASKED)
        answers.append(columns)
    return answers


def check(
    records: list[Record], answered: list[Answered], wanted: list[list[list[object]]]
) -> None:
    for t, timeline in enumerate(EVERYTHING):
        for k, ask in enumerate(timeline.asks):
            for i in range(len(records)):
                want = wanted[t][k][i]
                if want != NOTHING_ASKED:
                    got = told(ask, answered[t], k, i)
                    if ask.what is What.SPREAD:
                        want = pytest.approx(want, rel=4e-16, abs=0)
                    assert got == want, (t, ask, i)


def joined(parts: list[list[Answered]]) -> list[Answered]:
    return [
        Answered(
            np.concatenate([part[t].numbers for part in parts], axis=1),
            np.concatenate([part[t].spreads for part in parts], axis=1),
        )
        for t in range(len(EVERYTHING))
    ]


@settings(max_examples=100, deadline=None)
@given(arrivals)
def test_every_answer_is_that_of_brute_force(drawn: list[Drawn]) -> None:
    records = as_records(drawn)
    check(records, feed(Timelines(EVERYTHING, LATENESS), records), brute_force(records))


@settings(max_examples=60, deadline=None)
@given(arrivals, st.lists(st.integers(0, 120), max_size=4))
def test_batches_and_restores_leave_no_trace(drawn: list[Drawn], cuts: list[int]) -> None:
    records = as_records(drawn)
    state, parts = Timelines(EVERYTHING, LATENESS), []
    for begin, end in pairwise(sorted({0, len(records), *(min(c, len(records)) for c in cuts)})):
        parts.append(feed(state, records[begin:end]))
        saved, state = state.snapshot(), Timelines(EVERYTHING, LATENESS)
        state.restore([saved])
    if parts:
        whole = feed(Timelines(EVERYTHING, LATENESS), records)
        for mine, other in zip(joined(parts), whole, strict=True):
            assert np.array_equal(mine.numbers, other.numbers)
            assert np.array_equal(mine.spreads, other.spreads)


@settings(max_examples=60, deadline=None)
@given(arrivals, st.lists(st.tuples(st.integers(0, 120), st.booleans()), max_size=12))
def test_changes_add_up_to_the_state(drawn: list[Drawn], cuts: list[tuple[int, bool]]) -> None:
    """What was written before the last complete round is dropped; `True` is a restart."""
    records = as_records(drawn)
    state, parts = Timelines(EVERYTHING, LATENESS), []
    kept: list[bytes] = []
    since: list[bytes] = []
    restarts = {min(cut, len(records)): restart for cut, restart in cuts}
    ends = sorted({0, len(records), *restarts})
    for begin, end in pairwise(ends):
        parts.append(feed(state, records[begin:end]))
        changes = state.changes()
        since.append(b"".join(changes.parts))
        kept.append(since[-1])
        if changes.complete:
            kept, since = since, []
        if restarts.get(end):
            state, since = Timelines(EVERYTHING, LATENESS), []
            state.restore(kept)
    if parts:
        whole = feed(Timelines(EVERYTHING, LATENESS), records)
        for mine, other in zip(joined(parts), whole, strict=True):
            assert np.array_equal(mine.numbers, other.numbers)
            assert np.array_equal(mine.spreads, other.spreads)


def test_changes_add_up_while_entities_come_and_go() -> None:
    """Numbers are given out again, and all of them anew: rows written before mean others then."""
    n, at_once, declared = 60_000, 500, [Timeline(Keeps.NAME, (Ask(What.DISTINCT, 400),))]
    state, kept, since = Timelines(declared, 10), list[bytes](), list[bytes]()
    ones, sizes = np.ones(at_once, np.bool_), []
    for number, begin in enumerate(range(0, n, at_once)):
        times = np.arange(begin, begin + at_once)
        crowd = 3 if begin < n // 2 else 300
        names = [f"card {i // 2}" for i in times.tolist()]
        customers: list[str | None] = [f"customer {i // crowd % 900}" for i in times.tolist()]
        (found,) = state.process(customers, times, ones, [Given(ones, times, names)], times)
        firsts = times - times % crowd
        assert np.array_equal(found.numbers[0], times // 2 - firsts // 2 + 1)
        changes = state.changes()
        since.append(b"".join(changes.parts))
        kept.append(since[-1])
        if changes.complete:
            kept, since = since, []
        sizes.append(sum(map(len, kept)))
        if number % 7 == 6:
            state, since = Timelines(declared, 10), []
            state.restore(kept)
    assert max(sizes[60:]) < 8 * len(state.snapshot()) + 2**20


@pytest.mark.parametrize("entities", [300, 10_000], ids=["as they are", "packed anew"])
def test_who_comes_back_under_another_number_is_there_once(entities: int) -> None:
    state = Timelines([Timeline(Keeps.NOTHING, (Ask(What.COUNT, 100),))], 0)
    frames: list[bytes] = []

    def count(of: Timelines, some: list[str | None], at: int) -> list[int]:
        ones, times = np.ones(len(some), np.bool_), np.full(len(some), at)
        (found,) = of.process(some, times, ones, [Given(ones, times)], times)
        return list(found.numbers[0].tolist())

    crowd: list[str | None] = [f"customer {i}" for i in range(entities)]
    stays, comes_back = crowd[200:300], crowd[150:151]
    nobody: list[str | None] = [None] * entities
    for some, at in ((crowd, 0), (nobody + stays, 10_000), (comes_back, 10_001)):
        count(state, some, at)
        frames.append(b"".join(state.changes(everything=not frames).parts))
    again = Timelines(state.declared, 0)
    again.restore(frames)
    both = stays + comes_back
    assert count(state, both, 10_002) == count(again, both, 10_002) == [2] * len(both)


def test_memory_stays_flat_while_entities_and_names_come_and_go() -> None:
    n, at_once = 40_000, 1000
    state, sizes = Timelines([Timeline(Keeps.NAME, (Ask(What.DISTINCT, 500),))], 10), []
    ones = np.ones(at_once, np.bool_)
    for begin in range(0, n, at_once):
        some = range(begin, begin + at_once)
        times = np.array(some)
        names = [f"card {i // 2}" for i in some]
        customers = [f"customer {i // 3}" for i in some]
        state.process(customers, times, ones, [Given(ones, times, names)], times)
        sizes.append(state.nbytes)
    assert sizes[-1] <= 1.5 * sizes[len(sizes) // 4]


def test_distinct_is_exact_up_to_a_bound_and_a_sample_beyond() -> None:
    n = 10 * EXACT_NAMES
    state = Timelines([Timeline(Keeps.NAME, (Ask(What.DISTINCT, 10 * n),))], 0)
    again = Timelines(state.declared, 0)

    def distinct(of: Timelines, some: range) -> np.ndarray:
        ones, times = np.ones(len(some), np.bool_), np.array(some)
        names = [f"card {i}" for i in some]
        (answered,) = of.process(["a"] * len(some), times, ones, [Given(ones, times, names)], times)
        return answered.numbers[0]

    found, exact = distinct(state, range(n)), np.arange(1, n + 1)
    assert np.array_equal(found[:EXACT_NAMES], exact[:EXACT_NAMES])
    assert np.abs(found / exact - 1).max() < 0.08
    assert state.nbytes < 200 * n
    again.restore([state.snapshot()])
    more = range(n, n + 100)
    assert np.array_equal(distinct(state, more), distinct(again, more))


def test_one_busy_entity_is_no_slower_than_many() -> None:
    """Seconds would be minutes if its 100,000 events were scanned."""
    n = 100_000
    whats = (What.COUNT, What.SUM, What.SPREAD, What.MAX)
    timeline = Timeline(
        Keeps.SQUARES, tuple(Ask(what, window) for what in whats for window in (10, 1000, n))
    )
    ones, times = np.ones(n, np.bool_), np.arange(n)
    values = np.random.default_rng(1).integers(0, 10**9, n)
    (answered,) = Timelines([timeline], 0).process(
        ["a"] * n, times, ones, [Given(ones, values)], times
    )
    last = answered.numbers[:, -1].tolist()
    assert last[:3] == [10, 1000, n]
    assert last[3:6] == [values[-w:].sum() for w in (10, 1000, n)]
    assert last[9:] == [values[-w:].max() for w in (10, 1000, n)]


def test_a_snapshot_of_other_windows_is_refused() -> None:
    saved = Timelines(EVERYTHING, LATENESS).snapshot()
    other = Timelines(EVERYTHING[:1], LATENESS)
    with pytest.raises(SnapshotError, match=r"another configuration \(timelines was"):
        other.restore([saved])
    with pytest.raises(SnapshotError, match="is damaged"):
        other.restore([saved[: len(saved) // 2]])


@pytest.mark.parametrize(
    ("keeps", "ask", "message"),
    [
        (Keeps.NOTHING, Ask(What.SUM, 1), "SUM cannot be told from NOTHING"),
        (Keeps.NUMBER, Ask(What.COUNT, 0), "windows of at least 1 us"),
        (Keeps.NUMBER, Ask(What.MAX, 1, earlier=True), "MAX takes the record itself in"),
    ],
)
def test_a_timeline_that_cannot_be_is_refused(keeps: Keeps, ask: Ask, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Timeline(keeps, (ask,))
