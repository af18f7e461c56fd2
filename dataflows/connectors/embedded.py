"""The embedded log: one SQLite file that several processes append to and read from.

One row is one batch of records of one partition, so SQLite's cost is paid per batch. Outputs and
marker share a transaction. The file is in WAL mode with synchronous=NORMAL: readers and the one
writer of the moment do not wait for each other, and what a commit returned for survives the death
of any process at any time. It may lose its last commits, never its consistency, when the machine
itself loses power; those who need more run Kafka.

The file must lie on a local file system. A process that forks opens its log after the fork.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TypeVar

import numpy as np

from dataflows.connectors.embedded_store import SCHEMA, Columns, Row, Store
from dataflows.connectors.log import (
    Fenced,
    Held,
    LogError,
    Marker,
    OffsetOutOfRange,
    TopicInfo,
    TopicStep,
    refuse_any,
)
from dataflows.connectors.records import Headers, Output, Records
from dataflows.connectors.sqlite_file import create

T = TypeVar("T")

NEVER = (
    "keys and state hang on that number; configure the one it has, and have `tidegate reshard` "
    "change it"
)


def clock_us() -> int:
    """The wall clock, in microseconds since the Unix epoch."""
    return time.time_ns() // 1_000


class EmbeddedLog:
    """A log in the SQLite file `path`, made with its folder if it is not there.

    `clock` gives the arrival time of what is appended (microseconds); where it steps back,
    arrival times stand still until it has caught up.

    Raises:
        LogError: the file cannot be used; says why and what to do.
    """

    contiguous = True

    def __init__(self, path: str | Path, clock: Callable[[], int] = clock_us):
        self.path = Path(path).expanduser().absolute()
        self._clock = clock
        create(self.path, SCHEMA)
        self._store = Store(self.path, clock)
        self._lock = threading.Lock()

    def missing_topics(self, partitions: Mapping[str, int]) -> list[str]:
        with self._lock:
            return self._missing(partitions)

    def create_topics(
        self, partitions: Mapping[str, int], keep: Mapping[str, float] | None = None
    ) -> None:
        with self._lock:
            if not self._missing(partitions):
                return
            with self._store.transaction():
                for topic in self._missing(partitions):
                    self._store.add_topic(topic, partitions[topic])

    def _missing(self, partitions: Mapping[str, int]) -> list[str]:
        there = {topic: info.partitions for topic, info in self._store.topics().items()}
        for topic, count in partitions.items():
            if count < 1:
                raise LogError(f"topic {topic}: needs at least one partition, not {count}")
            if there.get(topic, count) != count:
                raise LogError(
                    f"topic {topic} has {there[topic]} partition(s) in {self.path}, not {count}: "
                    f"keys and state hang on that number; configure {there[topic]}, and have "
                    "`tidegate reshard` change it"
                )
        return [topic for topic in partitions if topic not in there]

    def grow_topics(self, partitions: Mapping[str, int]) -> None:
        with self._lock, self._store.transaction():
            there = self._store.topics()
            for topic, count in partitions.items():
                self._store.add_partitions(topic, range(there[topic].partitions, count))

    def plan_topics(
        self,
        partitions: Mapping[str, int],
        keep: Mapping[str, float],
        slots: Sequence[str],
        shorten: bool = False,
    ) -> list[TopicStep]:
        """Topics have no settings here: `apply_retention` is told how long they keep records."""
        there = self.topics()
        steps = []
        for topic, count in partitions.items():
            if topic not in there:
                steps.append(TopicStep(topic, "create", "partitions", None, str(count)))
            elif there[topic].partitions != count:
                now = str(there[topic].partitions)
                steps.append(TopicStep(topic, "refuse", "partitions", now, str(count), NEVER))
        return steps

    def apply_topics(
        self,
        steps: Sequence[TopicStep],
        partitions: Mapping[str, int],
        keep: Mapping[str, float],
    ) -> None:
        refuse_any(steps)
        self.create_topics({s.topic: partitions[s.topic] for s in steps if s.do == "create"})

    def clients_set_arrival(self, topics: Sequence[str]) -> list[str]:
        return []

    def topics(self) -> dict[str, TopicInfo]:
        with self._lock:
            return self._store.topics()

    def partitions(self, topic: str) -> int:
        with self._lock:
            self._store.partition_id(topic, 0)
            return self._store.topics()[topic].partitions

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        with self._lock:
            return self._store.offsets(self._store.partition_id(topic, partition))

    def identity(self, topic: str) -> str:
        with self._lock:
            self._store.partition_id(topic, 0)
            return f"sqlite:{self._store.identity()}/{topic}"

    def unread(self, places: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        return {place: max(0, self.offsets(*place)[1] - start) for place, start in places.items()}

    def reader(self, topic: str, partition: int, offset: int) -> EmbeddedReader:
        return self._with_own_store(lambda store: EmbeddedReader(store, topic, partition, offset))

    def append(self, outputs: Sequence[Output]) -> None:
        with self._lock:
            batches = self._store.encode(outputs)
            if batches:
                with self._store.transaction():
                    self._store.append(batches)
                self._store.bound_wal()

    def prepare(self, slots: Sequence[str], topics: Sequence[str]) -> None:
        """Nothing: a marker is a row, and a transaction may be large."""

    def writer(self, slot: str) -> EmbeddedWriter:
        return self._with_own_store(lambda store: EmbeddedWriter(store, slot))

    def _with_own_store(self, make: Callable[[Store], T]) -> T:
        store = Store(self.path, self._clock)
        try:
            return make(store)
        except BaseException:
            store.close()
            raise

    def markers(self, prefix: str = "") -> dict[str, Marker]:
        with self._lock:
            found = self._store.markers()
        return {slot: marker for slot, marker in found.items() if slot.startswith(prefix)}

    def held_back(self) -> list[Held]:
        return []

    def committed(self, flows: Sequence[str]) -> dict[str, int]:
        return {}

    def apply_retention(self, now_us: int, keep: Mapping[str, float]) -> None:
        for topic, seconds in keep.items():
            if seconds == inf:
                continue
            before_us = now_us - int(seconds * 1e6)
            with self._lock:
                partition_ids = self._store.partition_ids(topic)
            for partition_id in partition_ids:
                more = True
                while more:
                    with self._lock:
                        more = self._store.remove_some(partition_id, before_us)

    def close(self) -> None:
        with self._lock:
            self._store.close()


class EmbeddedWriter:
    """Publishes for one slot; see `dataflows.connectors.log.Writer`."""

    def __init__(self, store: Store, slot: str):
        self._store, self._slot = store, slot
        with store.transaction():
            self._epoch, self._marker = store.take_slot(slot)

    @property
    def marker(self) -> Marker | None:
        return self._marker

    def commit(self, outputs: Sequence[Output], marker: Marker) -> None:
        if self._marker is not None and marker.next_offset < self._marker.next_offset:
            raise ValueError(
                f"slot {self._slot}: the marker goes back from offset {self._marker.next_offset} "
                f"to {marker.next_offset}"
            )
        batches = self._store.encode(outputs)
        with self._store.transaction():
            if not self._store.put_marker(self._slot, self._epoch, marker):
                raise Fenced(
                    f"slot {self._slot}: another process has taken it over, this one must stop"
                )
            self._store.append(batches)
        self._marker = marker
        self._store.bound_wal()

    def close(self) -> None:
        self._store.close()


class EmbeddedReader:
    """Reads one partition; see `dataflows.connectors.log.Reader`."""

    def __init__(self, store: Store, topic: str, partition: int, offset: int):
        self._store = store
        self._topic, self._partition = topic, partition
        self._id = store.partition_id(topic, partition)
        low, high = store.offsets(self._id)
        if not low <= offset <= high:
            raise OffsetOutOfRange(topic, partition, offset, low, high)
        self._position = offset
        self._batch_base = store.batch_base(self._id, offset)
        self._rest = self._none = self._records(offset, [], [], [], [], None)
        self._rest_from = 0
        self._version_at_end = -1

    @property
    def position(self) -> int:
        return self._position

    def read(self, max_records: int) -> Records:
        if self._rest_from == len(self._rest):
            # The version is taken first: what is committed after it makes the next read look.
            version = self._store.version()
            if version == self._version_at_end:
                return self._none
            self._fetch(max_records)
            if not len(self._rest):
                self._version_at_end = version
                return self._none
        start, stop = self._rest_from, min(self._rest_from + max_records, len(self._rest))
        records = self._rest if stop - start == len(self._rest) else self._rest.slice(start, stop)
        self._rest_from = stop
        if stop == len(self._rest):
            self._rest, self._rest_from = self._none, 0
        self._position = int(records.offsets[-1]) + 1
        return records

    def _fetch(self, max_records: int) -> None:
        """Reads stored batches until they hold `max_records`, or are large, or end."""
        rows = self._store.batches(self._id, self._batch_base, max_records)
        if not rows or rows[0].base > self._position:
            low, high = self._store.offsets(self._id)
            if self._position < low:
                raise OffsetOutOfRange(self._topic, self._partition, self._position, low, high)
        keys, values, headers = self._join(rows)
        self._rest = self._records(
            self._batch_base,
            [row.arrival_us for row in rows],
            [row.records for row in rows],
            keys,
            values,
            headers,
        )
        self._rest_from = self._position - self._batch_base if rows else 0
        self._batch_base += len(values)

    def _join(self, rows: Sequence[Row]) -> Columns:
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        headers: list[Headers] = []
        for row in rows:
            if row.base != self._batch_base + len(values):
                place = f"{self._topic} partition {self._partition}"
                raise self._store.damaged(f"{place} before offset {row.base}")
            some_keys, some_values, some_headers = self._store.decode(row)
            if some_headers is not None:
                headers += [()] * (len(values) - len(headers))
                headers += some_headers
            keys += some_keys
            values += some_values
        if headers:
            headers += [()] * (len(values) - len(headers))
        return keys, values, headers or None

    def _records(
        self,
        base: int,
        arrivals_us: list[int],
        counts: list[int],
        keys: list[bytes | None],
        values: list[bytes | None],
        headers: list[Headers] | None,
    ) -> Records:
        return Records(
            self._topic,
            self._partition,
            np.arange(base, base + len(values), dtype=np.int64),
            np.repeat(np.array(arrivals_us, np.int64), counts),
            keys,
            values,
            headers,
        )

    def high_watermark(self) -> int:
        return self._store.offsets(self._id)[1]

    def close(self) -> None:
        self._store.close()
