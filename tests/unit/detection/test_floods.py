"""Rules that flood, against counting by hand, however batches fall and state is kept."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.detection.floods import Flood, Floods, Hour
from dataflows.detection.rules import Rule, RuleState
from dataflows.features.catalogue import HOUR_US

LATENESS_US = HOUR_US // 2
LIMITS = {"a": 1, "b": 3, "c": 1_000}
RULES = {
    name: Rule(
        id=name,
        description="A rule.",
        when="TRUE",
        weight=0.5,
        reason="so",
        owner=f"owner of {name}",
        state=RuleState.LIVE,
        max_alerts_per_hour=limit,
    )
    for name, limit in LIMITS.items()
}
Raised = tuple[int, list[str]]


@st.composite
def alerts(draw: st.DrawFn) -> list[Raised]:
    """(event time, rules that fired) in order of arrival, none of them too late."""
    count = draw(st.integers(0, 60))
    newest, found = 0, []
    for _ in range(count):
        time_us = max(newest + draw(st.integers(-LATENESS_US, HOUR_US)), 0)
        newest = max(newest, time_us)
        found.append((time_us, draw(st.lists(st.sampled_from("abc"), min_size=1, unique=True))))
    return found


def watermarks(raised: list[Raised]) -> np.ndarray:
    return np.maximum.accumulate(np.array([time_us for time_us, _ in raised], np.int64))


def by_hand(raised: list[Raised]) -> tuple[list[bool], dict[tuple[str, int], tuple[int, int]]]:
    """Whether each alert is held back; alerts and how many were held back, by rule and hour."""
    counts: Counter[tuple[str, int]] = Counter()
    held: Counter[tuple[str, int]] = Counter()
    fates = []
    for time_us, names in raised:
        keys = [(name, time_us // HOUR_US) for name in names]
        counts.update(keys)
        fates.append(all(counts[key] > LIMITS[key[0]] for key in keys))
        if fates[-1]:
            held.update(keys)
    return fates, {key: (counts[key], held[key]) for key in held}


def run(raised: list[Raised], cuts: list[int]) -> tuple[list[bool], list[Flood]]:
    """In batches, the state kept and restored after each."""
    marks, fates, told, kept = watermarks(raised), [], [], b"[]"
    for start, end in pairwise(sorted({0, *cuts, len(raised)})):
        hours = msgspec.json.decode(kept, type=list[Hour])
        floods = Floods("here/0", LATENESS_US, hours)
        rows: list[tuple[int, Flood]] = []
        for row, (time_us, names) in enumerate(raised[start:end]):
            begun = floods.admit([RULES[name] for name in names], time_us, f"t{start + row}")
            fates.append(begun is not None)
            rows += [(row, flood) for flood in begun or ()]
        rows += floods.close(marks[start:end])
        told += [flood for _, flood in sorted(rows, key=lambda each: each[0])]
        kept = msgspec.json.encode(floods.hours)
    return fates, told


@given(alerts(), st.lists(st.integers(0, 60)))
def test_held_back_as_counted_by_hand_in_any_batches(raised: list[Raised], cuts: list[int]) -> None:
    end = (max((time_us for time_us, _ in raised), default=0) + 3 * HOUR_US, ["c"])
    everything = [*raised, end]
    fates, told = run(everything, [cut for cut in cuts if cut < len(everything)])
    expected, floods = by_hand(everything)
    assert fates == expected
    over = {(f.rule, f.window_start): (f.alerts, f.held_back) for f in told if f.is_over}
    assert sorted(over.values()) == sorted(floods.values())
    begun = [(f.rule, f.window_start) for f in told if not f.is_over]
    assert sorted(begun) == sorted(over)
    assert (fates, told) == run(everything, [])


def test_a_flood_is_told_when_it_begins_and_when_it_is_over() -> None:
    floods = Floods("scoring.requests/0", LATENESS_US)
    assert floods.admit([RULES["a"]], 5, "t1") is None
    (begun,) = floods.admit([RULES["a"]], 6, "t2") or []
    assert floods.admit([RULES["a"]], 7, "t3") == []
    assert floods.admit([RULES["a"], RULES["c"]], 8, "t4") is None
    assert floods.close(np.array([HOUR_US + LATENESS_US])) == []
    after = HOUR_US + LATENESS_US + 1
    ((row, over),) = floods.close(np.array([8, after, after]))
    assert (row, floods.hours) == (1, [])
    assert begun == msgspec.structs.replace(
        over, alerts=2, held_back=1, is_over=False, revision=1, text=begun.text
    )
    assert (over.owner, over.window_start) == ("owner of a", "1970-01-01T00:00:00.000000Z")
    assert (over.alerts, over.held_back, over.first_held_back) == (4, 2, "t2")
    assert begun.text == (
        "a has raised 2 alerts within an hour: from now on those that no other rule raises are "
        "held back, and are among the scores"
    )
    assert over.text == (
        "a raised 4 alerts within an hour; 2 were held back, and are among the scores"
    )


def test_what_no_rule_raised_is_never_held_back() -> None:
    floods = Floods("scoring.requests/0", LATENESS_US)
    assert [floods.admit([], 0, "t")] * 3 == [None] * 3


@pytest.mark.parametrize("place", ["scoring.requests/0", "scoring.requests/1"])
def test_partitions_tell_their_own_floods(place: str) -> None:
    floods, others = Floods(place, 0), Floods(f"{place}0", 0)
    for each in (floods, others):
        each.admit([RULES["a"]], 0, "t")
    (one,), (other,) = (each.admit([RULES["a"]], 0, "t") or [] for each in (floods, others))
    assert one.flood_id != other.flood_id
