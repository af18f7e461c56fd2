"""The embedded log: one SQLite file that several processes append to and read from.

One row is one batch of records of one partition, so SQLite's cost is paid per batch. Outputs and
marker share a transaction. The file is in WAL mode with synchronous=NORMAL: readers and the one
writer of the moment do not wait for each other, and what a commit returned for survives the death
of any process at any time. It may lose its last commits, never its consistency, when the machine
itself loses power; those who need more run Kafka.

The file must lie on a local file system. A process that forks opens its log after the fork.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from dataflows.connectors.log import (
    Fenced,
    LogError,
    Marker,
    OffsetOutOfRange,
    TopicInfo,
    UnknownTopic,
)
from dataflows.connectors.records import Headers, Output, Records, partition_for
from dataflows.connectors.sqlite_file import (
    APPLICATION_ID,
    FORMAT_VERSION,
    SqliteFile,
    create,
    explained,
)

BATCH_BYTES = 8 << 20  # of one stored batch, before compression
READ_BYTES = 32 << 20  # of one read, so that huge records do not fill the memory
MAX_RECORD_BYTES = 256 << 20

# A batch's row id is its place: partition id, then base offset. SQLite keeps rows in that order,
# so finding an offset and reading on from it need no index.
_OFFSET_BITS = 44

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    low INTEGER NOT NULL DEFAULT 0,
    high INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    arrival_us INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, partition)
);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    arrival_us INTEGER NOT NULL,
    size INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE slots (slot TEXT PRIMARY KEY, epoch INTEGER NOT NULL, marker BLOB) WITHOUT ROWID;
"""

_log = logging.getLogger(__name__)
_lz4 = pa.Codec("lz4_raw")
_Columns = tuple[list[bytes | None], list[bytes | None], list[Headers] | None]
_encode_columns = msgspec.msgpack.Encoder().encode
_decode_columns = msgspec.msgpack.Decoder(_Columns).decode
_encode_marker = msgspec.msgpack.Encoder().encode
_decode_marker = msgspec.msgpack.Decoder(Marker).decode


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

    def __init__(self, path: str | Path, clock: Callable[[], int] = clock_us):
        self.path = Path(path).expanduser().absolute()
        self._clock = clock
        create(self.path, _SCHEMA)
        self._database = _Database(self.path, clock)
        self._lock = threading.Lock()

    def create_topics(self, partitions: Mapping[str, int]) -> None:
        with self._lock:
            if not self._missing(partitions):
                return
            with self._database.transaction() as execute:
                for topic in self._missing(partitions):
                    for partition in range(partitions[topic]):
                        execute(
                            "INSERT INTO partitions (topic, partition) VALUES (?, ?)",
                            (topic, partition),
                        )

    def _missing(self, partitions: Mapping[str, int]) -> list[str]:
        there = {topic: info.partitions for topic, info in self._topics().items()}
        for topic, count in partitions.items():
            if count < 1:
                raise LogError(f"topic {topic}: needs at least one partition, not {count}")
            if there.get(topic, count) != count:
                raise LogError(
                    f"topic {topic} has {there[topic]} partition(s) in {self.path}, not {count}: "
                    "keys and state hang on that number, so it cannot change; configure "
                    f"{there[topic]}, or start a new log in another data_dir"
                )
        return [topic for topic in partitions if topic not in there]

    def topics(self) -> dict[str, TopicInfo]:
        with self._lock:
            return self._topics()

    def _topics(self) -> dict[str, TopicInfo]:
        rows = self._database.query(
            "SELECT topic, count(*), sum(high - low), sum(bytes) FROM partitions GROUP BY topic"
        )
        return {topic: TopicInfo(*info) for topic, *info in rows}

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        with self._lock:
            return self._database.offsets(self._database.partition_id(topic, partition))

    def reader(self, topic: str, partition: int, offset: int) -> EmbeddedReader:
        database = _Database(self.path, self._clock)
        try:
            return EmbeddedReader(database, topic, partition, offset)
        except BaseException:
            database.close()
            raise

    def append(self, outputs: Sequence[Output]) -> None:
        with self._lock:
            batches = self._database.encode(outputs)
            if batches:
                with self._database.transaction():
                    self._database.append(batches)
                self._database.bound_wal()

    def writer(self, slot: str) -> EmbeddedWriter:
        return EmbeddedWriter(_Database(self.path, self._clock), slot)

    def markers(self) -> dict[str, Marker]:
        with self._lock:
            rows = self._database.query("SELECT slot, marker FROM slots WHERE marker IS NOT NULL")
        return {slot: _decode_marker(marker) for slot, marker in rows}

    def apply_retention(self, now_us: int, keep: Mapping[str, float]) -> None:
        for topic, seconds in keep.items():
            before_us = now_us - int(seconds * 1e6)
            with self._lock:
                partition_ids = self._database.partition_ids(topic)
            for partition_id in partition_ids:
                more = True
                while more:
                    with self._lock:
                        more = self._database.remove_some(partition_id, before_us)

    def close(self) -> None:
        with self._lock:
            self._database.close()


