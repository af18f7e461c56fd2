"""Reading a log to its end, for tests."""

from __future__ import annotations

import time
from typing import NamedTuple

from dataflows.connectors.log import Log, Reader
from dataflows.connectors.records import Headers, Records

PATIENCE_SECONDS = 30.0


class Record(NamedTuple):
    """What a publisher decides about a record."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def drain(reader: Reader, max_records: int = 1_000) -> Records:
    """Everything from the reader's position to the end of the partition."""
    parts = [reader.read(max_records)]
    give_up = time.monotonic() + PATIENCE_SECONDS
    while reader.position < reader.high_watermark():
        assert time.monotonic() < give_up, "the reader does not reach the end"
        parts.append(reader.read(max_records))
    return Records.concat(parts)


def read_partition(log: Log, topic: str, partition: int = 0, start: int | None = None) -> Records:
    """All records of a partition, or those from offset `start` on."""
    low, _ = log.offsets(topic, partition)
    reader = log.reader(topic, partition, low if start is None else start)
    try:
        return drain(reader)
    finally:
        reader.close()


def contents(records: Records) -> list[Record]:
    headers = records.headers or [()] * len(records)
    return list(map(Record, records.keys, records.values, headers))


def values(log: Log, topic: str, partition: int = 0) -> list[bytes | None]:
    return read_partition(log, topic, partition).values
