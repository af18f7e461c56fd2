"""What every format reader gives: records ready to publish, and what was wrong on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.contracts import Contract
from dataflows.contracts.timestamps import parse_timestamps
from services.publisher.files import Block, Fault
from services.publisher.times import UNTIMED


@dataclass(slots=True)
class Parsed:
    """Some lines of a file. Keys are None and times UNTIMED where the record has no usable one."""

    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    times_us: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    blank: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)

    def extend(self, other: Parsed) -> None:
        """Take over another's records; not what was wrong with it."""
        self.keys += other.keys
        self.values += other.values
        self.times_us = np.concatenate([self.times_us, other.times_us])

    def first(self, count: int) -> Parsed:
        """Take the first `count` records out."""
        taken = Parsed(self.keys[:count], self.values[:count], self.times_us[:count])
        del self.keys[:count], self.values[:count]
        self.times_us = self.times_us[count:]
        return taken


_ESCAPED = re.compile("[\udc80-\udcff]")


class Reader(Protocol):
    """A format, ready to read one file."""

    def parse(self, blocks: Iterator[Block | Fault]) -> Iterator[Parsed]:
        """The file's blocks as records, in order. Memory does not grow with the file."""


class Heads:
    """The two members of a JSON record that a publisher looks at: its key and its event time."""

    def __init__(self, contract: Contract) -> None:
        self._key_of = attrgetter(contract.key)
        self._time_of = attrgetter(contract.event_time)
        head = msgspec.defstruct(
            "Head", [(contract.key, Any, None), (contract.event_time, Any, None)], gc=False
        )
        self.read = msgspec.json.Decoder(head).decode
        self.nothing = head()

    def read_any(self, value: bytes) -> Any | None:
        """The head of any bytes; None where they are no JSON object that can be decoded."""
        try:
            return self.read(value)
        except (msgspec.DecodeError, RecursionError):
            return None

    def columns(self, heads: Sequence[Any]) -> tuple[list[bytes | None], NDArray[np.int64]]:
        """(keys, times) of n heads."""
        times = list(map(self._time_of, heads))
        if set(map(type, times)) != {str}:
            times = [time if isinstance(time, str | int | float) else None for time in times]
        us, readable = parse_timestamps(times)
        us[~readable] = UNTIMED
        keys = map(self._key_of, heads)
        return [key.encode() if type(key) is str and key else None for key in keys], us


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are valid UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def first_escaped(line: str) -> tuple[int, str] | None:
    """Like `first_undecodable`, for text decoded with `surrogateescape`."""
    escaped = _ESCAPED.search(line)
    if escaped is None:
        return None
    return escaped.start() + 1, f"byte 0x{ord(escaped[0]) - 0xDC00:02x} is not UTF-8"


def first_undecodable(line: bytes) -> tuple[int, str] | None:
    """(column, reason) of the first byte that is not UTF-8; columns count characters from 1."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        column = len(line[: error.start].decode()) + 1
        return column, f"byte 0x{line[error.start]:02x} is not UTF-8"
    return None
