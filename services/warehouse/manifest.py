"""What dbt knows of its project, as far as it is asked: the manifest that it leaves at each run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.warehouse.errors import WarehouseError

Limits = Mapping[str, int]
"""Of a test: what it may measure, by `warn` and `error`."""

_ABOVE = re.compile(r">\s*(\d+)")


class _Config(msgspec.Struct):
    warn_if: str = ""
    error_if: str = ""


class _Node(msgspec.Struct):
    name: str
    resource_type: str
    config: _Config


class _Manifest(msgspec.Struct):
    nodes: dict[str, _Node]


_decode = msgspec.json.Decoder(_Manifest).decode


def limits(files: Path) -> dict[str, Limits]:
    """The limits of each test that has some of its own; none before dbt has run.

    Args:
        files: where dbt keeps what it writes.

    Raises:
        WarehouseError: the manifest is none.
    """
    file = files / "manifest.json"
    try:
        manifest = _decode(file.read_bytes())
    except FileNotFoundError:
        return {}
    except msgspec.MsgspecError as error:
        raise WarehouseError(f"{file}: {error}; remove it, the next build writes it") from error
    found = {
        node.name: {
            severity: int(above[1])
            for severity, condition in (
                ("warn", node.config.warn_if),
                ("error", node.config.error_if),
            )
            if (above := _ABOVE.fullmatch(condition))
        }
        for node in manifest.nodes.values()
        if node.resource_type == "test"
    }
    return {test: limits for test, limits in found.items() if limits}
