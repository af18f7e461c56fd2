"""What ingest must make of every record, computed on the final order of one raw partition.

Independent of the stream's own code on purpose: running maxima over columns instead of state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.simulator.rhythm import Ints
from services.simulator.settings import DAY_US, HOUR_US

BOUND_US: Final = 30_000_000
LATENESS_US: Final = HOUR_US
HORIZON_US: Final = 7 * DAY_US

ON_TIME, LATE, BUFFERED, EXPIRED, DUPLICATE, FAILED = range(6)
_NEVER: Final = np.int64(-(2**62))


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One fate (ON_TIME .. FAILED) a record, and which of them came after something newer."""

    fate: NDArray[np.int8]
    overtaken: NDArray[np.bool_]


def judge(
    event_us: Ints,
    identity: Ints,
    failed: NDArray[np.bool_],
    heartbeat_after: Ints,
    heartbeat_us: Ints,
) -> Verdicts:
    """Judge the n records of one partition, in order.

    `identity` is equal for records with the same id. Heartbeat j, carrying `heartbeat_us[j]`,
    comes after the first `heartbeat_after[j]` records; both are non-decreasing. Failed records
    neither move the watermark nor count as seen.
    """
    count = len(event_us)
    valid = ~failed
    beats = np.concatenate(([_NEVER], heartbeat_us))
    beaten = beats[np.searchsorted(heartbeat_after, np.arange(count), side="right")]
    moving = np.maximum(np.where(valid, event_us, _NEVER), beaten)
    seen = np.maximum.accumulate(moving) if count else moving
    behind = seen - BOUND_US - event_us
    limits = np.array([0, LATENESS_US, HORIZON_US])
    fate = np.searchsorted(limits, behind, side="left").astype(np.int8)
    # The watermark never falls, so a repeat that is not too late has a first one that was not
    # either: the first one was accepted and is still remembered.
    where = np.flatnonzero(valid)
    _, first = np.unique(identity[where], return_index=True)
    repeated = valid.copy()
    repeated[where[first]] = False
    fate[repeated & (fate <= LATE)] = DUPLICATE
    fate[failed] = FAILED
    overtaken = (fate == ON_TIME) & (event_us < seen)
    return Verdicts(fate, overtaken)