class EmbeddedWriter:
    """Publishes for one slot; see `dataflows.connectors.log.Writer`."""

    def __init__(self, database: _Database, slot: str):
        self._database, self._slot = database, slot
        with database.transaction() as execute:
            execute(
                "INSERT INTO slots (slot, epoch) VALUES (?, 1) "
                "ON CONFLICT (slot) DO UPDATE SET epoch = epoch + 1",
                (slot,),
            )
            self._epoch, marker = execute(
                "SELECT epoch, marker FROM slots WHERE slot = ?", (slot,)
            ).fetchone()
        self._marker = None if marker is None else _decode_marker(marker)

    @property
    def marker(self) -> Marker | None:
        return self._marker

    def commit(self, outputs: Sequence[Output], marker: Marker) -> None:
        if self._marker is not None and marker.next_offset < self._marker.next_offset:
            raise ValueError(
                f"slot {self._slot}: the marker goes back from offset {self._marker.next_offset} "
                f"to {marker.next_offset}"
            )
        batches = self._database.encode(outputs)
        blob = _encode_marker(marker)
        with self._database.transaction() as execute:
            mine = execute(
                "UPDATE slots SET marker = ? WHERE slot = ? AND epoch = ?",
                (blob, self._slot, self._epoch),
            )
            if mine.rowcount != 1:
                raise Fenced(
                    f"slot {self._slot}: another process has taken it over, this one must stop"
                )
            self._database.append(batches)
        self._marker = marker
        self._database.bound_wal()

    def close(self) -> None:
        self._database.close()


class EmbeddedReader:
    """Reads one partition; see `dataflows.connectors.log.Reader`."""

    def __init__(self, database: _Database, topic: str, partition: int, offset: int):
        self._database = database
        self._topic, self._partition = topic, partition
        self._id = database.partition_id(topic, partition)
        low, high = database.offsets(self._id)
        if not low <= offset <= high:
            raise OffsetOutOfRange(topic, partition, offset, low, high)
        self._position = offset
        self._batch_base = database.batch_base(self._id, offset)
        self._rest = self._none = self._records(offset, [], [], [], [], None)
        self._rest_from = 0
        self._version_at_end = -1

    @property
    def position(self) -> int:
        return self._position

    def read(self, max_records: int) -> Records:
        if self._rest_from == len(self._rest):
            # The version is taken first: what is committed after it makes the next read look.
            version = self._database.version()
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
        rows = self._database.batches(self._id, self._batch_base, max_records)
        if not rows or rows[0].base > self._position:
            low, high = self._database.offsets(self._id)
            if self._position < low:
                raise OffsetOutOfRange(self._topic, self._partition, self._position, low, high)
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        headers: list[Headers] = []
        for row in rows:
            some_keys, some_values, some_headers = self._decode(row)
            keys += some_keys
            values += some_values
            if some_headers is not None:
                headers += [()] * (len(values) - len(headers) - len(some_headers))
                headers += some_headers
        if headers:
            headers += [()] * (len(values) - len(headers))
        self._rest = self._records(
            self._batch_base,
            [row.arrival_us for row in rows],
            [row.records for row in rows],
            keys,
            values,
            headers or None,
        )
        self._rest_from = self._position - self._batch_base if rows else 0
        self._batch_base += len(values)

    def _decode(self, row: _Row) -> _Columns:
        try:
            return _decode_columns(_lz4.decompress(row.data, row.size, asbytes=True))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise LogError(
                f"{self._database.path} is damaged: the records of {self._topic} partition "
                f"{self._partition} from offset {row.base} cannot be decoded; restore the file"
            ) from error

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
        return self._database.offsets(self._id)[1]

    def close(self) -> None:
        self._database.close()


