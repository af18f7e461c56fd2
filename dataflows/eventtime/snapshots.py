"""Reading back versioned state: what cannot be gone on from is refused, with what to do."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.contracts.errors import TidegateError
from dataflows.decodable import make_decodable

S = TypeVar("S", bound=msgspec.Struct)
Buffer = bytes | memoryview


class SnapshotError(TidegateError):
    """A snapshot that this code, or this configuration, cannot go on from."""


def decode_snapshot(snapshot: Buffer, kind: type[S], versions: Sequence[int], what: str) -> S:
    """A msgpack snapshot as its array-like struct, whose first field is the version.

    Raises SnapshotError if a version that is not among `versions` wrote it or it is damaged.
    """
    try:
        head: Any = msgspec.msgpack.decode(snapshot, strict=False)
        if isinstance(head, list) and head and head[0] not in versions:
            raise SnapshotError(
                f"the snapshot of the {what} has version {head[0]}, this code reads up to "
                f"{max(versions)}: start the code that wrote it, or rebuild from the log"
            )
        make_decodable(kind)
        return msgspec.convert(head, kind)
    except msgspec.MsgspecError as error:
        raise SnapshotError(_damaged(what, f" ({error})")) from error


def _damaged(what: str, how: str = "") -> str:
    return f"the snapshot of the {what} is damaged{how}: restore a backup, or rebuild from the log"


class Headed(Protocol):
    """What stands before arrays: an array-like struct that begins with the version."""

    @property
    def version(self) -> int: ...

    @property
    def lengths(self) -> list[int]:
        """Elements of the arrays."""
        ...


H = TypeVar("H", bound=Headed)
_HEADER_LENGTH: Final = struct.Struct("<Q")


def pack(header: Headed, arrays: Sequence[NDArray[Any]]) -> list[Buffer]:
    """The header and the raw arrays, in parts that follow each other."""
    encoded = msgspec.msgpack.encode(header)
    raw = [np.ascontiguousarray(array).view(np.uint8).data for array in arrays]
    return [_HEADER_LENGTH.pack(len(encoded)), encoded, *raw]


def unpack(
    frame: Buffer, kind: type[H], dtypes: Mapping[int, Sequence[np.dtype[Any]]], what: str
) -> tuple[H, list[NDArray[Any]]]:
    """What `pack` was given, by a version among those of `dtypes`; the arrays are views.

    Raises SnapshotError if another version wrote it or it is damaged.
    """
    whole = memoryview(frame)
    if len(whole) < _HEADER_LENGTH.size:
        raise SnapshotError(_damaged(what))
    (length,) = _HEADER_LENGTH.unpack_from(whole)
    start = _HEADER_LENGTH.size + length
    encoded = bytes(whole[_HEADER_LENGTH.size : start])
    header = decode_snapshot(encoded, kind, tuple(dtypes), what)  # type: ignore[type-var]
    kinds = dtypes[header.version]
    if len(header.lengths) != len(kinds):
        raise SnapshotError(_damaged(what))
    sizes = [n * each.itemsize for n, each in zip(header.lengths, kinds, strict=True)]
    if len(whole) - start != sum(sizes):
        raise SnapshotError(_damaged(what))
    arrays = []
    for each, n, size in zip(kinds, header.lengths, sizes, strict=True):
        arrays.append(np.frombuffer(whole, each, n, start))
        start += size
    return header, arrays


def prefixed(
    number: int, parts: Sequence[Buffer], beside: Mapping[str, bytes] | None = None
) -> list[Buffer]:
    """A number and parts that follow each other, as parts of the msgpack of (number, bytes), or of
    (number, bytes, beside) where there is something beside them."""
    size = sum(memoryview(part).nbytes for part in parts)
    head = b"\x93" if beside else b"\x92"
    last = [msgspec.msgpack.encode(beside)] if beside else []
    number_and_size = (msgspec.msgpack.encode(number), b"\xc6" + size.to_bytes(4, "big"))
    return [head, *number_and_size, *parts, *last]


class Prefixed(msgspec.Struct, frozen=True, array_like=True):
    """What `prefixed` was given."""

    number: int
    rest: memoryview
    beside: dict[str, memoryview] = {}


_PREFIXED: Final = msgspec.msgpack.Decoder(Prefixed)


def split_prefix(frame: Buffer, what: str) -> Prefixed:
    """The number, the bytes behind it and what is beside them.

    Raises SnapshotError if the frame is damaged.
    """
    try:
        return _PREFIXED.decode(frame)
    except msgspec.MsgspecError as error:
        raise SnapshotError(_damaged(what, f" ({error})")) from error


def check_configuration(what: str, saved: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise SnapshotError, naming the differences, unless the snapshot was written for ours."""
    changed = [f"{key} was {saved[key]}, is {ours[key]}" for key in ours if saved[key] != ours[key]]
    if changed:
        raise SnapshotError(
            f"the snapshot of the {what} was written with another configuration "
            f"({'; '.join(changed)}): drain the flow before the change, or rebuild from the log"
        )
