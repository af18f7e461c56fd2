"""Alerts of one entity within a day are one group."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dataflows.detection.alert_groups import GROUP_US, AlertGroups, Group

HOUR_US = GROUP_US // 24
LATENESS_US = 2 * HOUR_US


@st.composite
def alerts(draw: st.DrawFn) -> list[tuple[str | None, int]]:
    """(entity, event time) in order of arrival, none later than the lateness."""
    newest, found = 0, []
    for _ in range(draw(st.integers(0, 40))):
        time_us = newest + draw(st.integers(-2, 30)) * HOUR_US
        newest = max(newest, time_us)
        found.append((draw(st.sampled_from(["d1", "d2", None])), time_us))
    return found


@given(alerts(), st.sets(st.integers(0, 40)))
def test_as_by_hand_whatever_is_kept_and_forgotten(
    raised: list[tuple[str | None, int]], restarts: set[int]
) -> None:
    groups = AlertGroups()
    firsts: dict[str | None, tuple[int, int]] = {}  # number and event time of the last group's
    sizes: dict[int, int] = {}
    for number, (entity, time_us) in enumerate(raised):
        if number in restarts:
            newest_us = max(time_us for _, time_us in raised[: number + 1])
            groups.forget_before(newest_us - LATENESS_US)
            kept = msgspec.json.encode(groups.groups)
            groups = AlertGroups(msgspec.json.decode(kept, type=list[Group]))
        first = firsts.get(entity)
        if entity is None or first is None or time_us - first[1] >= GROUP_US:
            first = firsts[entity] = (number, time_us)
        sizes[first[0]] = sizes.get(first[0], 0) + 1
        placed = groups.add(entity, f"alert {number}", time_us)
        assert placed == (f"alert {first[0]}", sizes[first[0]])


def test_groups_that_are_past_take_up_no_room() -> None:
    groups = AlertGroups()
    groups.add("d1", "a", 0)
    groups.add("d2", "b", HOUR_US)
    groups.forget_before(GROUP_US)
    assert [group.entity for group in groups.groups] == ["d2"]
