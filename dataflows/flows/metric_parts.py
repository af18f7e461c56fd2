"""What travels between the hops of metrics: what one partition knows of a metric's windows."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.contracts.timestamps import MAX_US, MIN_US, format_timestamps
from dataflows.decodable import make_decodable
from dataflows.detection.metrics import MOST_SEGMENTS, Aggregate
from dataflows.durations import MICROSECONDS
from dataflows.flows.decoding import Timed

PARTS = "metrics.parts"

Instant = Annotated[int, msgspec.Meta(ge=MIN_US, le=MAX_US)]
Sum = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class WindowPart(msgspec.Struct, frozen=True, array_like=True):
    """A partition's share of a window: of each group how many events, and how much."""

    start_us: Instant
    sums: list[tuple[Sum, Sum]]


class Part(Timed, kw_only=True):
    """A partition is closed up to `event_timestamp`, with these windows; those without events are
    left out. It says all that is needed to go on with it: who reads it knows no metric files."""

    metric: str
    version: str
    aggregate: Aggregate
    window_us: Annotated[int, msgspec.Meta(ge=1, le=MICROSECONDS["d"])]
    scale: Positive
    """Sums are in so many parts of a unit: hundredths of money."""
    at_least: Positive
    signed: bool
    """Whether a figure may be negative."""
    segments: Annotated[tuple[str, ...], msgspec.Meta(max_length=MOST_SEGMENTS)]
    since_us: Instant | None
    """Windows that begin earlier were not counted whole; None: all were."""
    partition: Annotated[int, msgspec.Meta(ge=0)]
    partitions: Positive
    windows: list[WindowPart]


make_decodable(Part)
part_decoder = msgspec.json.Decoder(Part)


def instants(times_us: NDArray[np.int64]) -> list[str]:
    """As texts, which end with the year 9999: the last heartbeat of a replay lies beyond."""
    return format_timestamps(np.clip(times_us, MIN_US, MAX_US))
