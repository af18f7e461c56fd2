"""Runs dbt on a file, and tells what became of each node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec

from services.child_process import end_with_parent
from services.warehouse.bronze import SCHEMA
from services.warehouse.dbt_process import Line, Node
from services.warehouse.errors import WarehouseError
from services.warehouse.pseudonym_keys import padded_keys

_PROCESS = (sys.executable, "-P", "-m", "services.warehouse.dbt_process")

Tell = Callable[[str], None]
"""Is told the name of each node as it starts."""

ReadUpTo = Mapping[str, Sequence[tuple[str, int, int]]]
"""Of each table its slots: topic, partition, and the offset after the last that is read."""


@dataclass(frozen=True)
class Target:
    """A target of profiles.yml, and the variables that it and the macros read."""

    name: str
    environment: Mapping[str, str]


def duckdb_target(file: Path, key: bytes, memory: str = "3GB") -> Target:
    """A database's file, the key of the pseudonyms, and DuckDB's limit."""
    inner, outer = padded_keys(key)
    environment = {
        "WAREHOUSE_FILE": str(file.absolute()),
        "WAREHOUSE_MEMORY": memory,
        "WAREHOUSE_BRONZE": SCHEMA,
        "WAREHOUSE_PREFIX": "",
        "DBT_ENV_SECRET_PSEUDONYM_INNER": inner,
        "DBT_ENV_SECRET_PSEUDONYM_OUTER": outer,
    }
    return Target("duckdb", environment)


@dataclass(frozen=True)
class Dbt:
    """The dbt project on a target.

    Args:
        project: the folder with dbt_project.yml.
        files: where dbt keeps what it writes itself.
    """

    project: Path
    files: Path
    target: Target

    def run(
        self,
        command: Sequence[str],
        *,
        dates: Iterable[date] = (),
        read_up_to: ReadUpTo | None = None,
        tell: Tell = lambda name: None,
    ) -> list[Node]:
        """Runs a dbt command; empty `dates` are all dates.

        Tables in `read_up_to` are read up to these offsets.

        Whoever kills this process ends dbt, too: the next build shall not meet it.

        Raises:
            WarehouseError: dbt could not even begin: the project does not parse; or it was killed.
        """
        if not (self.project / "dbt_project.yml").is_file():
            raise WarehouseError(
                f"{self.project}: no dbt project; set warehouse_sql to the folder with "
                "dbt_project.yml"
            )
        process = subprocess.Popen(
            [*_PROCESS, *self._arguments(command, dates, read_up_to or {})],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=end_with_parent,
        )
        try:
            nodes, error = _read(process, tell)
            said = process.stderr.read() if process.stderr else b""
        finally:
            process.kill()
            process.wait()
        if process.returncode < 0:
            raise _killed(command[0], signal.Signals(-process.returncode))
        if error is not None or process.returncode:
            text = error or said.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise WarehouseError(f"{self.project}: dbt {command[0]} did not run: {text}")
        return nodes

    def _arguments(
        self, command: Sequence[str], dates: Iterable[date], read_up_to: ReadUpTo
    ) -> list[str]:
        variables = {"dates": [str(day) for day in sorted(dates)], "read_up_to": read_up_to}
        return [
            *command,
            *("--project-dir", str(self.project), "--profiles-dir", str(self.project)),
            *("--target", self.target.name, "--vars", msgspec.json.encode(variables).decode()),
            *("--target-path", str(self.files.absolute())),
            *("--log-path", str(self.files.absolute() / "logs")),
            *("--log-level", "none", "--log-level-file", "info", "--no-use-colors"),
        ]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.target.environment, "DO_NOT_TRACK": "1"}


def _killed(command: str, by: signal.Signals) -> WarehouseError:
    killed = WarehouseError(
        f"dbt {command} was ended by {by.name}; the warehouse is as it was: build again, with more "
        "memory if it was short of that"
    )
    killed.may_pass = True
    return killed


def _read(process: subprocess.Popen[bytes], tell: Tell) -> tuple[list[Node], str | None]:
    nodes, error = [], None
    assert process.stdout is not None
    for text in process.stdout:
        if not text.endswith(b"\n"):
            break  # killed in the middle of it
        line = msgspec.json.decode(text, type=Line)
        if line.started is not None:
            tell(line.started)
        if line.node is not None:
            nodes.append(line.node)
        error = line.error or error
    process.wait()
    return nodes, error
