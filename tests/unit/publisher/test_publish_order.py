"""Order by event time against Python's stable sort, and ids against counting."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.publisher.identity import DerivedIds, with_ids
from services.publisher.ordering import TimeOrder
from services.publisher.parsed import Parsed
from services.publisher.times import UNTIMED

BATCHES = st.lists(st.lists(st.none() | st.integers(-5, 5), max_size=8), max_size=8)


def _parsed(times: list[int | None], first: int) -> Parsed:
    values = [b"%d" % (first + row) for row in range(len(times))]
    keys: list[bytes | None] = [None if row % 3 else b"k" for row in range(len(times))]
    us = np.array([UNTIMED if time is None else time for time in times], np.int64)
    return Parsed(keys, values, us)


@settings(deadline=None, max_examples=200)
@given(BATCHES, st.sampled_from([0, 1_000, 10**9]))
def test_order_by_time_is_stable_whatever_is_held_in_memory(
    batches: list[list[int | None]], run_bytes: int
) -> None:
    order = TimeOrder(run_bytes)
    expected: list[tuple[int, bytes, int]] = []
    newest = UNTIMED
    for times in batches:
        parsed = _parsed(times, len(expected))
        order.add(parsed)
        for time, value in zip(times, parsed.values, strict=True):
            newest = newest if time is None else time
            expected.append((newest, value, UNTIMED if time is None else time))
    expected.sort(key=lambda record: record[0])
    given_back = list(order.batches())
    assert [v for parsed in given_back for v in parsed.values] == [v for _, v, _ in expected]
    assert [t for p in given_back for t in p.times_us.tolist()] == [t for _, _, t in expected]


def test_many_runs_on_disk_give_everything_back() -> None:
    random = np.random.default_rng(3)
    order = TimeOrder(run_bytes=300_000)
    times = random.integers(0, 1_000, 20_000)
    for start in range(0, len(times), 700):
        order.add(_parsed(times[start : start + 700].tolist(), start))
    found = [v for parsed in order.batches() for v in parsed.values]
    assert found == [b"%d" % row for row in np.argsort(times, kind="stable")]
    assert list(order.batches()) == []


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 6)), st.integers(1, 5))
def test_ids_count_equal_records_whatever_the_batches(numbers: list[int], size: int) -> None:
    bodies = [b'{"n":%d}' % number for number in numbers]
    ids = DerivedIds("clickstream")
    found = [i for at in range(0, len(bodies), size) for i in ids.next_ids(bodies[at : at + size])]
    seen: Counter[bytes] = Counter()
    for body, identity in zip(bodies, found, strict=True):
        plain, _, repeat = identity.partition("-")
        assert len(plain) == 32
        assert repeat == (str(seen[body]) if seen[body] else "")
        seen[body] += 1
    assert len(set(found)) == len(found)


def test_ids_depend_on_the_source() -> None:
    assert DerivedIds("a").next_ids([b"{}"]) != DerivedIds("b").next_ids([b"{}"])
    assert DerivedIds("a").next_ids([b"{}"]) == DerivedIds("a").next_ids([b"{}"])


def test_a_crowded_filter_still_gives_every_record_its_own_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = DerivedIds("a")
    ids._filter[:] = 255
    bodies = [b'{"n":%d}' % number for number in [*range(500), *range(500)]]
    found = ids.next_ids(bodies)
    assert len(set(found)) == 1_000


@pytest.mark.parametrize(
    ("body", "expected"), [(b"{}", b'{"id":"x"}'), (b'{"a":1}', b'{"id":"x","a":1}')]
)
def test_the_id_becomes_the_first_member(body: bytes, expected: bytes) -> None:
    result: Any = with_ids([body], "id", ["x"])
    assert result == [expected]


def test_no_records_no_ids() -> None:
    assert DerivedIds("a").next_ids([]) == []
    assert with_ids([], "id", []) == []