class _Batch(NamedTuple):
    """Records of one partition, ready to be stored."""

    partition_id: int
    records: int
    size: int
    data: bytes


class _Row(NamedTuple):
    """A stored batch."""

    base: int
    records: int
    arrival_us: int
    size: int
    data: bytes


class _Database(SqliteFile):
    """One connection to the log's file, and the statements that run on it."""

    def __init__(self, path: Path, clock: Callable[[], int]):
        super().__init__(path)
        self._clock = clock
        self._clock_warned = False
        self._partition_ids: dict[str, list[int]] = {}

    # --- partitions -----------------------------------------------------------------------------

    def partition_ids(self, topic: str) -> list[int]:
        """The ids of a topic's partitions, which never change, by partition number."""
        ids = self._partition_ids.get(topic)
        if ids is None:
            rows = self.query("SELECT id FROM partitions WHERE topic = ? ORDER BY partition", topic)
            if not rows:
                raise UnknownTopic(f"{self.path} has no topic {topic}; create it first")
            ids = self._partition_ids[topic] = [id_ for (id_,) in rows]
        return ids

    def partition_id(self, topic: str, partition: int) -> int:
        ids = self.partition_ids(topic)
        if not 0 <= partition < len(ids):
            raise UnknownTopic(
                f"topic {topic} has partitions 0..{len(ids) - 1} in {self.path}, not {partition}"
            )
        return ids[partition]

    def offsets(self, partition_id: int) -> tuple[int, int]:
        rows = self.query("SELECT low, high FROM partitions WHERE id = ?", partition_id)
        low, high = rows[0]
        return low, high

    # --- appending ------------------------------------------------------------------------------

    def encode(self, outputs: Sequence[Output]) -> list[_Batch]:
        """What `append` will store; all the work that needs no lock."""
        return [
            _Batch(partition_id, count, size, data)
            for output in outputs
            for partition_id, columns in self._place(output)
            for count, size, data in _encode(output.topic, columns)
        ]

    def _place(self, output: Output) -> Iterator[tuple[int, _Columns]]:
        ids = self.partition_ids(output.topic)
        columns = output.keys, output.values, output.headers
        if not len(output):
            return
        if output.partition is not None:
            yield self.partition_id(output.topic, output.partition), columns
        elif len(ids) == 1:
            yield ids[0], columns
        else:
            placed = [partition_for(key, len(ids)) for key in output.keys]
            order = np.argsort(np.array(placed), kind="stable").tolist()
            for partition, rows in groupby(order, placed.__getitem__):
                yield ids[partition], _take(columns, list(rows))

    def append(self, batches: Sequence[_Batch]) -> None:
        """Stores the batches; part of a transaction."""
        now_us = self._clock()
        for batch in batches:
            base, last_us = self.execute(
                "SELECT high, arrival_us FROM partitions WHERE id = ?", (batch.partition_id,)
            ).fetchone()
            if now_us < last_us:
                self._warn_of_clock(last_us - now_us)
            arrival_us = max(now_us, last_us)
            self.execute(
                "INSERT INTO batches (id, count, arrival_us, size, data) VALUES (?, ?, ?, ?, ?)",
                (_key(batch.partition_id, base), batch.records, arrival_us, batch.size, batch.data),
            )
            self.execute(
                "UPDATE partitions SET high = ?, bytes = bytes + ?, arrival_us = ? WHERE id = ?",
                (base + batch.records, len(batch.data), arrival_us, batch.partition_id),
            )

    def _warn_of_clock(self, back_us: int) -> None:
        if not self._clock_warned:
            self._clock_warned = True
            _log.warning(
                "%s: the clock is %.3f s behind the last record's arrival; arrival times stand "
                "still until it has caught up",
                self.path,
                back_us / 1e6,
            )

    # --- reading --------------------------------------------------------------------------------

    def batch_base(self, partition_id: int, offset: int) -> int:
        """The base of the stored batch that holds `offset`; `offset` itself at the end."""
        rows = self.query(
            "SELECT id, count FROM batches WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
            _key(partition_id, 0),
            _key(partition_id, offset),
        )
        for id_, count in rows:
            base = _offset(id_)
            if offset < base + count:
                return base
        return offset

    def batches(self, partition_id: int, base: int, max_records: int) -> list[_Row]:
        """Stored batches from `base` on: as many as hold `max_records`, unless they are large."""
        rows: list[_Row] = []
        records = size = 0
        with explained(self.path):
            cursor = self.execute(
                "SELECT id, count, arrival_us, size, data FROM batches WHERE id >= ? AND id < ? "
                "ORDER BY id LIMIT ?",
                (_key(partition_id, base), _key(partition_id + 1, 0), max_records),
            )
            for id_, *rest in cursor:
                rows.append(_Row(_offset(id_), *rest))
                records += rows[-1].records
                size += rows[-1].size
                if records >= max_records or size >= READ_BYTES:
                    break
            cursor.close()
        return rows

    # --- retention ------------------------------------------------------------------------------

    def remove_some(self, partition_id: int, before_us: int, limit: int = 100) -> bool:
        """Removes up to `limit` batches that arrived before; True if there may be more.

        In small transactions, because appending waits meanwhile.
        """
        oldest = (
            "SELECT id, count, length(data) FROM (SELECT * FROM batches WHERE id >= ? AND id < ? "
            "ORDER BY id LIMIT ?) WHERE arrival_us < ? ORDER BY id"
        )
        bounds = _key(partition_id, 0), _key(partition_id + 1, 0)
        if not self.query(oldest, *bounds, 1, before_us):
            return False
        with self.transaction() as execute:
            gone = execute(oldest, (*bounds, limit, before_us)).fetchall()
            if gone:
                last, count, _ = gone[-1]
                execute("DELETE FROM batches WHERE id >= ? AND id <= ?", (bounds[0], last))
                execute(
                    "UPDATE partitions SET low = ?, bytes = bytes - ? WHERE id = ?",
                    (_offset(last) + count, sum(size for *_, size in gone), partition_id),
                )
        self.bound_wal()
        return len(gone) == limit


