"""What every format reader gives: records ready to publish, and what was wrong on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
    values: list[bytes | None] = field(default_factory=list)
    times_us: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    blank: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)


class Reader(Protocol):
    """A format, ready to read one file."""

    def parse(self, blocks: Iterator[Block | Fault]) -> Iterator[Parsed]:
        """The file's blocks as records, in order. Memory does not grow with the file."""


class Heads:
    """The two members of a JSON record that a publisher looks at: its key and its event time."""

    def __init__(self, contract: Contract) -> None:
        self._key = contract.key
        self._event_time = contract.event_time
        head = msgspec.defstruct(
            "Head", [(contract.key, Any, None), (contract.event_time, Any, None)], gc=False
        )
        self.read = msgspec.json.Decoder(head).decode
        self.nothing = head()

    def columns(self, heads: Sequence[Any]) -> tuple[list[bytes | None], NDArray[np.int64]]:
        """(keys, times) of n heads."""
        keys = [getattr(head, self._key) for head in heads]
        times = [getattr(head, self._event_time) for head in heads]
        us, readable = parse_timestamps([_time(value) for value in times])
        us[~readable] = UNTIMED
        return [key.encode() if key and isinstance(key, str) else None for key in keys], us


def _time(value: Any) -> str | int | float | None:
    return value if isinstance(value, str | int | float) else None


def split_lines(data: bytes) -> list[bytes]:
    """Lines without their ends, be these LF or CRLF."""
    lines = data.split(b"\n")
    if b"\r" not in data:
        return lines
    return [line[:-1] if line.endswith(b"\r") else line for line in lines]


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are valid UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def first_undecodable(line: bytes) -> tuple[int, str] | None:
    """(column, reason) of the first byte that is not UTF-8; columns count characters from 1."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        column = len(line[: error.start].decode()) + 1
        return column, f"byte 0x{line[error.start]:02x} is not UTF-8"
    return None
