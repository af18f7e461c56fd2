"""Publishes text and files into a list, for the tests of this folder."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dataflows.connectors.records import Output
from dataflows.contracts import Contract, load_contracts
from services.publisher import PublishReport, parse_options, publish_files

SCHEMAS = Path(__file__).resolve().parents[3] / "schemas"


@cache
def contract(source: str) -> Contract:
    return load_contracts(SCHEMAS)[source]


@dataclass
class Published:
    """What reached the log, and what the publisher said about it."""

    report: PublishReport
    outputs: list[Output] = field(default_factory=list)

    @property
    def keys(self) -> list[bytes | None]:
        return [key for output in self.outputs for key in output.keys]

    @property
    def values(self) -> list[bytes]:
        return [value or b"" for output in self.outputs for value in output.values]

    @property
    def records(self) -> list[Any]:
        return [json.loads(value) for value in self.values]

    @property
    def places(self) -> list[tuple[int, int]]:
        return [(line.line, line.column) for line in self.report.bad_lines]

    @property
    def reasons(self) -> list[str]:
        return [line.reason for line in self.report.bad_lines]


def publish(
    source: str, *files: str | Path, stdin: bytes | None = None, **options: Any
) -> Published:
    """Publish files with the options of the command line."""
    outputs: list[Output] = []
    report = publish_files(
        contract(source),
        [str(file) for file in files],
        parse_options(**options),
        outputs.extend,
        stdin=None if stdin is None else io.BytesIO(stdin),
    )
    return Published(report, outputs)


def publish_text(source: str, content: str | bytes, **options: Any) -> Published:
    """Publish what standard input gives."""
    data = content.encode() if isinstance(content, str) else content
    return publish(source, "-", stdin=data, **options)
