"""What failed since the last good build: kept beside it, until the next good one takes it on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from services.warehouse.dbt_process import Node
from services.warehouse.errors import WarehouseError


class FailedNode(msgspec.Struct, frozen=True):
    """A model or test that did not hold, of the build that began then."""

    started_at: datetime
    kind: str
    name: str
    status: str
    seconds: float
    failures: int
    message: str


_decode = msgspec.json.Decoder(list[FailedNode]).decode


def keep_failures(file: Path, started_at: datetime, nodes: Sequence[Node]) -> None:
    """Adds what failed of a build: what went wrong itself, not what was skipped for it.

    Raises:
        WarehouseError: the file is not what was written.
    """
    failed = [
        FailedNode(started_at, n.kind, n.name, n.status, n.seconds, n.failures, n.message)
        for n in nodes
        if n.status in ("error", "runtime error", "fail")
    ]
    draft = file.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode([*kept_failures(file), *failed]))
    os.replace(draft, file)


def kept_failures(file: Path) -> list[FailedNode]:
    """What failed since the last good build.

    Raises:
        WarehouseError: the file is not what was written.
    """
    try:
        return _decode(file.read_bytes())
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError as error:
        raise WarehouseError(f"{file}: {error}; remove it to go on without it") from error
