"""Tables: CSV with a header line, or the same with tabs, semicolons, bars or aligned by blanks."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field

from dataflows.contracts import Contract
from services.publisher.csv_grammar import BLANKS, Cells, separator_of, take_apart
from services.publisher.errors import PublishError
from services.publisher.files import Block, Fault, without_mark
from services.publisher.options import PublishOptions
from services.publisher.parsed import Parsed, first_escaped, first_undecodable, is_utf8
from services.publisher.plan import RowPlan, Table
from services.publisher.tables import TableWriter

_MAX_OPEN_CHARACTERS = 1 << 20
"""A quoted cell that goes on for longer than this is taken for a quote that was never closed."""


class CsvTable:
    """Each row is a record: cells go to the fields the plan says, empty ones are left out."""

    def __init__(self, contract: Contract, options: PublishOptions, file: str, head: bytes) -> None:
        header, self._header_lines = _header(file, head)
        self._separator = separator_of(header)
        columns = _columns(file, self._header_lines, take_apart(header, self._separator))
        table = Table(file, columns, timestamp_format=options.timestamp_format)
        self._contract = contract
        self._width = len(columns)
        self._plan = RowPlan(contract, table, options)

    def parse(self, blocks: Iterator[Block | Fault]) -> Iterator[Parsed]:
        """See `Reader`."""
        writer = TableWriter(self._contract, self._plan)
        splitter = _Splitter(self._separator, self._header_lines)
        for block in blocks:
            if isinstance(block, Fault):
                yield Parsed(faults=[block])
            else:
                yield self._written(splitter.feed(block), writer)
        yield self._written(splitter.finish(), writer)

    def _written(self, rows: _Rows, writer: TableWriter) -> Parsed:
        if rows.undecodable or self._width == 1 or set(map(len, rows.cells)) - {self._width}:
            rows = self._sound(rows)

        def locate(row: int, column: int) -> tuple[int, int]:
            record = rows.records[row]
            start = take_apart(record, self._separator).starts[column]
            return _place(rows.lines[row], record, start)

        parsed = writer.write(list(zip(*rows.cells, strict=True)), locate)
        parsed.faults = sorted([*rows.faults, *parsed.faults], key=lambda fault: fault.line)
        parsed.blank = rows.blank
        return parsed

    def _sound(self, rows: _Rows) -> _Rows:
        """The rows without blank ones, and without those that are refused, which become faults."""
        sound = _Rows(faults=rows.faults)
        for line, record, cells in zip(rows.lines, rows.records, rows.cells, strict=True):
            if not record or record.isspace():
                sound.blank += 1
            elif undecodable := first_escaped(record):
                column, reason = undecodable
                sound.faults.append(Fault(*_place(line, record, column - 1), reason))
            elif len(cells) == self._width:
                sound.add(line, record, cells)
            else:
                starts = [*take_apart(record, self._separator).starts, len(record)]
                position = starts[self._width] if len(cells) > self._width else len(record)
                reason = f"{len(cells)} cells where the header has {self._width}"
                sound.faults.append(Fault(*_place(line, record, position), reason))
        return sound


@dataclass(slots=True)
class _Rows:
    """Rows as cells, the text of each, and the physical line it begins at."""

    lines: list[int] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    blank: int = 0
    undecodable: bool = False

    def add(self, line: int, record: str, cells: list[str]) -> None:
        self.lines.append(line)
        self.records.append(record)
        self.cells.append(cells)


class _Splitter:
    """Blocks of physical lines as rows; a row whose quotes are open waits for the next block."""

    def __init__(self, separator: str, header_lines: int) -> None:
        self._separator = separator
        self._first_line = header_lines + 1
        self._waiting: list[str] = []
        self._waits_from = self._first_line
        self._undecodable = False

    def feed(self, block: Block) -> _Rows:
        """The rows that are complete with this block."""
        sound = is_utf8(block.data)
        lines = block.data.decode(errors="strict" if sound else "surrogateescape").split("\n")
        lines = lines[max(0, self._first_line - block.first_line) :]
        if not self._waiting:
            self._waits_from = max(block.first_line, self._first_line)
        self._undecodable = not sound or (self._undecodable and bool(self._waiting))
        return self._split([*self._waiting, *lines], is_end=False)

    def finish(self) -> _Rows:
        """What is left when the file ends: rows after a quote that was never closed."""
        return self._split(self._waiting, is_end=True)

    def _split(self, lines: list[str], is_end: bool) -> _Rows:
        first_line, self._waiting = self._waits_from, []
        records = [line[:-1] if line.endswith("\r") else line for line in lines]
        cells = _quickly(records, self._separator)
        if cells is None:
            rows = self._carefully(lines, first_line, is_end)
        else:
            numbers = list(range(first_line, first_line + len(lines)))
            rows = _Rows(numbers, records, cells)
        rows.undecodable = self._undecodable
        return rows

    def _carefully(self, lines: list[str], first_line: int, is_end: bool) -> _Rows:
        """Line by line, for a block with cells that span lines or with faulty quotes."""
        rows = _Rows()
        index = 0
        while index < len(lines):
            record, line = lines[index].removesuffix("\r"), first_line + index
            cells, count = take_apart(record, self._separator), 1
            if cells.open_at is not None:
                opened = cells.open_at
                record, cells, count = _joined(lines, index, self._separator)
                if cells.open_at is not None and len(record) <= _MAX_OPEN_CHARACTERS and not is_end:
                    self._waiting, self._waits_from = lines[index:], line
                    break
                if cells.open_at is not None or cells.fault is not None:
                    reason = "this quote is never closed, or not at the end of its cell"
                    rows.faults.append(Fault(line, opened + 1, reason))
                    index += 1
                    continue
            if cells.fault is not None:
                rows.faults.append(Fault(line, cells.fault[0] + 1, cells.fault[1]))
            else:
                rows.add(line, record, cells.texts)
            index += count
        return rows


def _quickly(records: list[str], separator: str) -> list[list[str]] | None:
    """One row a line, or None when that is not how these lines are meant."""
    if separator == BLANKS:
        return [record.split() for record in records]
    if not any('"' in record for record in records):
        return [record.split(separator) for record in records]
    try:
        cells = list(csv.reader(records, delimiter=separator, strict=True))
    except csv.Error:
        return None
    return cells if len(cells) == len(records) else None


def _joined(lines: list[str], index: int, separator: str) -> tuple[str, Cells, int]:
    """The record that begins at a line and goes on in the next ones, and how many lines it has.

    Its cells have `open_at` when the lines end, or it grows too long, before its quotes close.
    """
    end, size = index + 1, len(lines[index])
    while end < len(lines) and size <= _MAX_OPEN_CHARACTERS:
        size += len(lines[end]) + 1
        end += 1
        # Each quote opens or closes: after an even number of them the cell is as open as before.
        if lines[end - 1].count('"') % 2:
            record = "\n".join(lines[index:end]).removesuffix("\r")
            cells = take_apart(record, separator)
            if cells.open_at is None:
                return record, cells, end - index
    record = "\n".join(lines[index:end])
    return record, take_apart(record, separator), end - index


def _place(line: int, record: str, position: int) -> tuple[int, int]:
    """(line, column) in the file of a position in a record that begins at `line`."""
    return line + record.count("\n", 0, position), position - record.rfind("\n", 0, position)


def _header(file: str, head: bytes) -> tuple[str, int]:
    """The header, which is the first line that is not blank, and the number of lines up to it."""
    lines = without_mark(head).split(b"\n")
    number, line = next((i, line) for i, line in enumerate(lines, 1) if line.strip())
    undecodable = first_undecodable(line)
    if undecodable is not None:
        column, reason = undecodable
        raise PublishError(f"{file}:{number}:{column}: {reason}: convert the file to UTF-8")
    text = line.decode().removesuffix("\r")
    if "\r" in text:
        raise PublishError(
            f"{file}:{number}: lines end in bare carriage returns: convert them, tr '\\r' '\\n'"
        )
    return text, number


def _columns(file: str, line: int, header: Cells) -> list[str]:
    """The columns' names; one without a name is called by its number."""
    if header.open_at is not None:
        raise PublishError(
            f"{file}:{line}:{header.open_at + 1}: a quote of the header is not closed"
        )
    if header.fault is not None:
        position, reason = header.fault
        raise PublishError(f"{file}:{line}:{position + 1}: the header: {reason}")
    names: list[str] = []
    for number, text in enumerate(header.texts):
        name = text.strip() or f"column_{number + 1}"
        if name in names:
            place = f"{file}:{line}:{header.starts[number] + 1}"
            raise PublishError(f"{place}: the header names {name!r} twice: rename one of them")
        names.append(name)
    return names
