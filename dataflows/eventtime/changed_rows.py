"""Which rows of the tables of a state to write, so that what is written adds up to the state.

A journal of changed rows alone would grow for ever. So with the rows that changed some others are
written in turn; once the turn has come round, what was written since it began is the whole state,
and what was written before it can go. No step ever writes everything because of that.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflows.eventtime.snapshots import Buffer

_LEAST_SHARE: Final = 1 / 64


class Changes(NamedTuple):
    """A frame of a journal, in parts; `complete`: what was written since the last complete one
    (that one not included) is the whole state."""

    parts: list[Buffer]
    complete: bool


class JoinedRounds:
    """When states whose changes go into one frame, each with rounds of its own, are complete
    together.

    Of each a round counts that began behind the last frame that was complete: only what was written
    since is kept.
    """

    def __init__(self, states: int) -> None:
        self._counts = [True] * states  # whether the round that is on does
        self._done = [False] * states

    def complete(self, completed: Sequence[bool], everything: bool = False) -> bool:
        """Whether the frame is, in which these states complete a round or all are written whole."""
        for state, done in enumerate(completed):
            self._done[state] |= done and self._counts[state]
            self._counts[state] |= done
        if not (everything or all(self._done)):
            return False
        self._counts = list(completed)
        self._done = [False] * len(completed)
        return True


class ChangedRows:
    """Goes round the rows of some tables. A share of them as large as the share that changed goes
    with those that did, so a round writes at most about twice the rows there are."""

    def __init__(self, tables: int) -> None:
        self._next = [0] * tables

    def take(
        self, flags: Sequence[NDArray[np.uint8]], used: Sequence[int], everything: bool = False
    ) -> tuple[list[NDArray[np.int32]], bool]:
        """The rows to write, ascending int32, of each table, and whether the round is complete.

        `flags` uint8[>= used] are 1 for rows that changed since the last call, `used` the rows that
        each table has; the flags are cleared. `everything` completes the round at once.
        """
        changed = [flag[:n] for flag, n in zip(flags, used, strict=True)]
        share = 1.0
        if not everything:
            shares = [np.count_nonzero(flag) / max(len(flag), 1) for flag in changed]
            share = max(*shares, _LEAST_SHARE)
        rows = []
        for table, flag in enumerate(changed):
            first = 0 if everything else self._next[table]
            last = first + int(share * len(flag)) + 1
            flag[first:last] = 1
            rows.append(np.flatnonzero(flag).astype(np.int32))
            flag[:] = 0
            self._next[table] = last
        complete = all(n <= at for n, at in zip(used, self._next, strict=True))
        if complete:
            self._next = [0] * len(self._next)
        return rows, complete
