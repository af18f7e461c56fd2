"""Bytes to events, a batch at a time. No bytes whatsoever make it raise.

Each record is decoded strictly first. One that fails is examined with care: it may only hold
unknown fields or write an integer as 1.0, or else it is refused with a reason and a message.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.contracts.checks import Check, unreadable_timestamp
from dataflows.contracts.examination import Examination
from dataflows.contracts.refusal import RefusedError
from dataflows.contracts.timestamps import READ, scan_timestamps


class Failure(NamedTuple):
    """Why a row is no event; `reason` is one of `refusal.REASONS`."""

    row: int
    reason: str
    message: str


@dataclass(slots=True)
class Decoded:
    """A batch of n records, decoded; every list and array has n entries.

    `events` holds None where a record failed, `times_us` 0 there. `extras` holds the JSON of the
    fields the contract does not know, and is None as a whole when no record has any.
    `failures` are in order of their rows, one a row.
    """

    events: list[Any]
    times_us: NDArray[np.int64]
    extras: list[bytes | None] | None
    failures: list[Failure]


class BatchDecoder:
    """Decodes batches into one Struct; `examine` judges each record that the Struct refuses."""

    def __init__(
        self,
        struct: type[msgspec.Struct],
        event_time: str,
        examine: Callable[[bytes | None], Examination],
        checks: Sequence[Check],
        max_record_bytes: int,
    ) -> None:
        self._decode = msgspec.json.Decoder(struct).decode
        self._event_time = event_time
        self._examine = examine
        self._checks = checks
        self._max_record_bytes = max_record_bytes

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode n records; never raises, whatever the bytes."""
        refused: dict[int, RefusedError] = {}
        extras: dict[int, bytes] = {}
        events = self._decode_each(values, refused, extras)
        times_us = self._read_times(events, refused)
        rows: Sequence[int] = range(len(events))
        present = events
        if refused:
            rows = [row for row in rows if row not in refused]
            present = [events[row] for row in rows]
        for check in self._checks:
            for row, refusal in check(rows, present):
                refused.setdefault(row, refusal)
        for row in refused:
            events[row] = None
            times_us[row] = 0
            extras.pop(row, None)
        return Decoded(
            events,
            times_us,
            [extras.get(row) for row in range(len(events))] if extras else None,
            [Failure(row, refused[row].reason, refused[row].message) for row in sorted(refused)],
        )

    def _decode_each(
        self,
        values: Sequence[bytes | None],
        refused: dict[int, RefusedError],
        extras: dict[int, bytes],
    ) -> list[Any]:
        longest = max(map(len, filter(None, values)), default=0)
        decode = self._decode if longest <= self._max_record_bytes else self._decode_short
        events: list[Any] = []
        undecoded = map(decode, values)  # type: ignore[arg-type]
        while len(events) < len(values):
            try:
                events.extend(undecoded)  # up to the first that raises, and next time from there on
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
                row = len(events)
                events.append(self._examine_one(row, values[row], refused, extras))
        return events

    def _decode_short(self, value: bytes) -> Any:
        if len(value) > self._max_record_bytes:
            raise msgspec.ValidationError(f"longer than {self._max_record_bytes} bytes")
        return self._decode(value)

    def _examine_one(
        self,
        row: int,
        value: bytes | None,
        refused: dict[int, RefusedError],
        extras: dict[int, bytes],
    ) -> Any:
        try:
            event, unknown = self._examine(value)
        except RefusedError as refusal:
            refused[row] = refusal
            return None
        if unknown is not None:
            extras[row] = unknown
        return event

    def _read_times(self, events: list[Any], refused: dict[int, RefusedError]) -> NDArray[np.int64]:
        name = self._event_time
        if refused:
            written = ["" if event is None else getattr(event, name) for event in events]
        else:
            written = list(map(attrgetter(name), events))
        times_us, forms = scan_timestamps(written)
        for row in np.flatnonzero(forms != READ).tolist():
            refused.setdefault(row, unreadable_timestamp(name, written[row]))
        return times_us
