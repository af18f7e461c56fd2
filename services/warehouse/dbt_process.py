"""dbt in a process of its own: its state is global, and it holds the file that it writes.

python -m services.warehouse.dbt_process ARGUMENTS...   what `dbt` is told

Writes lines of JSON (see `Line`).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import Any

import msgspec


class Node(msgspec.Struct):
    """A model, seed or test that was run."""

    kind: str
    name: str
    status: str
    seconds: float
    file: str
    message: str = ""
    failures: int = 0
    age_seconds: float | None = None
    """Of a source: since its last record arrived."""


class Line(msgspec.Struct, omit_defaults=True):
    """`started` as a node starts; each `node` once all have ended; `error` if dbt could not run."""

    started: str | None = None
    node: Node | None = None
    error: str | None = None


def main(arguments: list[str]) -> None:
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        from dbt.cli.main import dbtRunner

        done = dbtRunner(callbacks=[lambda event: _tell(event, lines)]).invoke(arguments)
        for result in getattr(done.result, "results", ()):
            lines.write(msgspec.json.encode(Line(node=node_of(result))) + b"\n")
        if done.exception is not None:
            text = _one_line(str(done.exception))
            lines.write(msgspec.json.encode(Line(error=text)) + b"\n")


def _tell(event: Any, lines: Any) -> None:
    if event.info.name == "NodeStart":
        name = event.data.node_info.node_name
        lines.write(msgspec.json.encode(Line(started=name)) + b"\n")


def node_of(result: Any) -> Node:
    """What dbt's result of a node says."""
    node = result.node
    return Node(
        kind=str(node.resource_type),
        name=node.name,
        status=str(result.status),
        seconds=round(result.execution_time or 0.0, 3),
        file=node.original_file_path,
        message=_one_line(result.message or ""),
        failures=result.failures or 0,
        age_seconds=getattr(result, "age", None),
    )


def _one_line(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


if __name__ == "__main__":
    main(sys.argv[1:])
