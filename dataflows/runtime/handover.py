"""A state in the log: the control record from which on a slot goes on with another state.

It is a heartbeat, so that whoever knows nothing of states takes it for one, with the state in its
headers, in pieces where it is large. It counts only if the marker of the reshard that wrote it
vouches for it: clients may write to raw topics, but not to markers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from hashlib import blake2b

import msgspec
import numpy as np

from dataflows.connectors.log import Log
from dataflows.connectors.records import Output, Records, heartbeat_headers

HEADER = "tidegate-state"
CONTROL_HEADER = "tidegate-control"
"""Of a heartbeat that changes how a flow goes on; what it holds is the flow's business."""
PIECE_BYTES = 4 * 2**20
RESHARD = "reshard."  # the slot whose marker vouches, with the source behind it
VOUCHED, GROWN, BEGUN = "states", "partitions", "begun"  # what that marker counts


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Piece `number` of `count` of the compressed state for a slot of `flow`."""

    flow: str
    number: int
    count: int
    data: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Piece).decode


def digest(state: bytes) -> str:
    return blake2b(state, digest_size=16).hexdigest()


def handover(flow: str, topic: str, partition: int, time_us: int, state: bytes) -> Output:
    """The records that hand a state over; event time has reached `time_us` in it."""
    packed = zlib.compress(state, 1)
    parts = [packed[i : i + PIECE_BYTES] for i in range(0, len(packed), PIECE_BYTES)]
    count = len(parts)
    headers = [
        (*heartbeat_headers(time_us), (HEADER, _encode(Piece(flow, number, count, part))))
        for number, part in enumerate(parts)
    ]
    nothing: list[bytes | None] = [None] * count
    return Output(topic, np.zeros(count, np.int64), nothing, nothing, headers, partition)


def apart(records: Records) -> tuple[list[Records], Records | None]:
    """The records with each state, and each control record, in a batch of its own; and the rest,
    from a state on whose last piece has not been read yet."""
    states = [(row, piece.count) for row, piece in _pieces(records) if not piece.number]
    controls = [(row, 1) for row, _ in _carried(records, CONTROL_HEADER)]
    batches, done = [], 0
    for row, count in sorted(states + controls):
        if done < row:
            batches.append(records.slice(done, row))
            done = row
        if row + count > len(records):
            return batches, records.slice(row, len(records))
        batches.append(records.slice(row, row + count))
        done = row + count
    if done < len(records):
        batches.append(records.slice(done, len(records)))
    return batches, None


def handed_over(records: Records, flow: str, log: Log) -> bytes | None:
    """The state that a batch of `apart` carries for a slot of the flow, if it is vouched for."""
    pieces = [piece for _, piece in _pieces(records) if piece.flow == flow]
    if not pieces or len(pieces) != len(records):
        return None
    try:
        state = zlib.decompress(b"".join(piece.data for piece in pieces))
    except zlib.error:
        return None
    reshards = log.markers(RESHARD).values()
    vouched = any(digest(state) in marker.counts.get(VOUCHED, {}) for marker in reshards)
    return state if vouched else None


def control(topic: str, partition: int, content: bytes) -> Output:
    """A control record. It says nothing of event time."""
    headers = [(*heartbeat_headers(0), (CONTROL_HEADER, content))]
    return Output(topic, np.zeros(1, np.int64), [None], [None], headers, partition)


def controlled(records: Records) -> bytes | None:
    """What the control record says that is a batch of `apart`; None of every other batch."""
    if len(records) != 1:
        return None
    return next((content for _, content in _carried(records, CONTROL_HEADER)), None)


def was_resharded(log: Log, topic: str, partitions: int) -> bool:
    """Whether a reshard has given the topic this number of partitions, and is done."""
    return any(
        marker.counts.get(GROWN, {}).get(topic) == partitions and not marker.counts.get(BEGUN)
        for marker in log.markers(RESHARD).values()
    )


def unfinished(log: Log) -> list[str]:
    """The sources whose reshard was begun and not done."""
    markers = log.markers(RESHARD)
    return [slot.removeprefix(RESHARD) for slot, m in markers.items() if m.counts.get(BEGUN)]


def _pieces(records: Records) -> Iterator[tuple[int, Piece]]:
    for row, data in _carried(records, HEADER):
        try:
            yield row, _decode(data)
        except msgspec.MsgspecError:  # somebody else's header
            continue


def _carried(records: Records, header: str) -> Iterator[tuple[int, bytes]]:
    """The rows of heartbeats with that header behind their own, and what it holds."""
    for row, headers in enumerate(records.headers or ()):
        if len(headers) == 2 and headers[1][0] == header and records.values[row] is None:
            yield row, headers[1][1]
