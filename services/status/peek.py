"""Records of a topic, for people and as JSON lines that a replay reads back."""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Iterator

import msgspec
import numpy as np

from dataflows.connectors.log import Log
from dataflows.connectors.records import Headers
from dataflows.contracts.timestamps import format_timestamps
from dataflows.errors import TidegateError

READ_RECORDS = 1_000
WIDER = 4
PATIENCE_S = 5.0  # for records that come late, or never: those of a transaction left open


class Record(msgspec.Struct, frozen=True):
    """A record outside the log. Bytes that are UTF-8 go as text, others as base64."""

    topic: str
    partition: int
    offset: int
    arrival_us: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def peek_records(
    log: Log, topic: str, partition: int | None, offset: int | None, count: int
) -> Iterator[Record]:
    """At most `count` records of each partition asked for, from `offset` or the last ones.

    Raises:
        TidegateError: no such topic or partition, or the offset is not in the log.
    """
    held = log.topics()
    if topic not in held:
        raise TidegateError(f"{topic!r} is no topic; `tidegate topics` lists them")
    partitions = range(held[topic].partitions) if partition is None else [partition]
    for number in partitions:
        if offset is None:
            yield from _last(log, topic, number, count)
        else:
            yield from _read(log, topic, number, offset, count)


def _last(log: Log, topic: str, partition: int, count: int) -> Iterator[Record]:
    """The last records; looks further back where offsets hold none, as in Kafka."""
    low, high = log.offsets(topic, partition)
    window = count
    while True:
        start = max(low, high - window)
        found = deque(_read(log, topic, partition, start, window), maxlen=count)
        if len(found) == count or start == low:
            return iter(found)
        window *= WIDER


def _read(log: Log, topic: str, partition: int, start: int, count: int) -> Iterator[Record]:
    reader = log.reader(topic, partition, start)
    left, end = count, log.offsets(topic, partition)[1]
    give_up = time.monotonic() + PATIENCE_S
    while left and reader.position < end and time.monotonic() < give_up:
        records = reader.read(min(left, READ_RECORDS))
        if not len(records):
            time.sleep(0.001)
            continue
        left -= len(records)
        give_up = time.monotonic() + PATIENCE_S
        for row in range(len(records)):
            yield Record(
                topic,
                partition,
                int(records.offsets[row]),
                int(records.arrival_us[row]),
                records.keys[row],
                records.values[row],
                records.headers[row] if records.headers else (),
            )
    reader.close()


def to_json_line(record: Record) -> str:
    """The record as one JSON line: text where it is UTF-8, else base64 under `<name>_base64`."""
    line: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "arrival_us": record.arrival_us,
    }
    _put(line, "key", record.key)
    _put(line, "value", record.value)
    headers: list[dict[str, object]] = []
    for name, value in record.headers:
        header: dict[str, object] = {"name": name}
        _put(header, "value", value)
        headers.append(header)
    return msgspec.json.encode(line | {"headers": headers}).decode()


def _put(line: dict[str, object], name: str, data: bytes | None) -> None:
    try:
        line[name] = None if data is None else data.decode("utf-8")
    except UnicodeDecodeError:
        line[f"{name}_base64"] = base64.b64encode(data or b"").decode()


def print_record(record: Record) -> None:
    """The record for a person: where and when it is, its headers, its value (of a scoring request
    each payment, with names)."""
    (arrived,) = format_timestamps(np.array([record.arrival_us], np.int64))
    key = "" if record.key is None else f" key {_text(record.key)}"
    print(f"{record.topic}/{record.partition} @{record.offset} {arrived}{key}")
    for name, value in record.headers:
        print(f"  {name}: {_text(value)}")
    if record.value is None:
        print("  (no value)")
    for value in _for_people(record):
        print(f"  {_text(value)}")


def _for_people(record: Record) -> list[bytes]:
    from dataflows.flows.payments import REQUESTS, with_names

    if record.value is None:
        return []
    return with_names(record.value) if record.topic == REQUESTS else [record.value]


def _text(data: bytes) -> str:
    text = data.decode("utf-8", "backslashreplace")
    printable = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return printable if len(printable) <= 2_000 else f"{printable[:2_000]}... ({len(data):,} bytes)"