def _key(partition_id: int, offset: int) -> int:
    return (partition_id << _OFFSET_BITS) + offset


def _offset(key: int) -> int:
    return key & ((1 << _OFFSET_BITS) - 1)


def _take(columns: _Columns, rows: list[int]) -> _Columns:
    if len(rows) == 1:
        return _slice(columns, rows[0], rows[0] + 1)
    pick = itemgetter(*rows)
    keys, values, headers = columns
    return list(pick(keys)), list(pick(values)), None if headers is None else list(pick(headers))


def _slice(columns: _Columns, start: int, stop: int) -> _Columns:
    keys, values, headers = columns
    return keys[start:stop], values[start:stop], None if headers is None else headers[start:stop]


def _encode(topic: str, columns: _Columns) -> Iterator[tuple[int, int, bytes]]:
    """(count, size before compression, data) of one or, where they are large, several batches."""
    count = len(columns[1])
    plain = _encode_columns(columns)
    if len(plain) > BATCH_BYTES and count > 1:
        yield from _encode(topic, _slice(columns, 0, count // 2))
        yield from _encode(topic, _slice(columns, count // 2, count))
        return
    if len(plain) > MAX_RECORD_BYTES:
        raise LogError(
            f"a record for topic {topic} has {len(plain):,} bytes, the embedded log takes at most "
            f"{MAX_RECORD_BYTES:,}; leave it out or make it smaller"
        )
    yield count, len(plain), _lz4.compress(plain, asbytes=True)
