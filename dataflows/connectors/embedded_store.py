"""The tables of the embedded log, and what is done with them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from dataflows.connectors.log import LogError, Marker, TopicInfo, UnknownTopic
from dataflows.connectors.records import Headers, Output, partition_for
from dataflows.connectors.sqlite_file import APPLICATION_ID, FORMAT_VERSION, SqliteFile, explained

BATCH_BYTES = 8 << 20  # of one stored batch, before compression
READ_BYTES = 32 << 20  # of one read, so that huge records do not fill the memory
MAX_RECORD_BYTES = 256 << 20

# A batch's row id is its place: partition id, then base offset. SQLite keeps rows in that order,
# so finding an offset and reading on from it need no index.
_OFFSET_BITS = 44

SCHEMA = f"""
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
Columns = tuple[list[bytes | None], list[bytes | None], list[Headers] | None]
_encode_columns = msgspec.msgpack.Encoder().encode
_decode_columns = msgspec.msgpack.Decoder(Columns).decode
_encode_marker = msgspec.msgpack.Encoder().encode
_decode_marker = msgspec.msgpack.Decoder(Marker).decode


class Batch(NamedTuple):
    """Records of one partition, ready to be stored."""

    partition_id: int
    records: int
    size: int
    data: bytes


class Row(NamedTuple):
    """A stored batch."""

    base: int
    records: int
    arrival_us: int
    size: int
    data: bytes


class Store(SqliteFile):
    """One connection to the log's file, and the statements that run on it."""

    def identity(self) -> str:
        """A number drawn once for the file, when it is first asked for."""
        with self.transaction() as execute:
            execute("CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL)")
            execute(
                "INSERT INTO identity SELECT lower(hex(randomblob(16))) "
                "WHERE NOT EXISTS (SELECT * FROM identity)"
            )
            return str(execute("SELECT id FROM identity").fetchone()[0])

    def __init__(self, path: Path, clock: Callable[[], int]):
        super().__init__(path)
        self._clock = clock
        self._clock_warned = False
        self._partition_ids: dict[str, list[int]] = {}

    # --- topics ---------------------------------------------------------------------------------

    def topics(self) -> dict[str, TopicInfo]:
        rows = self.query(
            "SELECT topic, count(*), sum(high - low), sum(bytes) FROM partitions GROUP BY topic"
        )
        return {topic: TopicInfo(*info) for topic, *info in rows}

    def add_topic(self, topic: str, partitions: int) -> None:
        """Part of a transaction."""
        self.add_partitions(topic, range(partitions))

    def add_partitions(self, topic: str, partitions: Iterable[int]) -> None:
        """Part of a transaction."""
        self._partition_ids.pop(topic, None)
        for partition in partitions:
            self.execute(
                "INSERT INTO partitions (topic, partition) VALUES (?, ?)", (topic, partition)
            )

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

    def encode(self, outputs: Sequence[Output]) -> list[Batch]:
        """What `append` will store; all the work that needs no lock."""
        return [
            Batch(partition_id, count, size, data)
            for output in outputs
            for partition_id, columns in self._place(output)
            for count, size, data in _encode(output.topic, columns)
        ]

    def _place(self, output: Output) -> Iterator[tuple[int, Columns]]:
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

    def append(self, batches: Sequence[Batch]) -> None:
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

    def batches(self, partition_id: int, base: int, max_records: int) -> list[Row]:
        """Stored batches from `base` on: as many as hold `max_records`, unless they are large."""
        rows: list[Row] = []
        records = size = 0
        with explained(self.path):
            cursor = self.execute(
                "SELECT id, count, arrival_us, size, data FROM batches WHERE id >= ? AND id < ? "
                "ORDER BY id LIMIT ?",
                (_key(partition_id, base), _key(partition_id + 1, 0), max_records),
            )
            for id_, *rest in cursor:
                rows.append(Row(_offset(id_), *rest))
                records += rows[-1].records
                size += rows[-1].size
                if records >= max_records or size >= READ_BYTES:
                    break
            cursor.close()
        return rows

    def decode(self, row: Row) -> Columns:
        """The keys, values and headers of a stored batch."""
        try:
            return _decode_columns(_lz4.decompress(row.data, row.size, asbytes=True))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise self.damaged(f"a batch at offset {row.base}") from error

    def damaged(self, what: str) -> LogError:
        return LogError(f"{self.path} is damaged: {what} cannot be read; restore the file")

    # --- slots ----------------------------------------------------------------------------------

    def take_slot(self, slot: str) -> tuple[int, Marker | None]:
        """Begins the slot's next epoch, and fences those before; part of a transaction."""
        self.execute(
            "INSERT INTO slots (slot, epoch) VALUES (?, 1) "
            "ON CONFLICT (slot) DO UPDATE SET epoch = epoch + 1",
            (slot,),
        )
        epoch, blob = self.execute(
            "SELECT epoch, marker FROM slots WHERE slot = ?", (slot,)
        ).fetchone()
        return epoch, None if blob is None else self._marker(slot, blob)

    def put_marker(self, slot: str, epoch: int, marker: Marker) -> bool:
        """False if the epoch is over; part of a transaction."""
        updated = self.execute(
            "UPDATE slots SET marker = ? WHERE slot = ? AND epoch = ?",
            (_encode_marker(marker), slot, epoch),
        )
        return updated.rowcount == 1

    def markers(self) -> dict[str, Marker]:
        rows = self.query("SELECT slot, marker FROM slots WHERE marker IS NOT NULL")
        return {slot: self._marker(slot, blob) for slot, blob in rows}

    def _marker(self, slot: str, blob: bytes) -> Marker:
        try:
            return _decode_marker(blob)
        except msgspec.MsgspecError as error:
            raise self.damaged(f"the marker of slot {slot}") from error

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


def _take(columns: Columns, rows: list[int]) -> Columns:
    if len(rows) == 1:
        return _slice(columns, rows[0], rows[0] + 1)
    pick = itemgetter(*rows)
    keys, values, headers = columns
    return list(pick(keys)), list(pick(values)), None if headers is None else list(pick(headers))


def _slice(columns: Columns, start: int, stop: int) -> Columns:
    keys, values, headers = columns
    return keys[start:stop], values[start:stop], None if headers is None else headers[start:stop]


def _encode(topic: str, columns: Columns) -> Iterator[tuple[int, int, bytes]]:
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
