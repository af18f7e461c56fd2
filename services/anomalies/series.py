"""A series from a table: a header with `timestamp` and `value`, then a row a measurement."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflows.detection.anomalies import MOST
from services.anomalies.errors import SeriesError
from services.publisher.csv_grammar import Cells, separator_of, take_apart
from services.publisher.errors import listing
from services.publisher.files import Block, InputFile, line_blocks
from services.publisher.parsed import first_undecodable, is_utf8
from services.publisher.times import UNTIMED, read_times, shortened

TIMESTAMP, VALUE = "timestamp", "value"
MISSING = frozenset({"", "nan", "na", "n/a", "null", "none"})
"""What stands for a value that is not there, in any case."""

_NUMBER = re.compile(r"[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?")
_PLAIN = frozenset("0123456789+-.eE")


class Rows(NamedTuple):
    """n rows in the order of the file."""

    lines: list[int]  # where they begin
    timestamps: list[str]  # as they are written
    texts: list[str]  # the values as they are written
    times_us: NDArray[np.int64]  # [n]
    values: NDArray[np.float64]  # [n], NaN where there is none


class SeriesFile:
    """One file, whose header has been read. Other columns are ignored, and named in `ignored`.

    Raises SeriesError, from here on, for the first thing that is wrong, with line and column.
    """

    def __init__(self, file: InputFile, timestamp_format: str | None) -> None:
        self._file = file
        self._timestamp_format = timestamp_format
        self._blocks = _blocks(file)
        self._rest = next(self._blocks)
        while not self._rest.data.strip():
            self._rest = next(self._blocks)
        blank = next(i for i, line in enumerate(self._rest.lines) if line.strip())
        self._rest = _after(self._rest, blank)
        header = _decoded(file.name, self._rest.first_line, self._rest.lines[0])
        self._separator = separator_of(header)
        names = [name.strip() for name in self._cells(self._rest.first_line, header).texts]
        self._width = len(names)
        self._at = [self._column(names, name) for name in (TIMESTAMP, VALUE)]
        self.ignored = [name for i, name in enumerate(names) if i not in self._at]

    def _column(self, names: Sequence[str], wanted: str) -> int:
        place = f"{self._file.name}:{self._rest.first_line}"
        if wanted not in names:
            raise SeriesError(
                f"{place}: there is no column {wanted!r}, only {listing(names)}: "
                f"the first line must name the columns {TIMESTAMP} and {VALUE}"
            )
        if names.count(wanted) > 1:
            raise SeriesError(f"{place}: the header names {wanted!r} twice: rename one of them")
        return names.index(wanted)

    def rows(self) -> Iterator[Rows]:
        """All rows, some at a time; blank lines are none."""
        yield self._read(_after(self._rest, 1))
        for block in self._blocks:
            yield self._read(block)

    def _read(self, block: Block) -> Rows:
        lines, records = [], []
        sound = is_utf8(block.data)
        for number, line in enumerate(block.lines, block.first_line):
            if line and not line.isspace():
                lines.append(number)
                plain = line.removesuffix(b"\r")
                records.append(
                    plain.decode() if sound else _decoded(self._file.name, number, plain)
                )
        if b'"' in block.data or self._separator == " ":
            cells = [self._cells(*record).texts for record in zip(lines, records, strict=True)]
        else:
            cells = [record.split(self._separator) for record in records]
        if set(map(len, cells)) - {self._width}:
            row = next(i for i, found in enumerate(cells) if len(found) != self._width)
            raise SeriesError(
                f"{self._file.name}:{lines[row]}: {len(cells[row])} cells where the header has "
                f"{self._width}: a cell with {self._separator!r} in it belongs in quotes"
            )
        timestamps, texts = ([row[at] for row in cells] for at in self._at)
        values, wrong = read_values(texts)
        times_us, untimed = self._times(timestamps)
        faults = {row: (1, reason) for row, reason in wrong.items()}
        faults |= {row: (0, reason) for row, reason in untimed.items()}
        if faults:
            row = min(faults)
            which, reason = faults[row]
            starts = self._cells(lines[row], records[row]).starts
            column = starts[self._at[which]] + 1
            raise SeriesError(f"{self._file.name}:{lines[row]}:{column}: {reason}")
        return Rows(lines, timestamps, texts, times_us, values)

    def _times(self, timestamps: Sequence[str]) -> tuple[NDArray[np.int64], dict[int, str]]:
        times_us, faults = read_times(timestamps, self._timestamp_format)
        for row in np.flatnonzero(times_us == UNTIMED).tolist():
            faults.setdefault(row, "there is no timestamp: every row needs one")
        return times_us, faults

    def _cells(self, line: int, record: str) -> Cells:
        cells = take_apart(record, self._separator)
        fault = cells.fault
        if cells.open_at is not None:
            fault = cells.open_at, "this quote is not closed in its line"
        if fault is not None:
            raise SeriesError(f"{self._file.name}:{line}:{fault[0] + 1}: {fault[1]}")
        return cells


def read_values(texts: Sequence[str]) -> tuple[NDArray[np.float64], dict[int, str]]:
    """(float64[n], reasons by row): decimal numbers, NaN for what is missing or no number."""
    if set("".join(texts)) <= _PLAIN and all(texts):
        try:
            values = np.array(list(map(float, texts)))
        except ValueError:
            pass
        else:
            if (np.abs(values) <= MOST).all():
                return values, {}
    values, faults = np.full(len(texts), np.nan), {}
    for row, text in enumerate(map(str.strip, texts)):
        if _NUMBER.fullmatch(text):
            values[row] = float(text)
            if abs(values[row]) > MOST:
                faults[row] = f"{shortened(text)} is too large a number"
        elif text.lower() not in MISSING:
            faults[row] = (
                f"{shortened(text)} is no number: write it like 1234.5, "
                "or leave the cell empty where there is none"
            )
    return values, faults


def _blocks(file: InputFile) -> Iterator[Block]:
    for block in line_blocks(file.chunks()):
        if not isinstance(block, Block):
            raise SeriesError(f"{file.name}:{block.line}:{block.column}: {block.reason}")
        yield block


def _after(block: Block, lines: int) -> Block:
    left = block.lines[lines:]
    return Block(block.first_line + lines, b"\n".join(left), left, block.cut)


def _decoded(name: str, line: int, raw: bytes) -> str:
    undecodable = first_undecodable(raw)
    if undecodable is not None:
        column, reason = undecodable
        raise SeriesError(f"{name}:{line}:{column}: {reason}: convert the file to UTF-8")
    return raw.decode().removesuffix("\r")
