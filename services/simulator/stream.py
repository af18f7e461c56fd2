"""The records of all sources in the order of arrival, cut by simulated time, with heartbeats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataflows.connectors.records import Headers, heartbeat_headers, partition_for
from services.simulator.breakage import REASONS, Damage, damaged
from services.simulator.reckoning import FAILED, Verdicts, judge
from services.simulator.rhythm import Ints
from services.simulator.settings import HOUR_US, SimulationSettings
from services.simulator.tables import Table
from services.simulator.truth import SourceTruth
from services.simulator.visits import Rows

# After the last event: longer than a session's gap, the allowed lateness and the bound together.
CLOSING_US: Final = 2 * HOUR_US
# Encoding many records in one go is several times faster than an hour of a quiet night at a time.
_RECORDS_A_BLOCK: Final = 40_000


@dataclass(frozen=True, slots=True)
class ChunkPart:
    """A chunk's records for one raw partition, in order; the last one is its heartbeat.

    `arrival_us` is when each record would arrive in simulated time, non-decreasing.
    `headers` has () for every record but the heartbeat.
    """

    source: str
    partition: int
    arrival_us: Ints
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What arrives in [start_us, end_us) of simulated time, for every raw partition.

    `reached_us` is the instant that the closing heartbeats carry; (`first_event_us`,
    `last_event_us`) spans the event times of the events behind the records, equal to
    (`end_us`, `end_us`) without any.
    """

    index: int
    start_us: int
    end_us: int
    reached_us: int
    first_event_us: int
    last_event_us: int
    parts: tuple[ChunkPart, ...]

    @property
    def records(self) -> int:
        """Records without heartbeats."""
        return sum(len(part) - 1 for part in self.parts)


@dataclass(frozen=True, slots=True)
class Timeline:
    """When chunks end, and which instant the heartbeats at each end carry."""

    ends_us: Ints
    reached_us: Ints


@dataclass(frozen=True, slots=True)
class Partition:
    """One raw partition: its deliveries in order, and where each chunk ends among them."""

    table: Table
    number: int
    deliveries: Rows
    chunk_ends: Ints


def make_timeline(settings: SimulationSettings) -> Timeline:
    """The first chunk ends at the start: it holds the reference data from before."""
    ends = np.arange(settings.start_us, settings.end_us, settings.chunk_us, dtype=np.int64)
    ends = np.append(ends, settings.end_us)
    reached = ends.copy()
    reached[-1] += CLOSING_US
    return Timeline(ends, reached)


def split(
    settings: SimulationSettings, timeline: Timeline, table: Table, deliveries: Rows
) -> list[Partition]:
    """Deliveries by the partition that their key belongs to."""
    count = settings.partitions_of(table.source)
    by_key = np.array([partition_for(key, count) for key in table.keys])
    number = by_key[table.key[deliveries["row"]]]
    number[deliveries["damage"] == Damage.MISSING_USER] = partition_for(None, count)
    partitions = []
    for partition in range(count):
        own = deliveries[number == partition]
        ends = np.searchsorted(own["arrival_us"], timeline.ends_us, side="left")
        partitions.append(Partition(table, partition, own, ends.astype(np.int64)))
    return partitions


def verdicts(timeline: Timeline, partition: Partition) -> Verdicts:
    """What ingest must make of each of the partition's deliveries."""
    deliveries = partition.deliveries
    return judge(
        event_us=partition.table.event_us[deliveries["row"]],
        identity=deliveries["row"],
        failed=deliveries["damage"] != Damage.NONE,
        heartbeat_after=partition.chunk_ends,
        heartbeat_us=timeline.reached_us,
    )


