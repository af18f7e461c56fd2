"""Reading back versioned state: what cannot be gone on from is refused, with what to do."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from dataflows.contracts.errors import TidegateError

S = TypeVar("S", bound=msgspec.Struct)


class SnapshotError(TidegateError):
    """A snapshot that this code, or this configuration, cannot go on from."""


def decode_snapshot(snapshot: bytes, kind: type[S], version: int, what: str) -> S:
    """A msgpack snapshot as its array-like struct, whose first field is the version.

    Raises SnapshotError if another version wrote it or it is damaged.
    """
    try:
        head: Any = msgspec.msgpack.decode(snapshot, strict=False)
        if isinstance(head, list) and head and head[0] != version:
            raise SnapshotError(
                f"the snapshot of the {what} has version {head[0]}, this code reads {version}: "
                "drain the flow with the code that wrote it, or rebuild from the log"
            )
        return msgspec.convert(head, kind)
    except msgspec.MsgspecError as error:
        raise SnapshotError(
            f"the snapshot of the {what} is damaged ({error}): "
            "restore a backup, or rebuild from the log"
        ) from error


def check_configuration(what: str, saved: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise SnapshotError, naming the differences, unless the snapshot was written for ours."""
    changed = [f"{key} was {saved[key]}, is {ours[key]}" for key in ours if saved[key] != ours[key]]
    if changed:
        raise SnapshotError(
            f"the snapshot of the {what} was written with another configuration "
            f"({'; '.join(changed)}): drain the flow before the change, or rebuild from the log"
        )
