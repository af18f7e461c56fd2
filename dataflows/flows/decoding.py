"""Decoding what another flow wrote: only the fields that are used, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.connectors.records import Records, taken
from dataflows.contracts.timestamps import parse_timestamps
from dataflows.flows.dead_letters import Rejection
from dataflows.flows.heartbeats import heartbeat_rows
from dataflows.runtime import fates
from dataflows.runtime.fates import Fates


class Timed(msgspec.Struct, gc=False):
    """The least an event needs."""

    event_timestamp: str | int


E = TypeVar("E", bound=Timed)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Events(Generic[E]):
    """A batch decoded; fates say good, heartbeat or failed so far."""

    records: Records
    events: list[E | None]
    times_us: NDArray[np.int64]
    fates: Fates
    rejections: list[Rejection]

    def at(self, rows: NDArray[np.int64]) -> list[E]:
        """The events at ascending rows, which must hold one."""
        return taken(self.events, rows)  # type: ignore[arg-type]

    def reject(self, row: int, reason: str, message: str) -> None:
        self.fates[row] = fates.failed(reason)
        self.rejections.append(Rejection(row, reason, message))


class Parsed(NamedTuple, Generic[T]):
    """What each of n records holds, None where it is a heartbeat or does not decode; which are
    heartbeats, and the event time that each of those announces."""

    contents: list[T | None]
    heartbeats: NDArray[np.bool_]
    heartbeat_us: NDArray[np.int64]
    rejections: list[Rejection]


def parse(decoder: msgspec.json.Decoder[T], records: Records) -> Parsed[T]:
    """Decodes each record; what does not decode is rejected with its reason."""
    heartbeats, heartbeat_us = heartbeat_rows(records)
    rejections: list[Rejection] = []
    decode, values, is_heartbeat = decoder.decode, records.values, heartbeats.tolist()
    contents: list[T | None]
    try:
        if any(is_heartbeat):
            contents = [
                None if beat else decode(value)  # type: ignore[arg-type]
                for beat, value in zip(is_heartbeat, values, strict=True)
            ]
        else:
            contents = list(map(decode, values))  # type: ignore[arg-type]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
        contents = [
            None if is_heartbeat[row] else _decode(decoder, row, value, rejections)
            for row, value in enumerate(values)
        ]
    return Parsed(contents, heartbeats, heartbeat_us, rejections)


def decode_events(decoder: msgspec.json.Decoder[E], records: Records) -> Events[E]:
    """Decodes each record, and reads its time; where that fails, it is rejected with its reason."""
    events, heartbeats, heartbeat_us, rejections = parse(decoder, records)
    codes = np.full(len(records), fates.GOOD, np.uint8)
    times_us, ok = parse_timestamps([event.event_timestamp if event else 0 for event in events])
    decoded = Events(records, events, np.where(heartbeats, heartbeat_us, times_us), codes, [])
    codes[heartbeats] = fates.HEARTBEAT
    for rejection in rejections:
        decoded.reject(*rejection)
    for row in np.flatnonzero(~ok).tolist():
        value = events[row].event_timestamp  # type: ignore[union-attr]
        decoded.reject(row, "bad_timestamp", f"$.event_timestamp: {value!r} is no instant")
    return decoded


def _decode(
    decoder: msgspec.json.Decoder[T], row: int, value: bytes | None, rejections: list[Rejection]
) -> T | None:
    try:
        if not value:
            rejections.append(Rejection(row, "empty", "the record has no value"))
            return None
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        reason, message = "invalid", str(error)
    except msgspec.DecodeError as error:
        reason, message = "not_json", str(error)
    except UnicodeDecodeError as error:
        reason, message = "not_utf8", str(error)
    except RecursionError:
        reason, message = "too_deep", "nested too deeply to be read"
    rejections.append(Rejection(row, reason, message))
    return None
