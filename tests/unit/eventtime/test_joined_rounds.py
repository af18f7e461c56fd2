"""States that are written together are complete together: brute force over what was written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dataflows.eventtime.changed_rows import JoinedRounds

FRAMES = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.booleans(), st.sampled_from((False,) * 5 + (True,)))
)


@given(FRAMES)
def test_what_is_kept_holds_a_whole_round_of_each(
    frames: list[tuple[bool, bool, bool, bool]],
) -> None:
    rounds, kept_from = JoinedRounds(3), 0
    began = [0, 0, 0]  # the frame with which the round that is on began, of each state
    whole: list[int | None] = [None, None, None]  # where its last complete round began
    for number, (*completed, everything) in enumerate(frames):
        done = [True] * 3 if everything else completed
        for state in range(3):
            if everything:
                began[state] = number
            if done[state]:
                whole[state], began[state] = began[state], number + 1
        if rounds.complete(done, everything):
            assert all(each is not None and each >= kept_from for each in whole)
            kept_from = number + 1


def test_one_state_alone_is_complete_whenever_it_is() -> None:
    rounds = JoinedRounds(1)
    assert [rounds.complete([done]) for done in (False, True, True, False, True)] == [
        *(False, True, True, False, True)
    ]


def test_two_that_come_round_in_turn_wait_for_rounds_begun_since() -> None:
    rounds = JoinedRounds(2)
    turns = [(False, True), (True, False)] * 4
    assert [rounds.complete(turn) for turn in turns] == [
        *(False, True, False, False, True, False, False, True)
    ]
