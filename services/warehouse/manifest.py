"""What dbt leaves at each run: its project, node by node, and what became of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from services.warehouse.errors import WarehouseError

Limits = Mapping[str, int]
"""Of a test: what it may measure, by `warn` and `error`."""

_RUN_RESULTS = "run_results.json"
_ABOVE = re.compile(r">\s*(\d+)")
_T = TypeVar("_T")


class _Config(msgspec.Struct):
    warn_if: str = ""
    error_if: str = ""


class DependsOn(msgspec.Struct):
    nodes: list[str] = []


class ManifestNode(msgspec.Struct):
    """A model, seed, test or source."""

    name: str
    resource_type: str
    schema: str
    database: str | None = None
    description: str = ""
    config: _Config = msgspec.field(default_factory=_Config)
    depends_on: DependsOn = msgspec.field(default_factory=DependsOn)


class Manifest(msgspec.Struct):
    """The project; nodes and sources by the ids that dbt gives them."""

    nodes: dict[str, ManifestNode] = {}
    sources: dict[str, ManifestNode] = {}


class Timing(msgspec.Struct):
    """A step of a node: compile, execute."""

    name: str
    started_at: datetime | None = None
    completed_at: datetime | None = None


class RunResult(msgspec.Struct):
    """What became of a node; `timing` is empty where it was skipped."""

    unique_id: str
    status: str
    timing: Sequence[Timing] = ()
    message: str | None = None


class _RunResults(msgspec.Struct):
    results: list[RunResult]


def manifest(files: Path) -> Manifest:
    """The project as dbt last saw it; an empty one before it has run.

    Args:
        files: where dbt keeps what it writes.

    Raises:
        WarehouseError: the manifest is none.
    """
    return _read(files / "manifest.json", Manifest) or Manifest()


def run_results(files: Path) -> list[RunResult]:
    """What became of each node of the last run, in order; nothing before dbt has run.

    Raises:
        WarehouseError: the results are none.
    """
    found = _read(files / _RUN_RESULTS, _RunResults)
    return found.results if found else []


def remove_run_results(files: Path) -> None:
    """So that those found afterwards are of a later run."""
    (files / _RUN_RESULTS).unlink(missing_ok=True)


def limits(files: Path) -> dict[str, Limits]:
    """The limits of each test that has some of its own; none before dbt has run.

    Raises:
        WarehouseError: the manifest is none.
    """
    found = {
        node.name: {
            severity: int(above[1])
            for severity, condition in (
                ("warn", node.config.warn_if),
                ("error", node.config.error_if),
            )
            if (above := _ABOVE.fullmatch(condition))
        }
        for node in manifest(files).nodes.values()
        if node.resource_type == "test"
    }
    return {test: limits for test, limits in found.items() if limits}


def _read(file: Path, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise WarehouseError(f"{file}: {error}; remove it, the next build writes it") from error