def count_source(partitions: list[Partition], judged: list[Verdicts]) -> SourceTruth:
    """The ground truth of a source from all its partitions."""
    fates = np.zeros(FAILED + 1, np.int64)
    damages = np.zeros(len(Damage), np.int64)
    for partition, verdict in zip(partitions, judged, strict=True):
        fates += np.bincount(verdict.fate, minlength=len(fates))
        damages += np.bincount(partition.deliveries["damage"], minlength=len(damages))
    failed: dict[str, int] = {}
    for damage, reason in REASONS.items():
        if damages[damage]:
            failed[reason] = failed.get(reason, 0) + int(damages[damage])
    good, late, buffered, expired, duplicates, _ = fates.tolist()
    return SourceTruth(
        total=int(fates.sum()),
        good=good,
        late=late,
        buffered=buffered,
        expired=expired,
        duplicates=duplicates,
        failed=failed,
        out_of_order=sum(int(verdict.overtaken.sum()) for verdict in judged),
        heartbeats=sum(len(partition.chunk_ends) for partition in partitions),
    )


def chunks(
    settings: SimulationSettings, timeline: Timeline, partitions: list[Partition]
) -> Iterator[Chunk]:
    """All chunks in order of time; encoded a block of chunks at a time."""
    published = settings.end_us if settings.published_us is None else settings.published_us
    sizes = np.sum([partition.chunk_ends for partition in partitions], axis=0)
    first = 0
    while first < len(timeline.ends_us):
        done = sizes[first - 1] if first else 0
        last = int(np.searchsorted(sizes, done + _RECORDS_A_BLOCK, side="left"))
        last = min(last, len(sizes) - 1)
        blocks = [_Block(partition, first, last, published) for partition in partitions]
        for index in range(first, last + 1):
            yield _cut(settings, timeline, blocks, index)
        first = last + 1


class _Block:
    """The encoded records of one partition over several chunks."""

    def __init__(self, partition: Partition, first: int, last: int, published_us: int) -> None:
        table, ends = partition.table, partition.chunk_ends
        self.partition = partition
        self.start = int(ends[first - 1]) if first else 0
        self.deliveries = partition.deliveries[self.start : int(ends[last])]
        rows = self.deliveries["row"]
        self.event_us = table.event_us[rows]
        self.values: list[bytes] = table.encode(rows)
        self.keys: list[bytes | None] = [table.keys[key] for key in table.key[rows].tolist()]
        for at in np.flatnonzero(self.deliveries["damage"]).tolist():
            damage = Damage(int(self.deliveries["damage"][at]))
            salt = int(self.deliveries["salt"][at])
            self.values[at] = damaged(self.values[at], damage, table.source, salt, published_us)
            if damage is Damage.MISSING_USER:
                self.keys[at] = None

    def bounds(self, chunk: int) -> tuple[int, int]:
        """Where the chunk's records lie within the block."""
        ends = self.partition.chunk_ends
        low = int(ends[chunk - 1]) if chunk else 0
        return low - self.start, int(ends[chunk]) - self.start

    def part(self, chunk: int, end_us: int, reached_us: int) -> ChunkPart:
        low, high = self.bounds(chunk)
        return ChunkPart(
            source=self.partition.table.source,
            partition=self.partition.number,
            arrival_us=np.append(self.deliveries["arrival_us"][low:high], end_us),
            keys=[*self.keys[low:high], None],
            values=[*self.values[low:high], None],
            headers=[*[()] * (high - low), heartbeat_headers(reached_us)],
        )


def _cut(
    settings: SimulationSettings, timeline: Timeline, blocks: list[_Block], index: int
) -> Chunk:
    end, reached = int(timeline.ends_us[index]), int(timeline.reached_us[index])
    start = int(timeline.ends_us[index - 1]) if index else settings.start_us - HOUR_US
    times: list[NDArray[np.int64]] = [
        block.event_us[slice(*block.bounds(index))] for block in blocks
    ]
    events = np.concatenate(times)
    return Chunk(
        index=index,
        start_us=start,
        end_us=end,
        reached_us=reached,
        first_event_us=int(events.min()) if len(events) else end,
        last_event_us=int(events.max()) if len(events) else end,
        parts=tuple(block.part(index, end, reached) for block in blocks),
    )
