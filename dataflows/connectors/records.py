"""The units that flow: records read from a log, and outputs on their way to one.

Everything moves in batches, as parallel columns; one record never travels alone. Offsets and times
are int64 arrays (times in microseconds since the Unix epoch, UTC); keys and values are bytes or
None, untouched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Headers = tuple[tuple[str, bytes], ...]
T = TypeVar("T")

HEARTBEAT_HEADER = "tidegate-heartbeat"
END_OF_TIME_US = 2**62
"""The instant of the final heartbeat: it closes everything that is still open."""

_DECIMAL = re.compile(rb"-?[0-9]{1,19}")


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Records of one partition, in offset order. Offsets increase but need not be contiguous.

    `headers` is None when no record of the batch has any; otherwise () stands for a record without.
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    arrival_us: NDArray[np.int64]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers] | None = None

    def __post_init__(self) -> None:
        _same_length(
            self.topic, self.offsets, self.arrival_us, self.keys, self.values, self.headers
        )

    def __len__(self) -> int:
        return len(self.values)

    def slice(self, start: int, stop: int) -> Records:
        """Rows start..stop-1, with Python's meaning of a slice; the arrays are views."""
        return Records(
            self.topic,
            self.partition,
            self.offsets[start:stop],
            self.arrival_us[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            None if self.headers is None else self.headers[start:stop],
        )

    @staticmethod
    def concat(parts: Sequence[Records]) -> Records:
        """At least one batch, all of the same partition and in offset order, as one."""
        if len(parts) == 1:
            return parts[0]
        headers = None
        if any(part.headers is not None for part in parts):
            headers = list(chain.from_iterable(p.headers or [()] * len(p) for p in parts))
        return Records(
            parts[0].topic,
            parts[0].partition,
            np.concatenate([part.offsets for part in parts]),
            np.concatenate([part.arrival_us for part in parts]),
            list(chain.from_iterable(part.keys for part in parts)),
            list(chain.from_iterable(part.values for part in parts)),
            headers,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """Records for one topic, in order.

    `causes` holds the input offset that triggered each record, non-decreasing; a publisher that
    reads no log puts zeros. `partition` None places each record by its key (`partition_for`).
    """

    topic: str
    causes: NDArray[np.int64]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers] | None = None
    partition: int | None = None

    def __post_init__(self) -> None:
        _same_length(self.topic, self.causes, self.keys, self.values, self.headers)

    def __len__(self) -> int:
        return len(self.values)

    def caused_from(self, next_offset: int) -> Output:
        """What is left when everything caused before `next_offset` is already published."""
        first = int(np.searchsorted(self.causes, next_offset))
        if first == 0:
            return self
        return Output(
            self.topic,
            self.causes[first:],
            self.keys[first:],
            self.values[first:],
            None if self.headers is None else self.headers[first:],
            self.partition,
        )


def taken(values: list[T], rows: NDArray[np.int64]) -> list[T]:
    """The values at different ascending rows; the list itself where those are all."""
    if len(rows) == len(values):
        return values
    return list(map(values.__getitem__, rows.tolist()))


def spread(values: list[T], rows: NDArray[np.int64], count: int) -> list[T | None]:
    """The inverse: `count` entries, a value at each of the ascending rows and None elsewhere."""
    if len(values) == count:
        return values  # type: ignore[return-value]
    entries: list[T | None] = [None] * count
    for row, value in zip(rows.tolist(), values, strict=True):
        entries[row] = value
    return entries


def _same_length(topic: str, *columns: Sequence[object] | NDArray[np.int64] | None) -> None:
    lengths = {len(column) for column in columns if column is not None}
    if len(lengths) > 1:
        raise ValueError(f"{topic}: columns of different lengths {sorted(lengths)}")


def published(
    topic: str,
    keys: list[bytes | None],
    values: list[bytes | None],
    headers: list[Headers] | None = None,
    partition: int | None = None,
) -> Output:
    """An output that no input caused: what simulators and publishers append."""
    return Output(topic, np.zeros(len(values), np.int64), keys, values, headers, partition)


def partition_for(key: bytes | None, partitions: int) -> int:
    """The partition a key belongs to: CRC-32 modulo, like librdkafka's `consistent` partitioner.

    Records without a key go to partition 0.
    """
    return crc32(key) % partitions if key is not None else 0


def partitions_for(keys: Sequence[bytes], partitions: int) -> NDArray[np.int64]:
    """`partition_for` of n keys at once, as int64[n]."""
    if partitions == 1:
        return np.zeros(len(keys), np.int64)
    return np.fromiter(map(crc32, keys), np.int64, len(keys)) % partitions


def heartbeat(topic: str, partition: int, time_us: int, cause: int = 0) -> Output:
    """The record that says: event time in this partition has reached `time_us`."""
    headers = [heartbeat_headers(time_us)]
    return Output(topic, np.array([cause], np.int64), [None], [None], headers, partition)


def heartbeat_headers(time_us: int) -> Headers:
    """The headers that make a record without key and value a heartbeat."""
    return ((HEARTBEAT_HEADER, b"%d" % time_us),)


def heartbeat_time(headers: Headers) -> int | None:
    """The instant a heartbeat announces, in microseconds; None for every other record.

    A heartbeat header whose text is no decimal within +-2**62 does not make a heartbeat.
    """
    for name, value in headers:
        if name == HEARTBEAT_HEADER and _DECIMAL.fullmatch(value):
            time_us = int(value)
            return time_us if abs(time_us) <= END_OF_TIME_US else None
    return None
