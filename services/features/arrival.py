"""Events and their labels in the order in which they would have become known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflows.features.columns import Column
from dataflows.features.engine import NEVER, Events

AT_ONCE = 50_000


class Part(NamedTuple):
    """Some records in order; `rows` are those of the n events, -1 for a label."""

    events: Events
    rows: NDArray[np.int64]


def in_order(
    times_us: NDArray[np.int64],
    known_us: NDArray[np.int64],
    fields: Mapping[str, Column],
    bound_us: int | None = None,
) -> Iterator[Part]:
    """n events as the engine takes them, some at a time.

    `known_us[i]` is when it became known that event i is positive, NEVER if it is not. By default
    events come in order of their time. With `bound_us` they come as they are, as if they arrived
    so, and the watermark is that far behind the latest. Either way a label comes before the first
    event at or after the moment when it became known.
    """
    rows = np.arange(len(times_us))
    if bound_us is None:
        bound_us = 0
        rows = np.argsort(times_us, kind="stable")
    arrived = np.maximum.accumulate(times_us[rows]) if len(rows) else times_us
    positive = np.flatnonzero(known_us != NEVER)
    positive = positive[np.argsort(known_us[positive], kind="stable")]
    moments = np.concatenate([known_us[positive], arrived])
    is_event = np.repeat([False, True], [len(positive), len(rows)])
    order = np.lexsort((is_event, moments))
    records = np.concatenate([positive, rows])[order]
    moments, is_event = moments[order], is_event[order]
    for first in range(0, len(records), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        mine, events = records[some], is_event[some]
        columns = {name: Column(c.values[mine], c.valid[mine]) for name, c in fields.items()}
        yield Part(
            Events(
                times_us=times_us[mine],
                fields=columns,
                watermarks_us=moments[some] - bound_us,
                known_us=np.where(events, NEVER, known_us[mine]),
            ),
            np.where(events, mine, -1),
        )
