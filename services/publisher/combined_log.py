"""The combined log of Apache and nginx: one request a line.

`host ident user [time] "request" status bytes "referrer" "agent"`, `-` for what is not there, and
backslash escapes inside the quotes (httpd.apache.org/docs/2.4/logs.html#combined).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataflows.contracts import Contract
from dataflows.contracts.shapes import Integer, Text
from services.publisher.fields import Fields
from services.publisher.files import Block, Fault
from services.publisher.options import PublishOptions
from services.publisher.parsed import Parsed, first_escaped, is_utf8
from services.publisher.plan import RowPlan, Table
from services.publisher.tables import TableWriter
from services.publisher.times import SERVER_LOG_FORMAT

COLUMNS = (
    *("host", "ident", "user", "time", "method", "path", "protocol", "request"),
    *("status", "bytes", "referrer", "agent"),
)
"""`request` is filled only where the request is not `METHOD path [protocol]`."""

DEFAULTS = {
    "user_id": "host",
    "event_timestamp": "time",
    "page_url": "path",
    "referrer": "referrer",
    "device.user_agent": "agent",
}
"""field -> column, for contracts that have the field."""

_CONSTANTS = {"event_type": "page_view"}
_METHOD, _PATH, _PROTOCOL, _REQUEST = 4, 5, 6, 7
_Row = tuple[str, ...]

_INSIDE = r'[^"\\\n]*+(?:\\.[^"\\\n]*+)*+'
_QUOTED = f'"({_INSIDE})"'
_FORMAT = (
    r"(\S++) (\S++) ([^\[\n]+?) \[([^\]\n]*+)\] "
    rf'"(?:([A-Z]+) ([^ "\\\n]+) (HTTP/[0-9.]+)|({_INSIDE}))" '
    rf"([0-9]{{3}}|-) ([0-9]+|-) {_QUOTED} {_QUOTED} *"
)
_LINE = re.compile(_FORMAT)
_LINES = re.compile(f"^(?:{_FORMAT}|.*)$", re.MULTILINE)
"""Matches every line; a line that is not as the format has it leaves the groups empty."""
_PARTS = [
    (name, re.compile(pattern))
    for name, pattern in (
        ("host", r"\S++ "),
        ("ident", r"\S++ "),
        ("user", r"[^\[]+? (?=\[)"),
        ("time in square brackets", r"\[[^\]]*+\] "),
        ("request in double quotes", rf"{_QUOTED} "),
        ("status of three digits", r"(?:[0-9]{3}|-) "),
        ("number of bytes", r"(?:[0-9]+|-) "),
        ("referrer in double quotes", rf"{_QUOTED} "),
        ("agent in double quotes", rf"{_QUOTED} *"),
    )
]
_PART_OF_COLUMN = (0, 1, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8)
_OPEN_QUOTE = re.compile(rf'"{_INSIDE}\\?')
_UNUSUAL_REQUEST = re.compile(r"([A-Z]+) (\S.*?)(?: (HTTP/[0-9.]+))?", re.DOTALL)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[^x])", re.DOTALL)
_CONTROLS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"v": b"\v", b"f": b"\f"}


class CombinedLog:
    """Each line is a page view unless told otherwise; what no field takes is kept as it is."""

    def __init__(self, contract: Contract, options: PublishOptions, file: str) -> None:
        fields = Fields(contract)
        kinds = {"status": Integer(), "bytes": Integer()}
        constants = {}
        for path, value in _CONSTANTS.items():
            shape = fields.shapes.get(path)
            if isinstance(shape, Text) and (shape.enum is None or value in shape.enum):
                constants[path] = value
        table = Table(
            file,
            COLUMNS,
            {path: column for path, column in DEFAULTS.items() if path in fields},
            constants,
            kinds,
            options.timestamp_format or SERVER_LOG_FORMAT,
        )
        self._contract = contract
        self._plan = RowPlan(contract, table, options)

    def parse(self, blocks: Iterator[Block | Fault]) -> Iterator[Parsed]:
        """See `Reader`."""
        writer = TableWriter(self._contract, self._plan)
        for block in blocks:
            if isinstance(block, Fault):
                yield Parsed(faults=[block])
            else:
                yield _Scan(block).publishable(writer)


class _Scan:
    """The lines of one block, told apart."""

    def __init__(self, block: Block) -> None:
        encodings = "strict" if is_utf8(block.data) else "surrogateescape"
        text = block.data.decode(errors=encodings).replace("\r\n", "\n").removesuffix("\r")
        self._first_line = block.first_line
        self._lines = text.split("\n")
        self._rows: list[_Row] = []
        self._numbers: list[int] = []
        self._blank = 0
        self._faults: list[Fault] = []
        self._notes: list[Fault] = []
        torn = len(self._lines) - 1 if block.cut else None
        for index, (line, found) in enumerate(zip(self._lines, _LINES.findall(text), strict=True)):
            row = found if found[0] else self._odd(index, line, torn=index == torn)
            if row is not None:
                odd = row[_REQUEST] or "\\" in line
                self._rows.append(_plain(row) if odd else row)
                self._numbers.append(index)
        if encodings != "strict":
            self._leave_out_undecodable()

    def _odd(self, index: int, line: str, torn: bool) -> _Row | None:
        """The cells of a line that deviates from the format but can be used none the less."""
        if not line.strip():
            self._blank += 1
            return None
        position, reason = _first_deviation(line)
        # Without a line end after it, the last line may still be being written.
        row = None if torn else _with_open_agent(line, position)
        kept = self._faults if row is None else self._notes
        kept.append(Fault(self._first_line + index, position + 1, reason))
        return row

    def _leave_out_undecodable(self) -> None:
        sound = []
        for position, index in enumerate(self._numbers):
            fault = first_escaped(self._lines[index])
            if fault is None:
                sound.append(position)
            else:
                self._faults.append(Fault(self._first_line + index, *fault))
        self._rows = [self._rows[position] for position in sound]
        self._numbers = [self._numbers[position] for position in sound]

    def publishable(self, writer: TableWriter) -> Parsed:
        columns = [
            ["" if cell == "-" else cell for cell in column] if "-" in column else column
            for column in zip(*self._rows, strict=True)
        ]
        parsed = writer.write(columns, self._locate)
        parsed.faults = sorted([*self._faults, *parsed.faults], key=lambda fault: fault.line)
        refused = {fault.line for fault in parsed.faults}
        parsed.notes = [note for note in self._notes if note.line not in refused]
        parsed.blank = self._blank
        return parsed

    def _locate(self, row: int, column: int) -> tuple[int, int]:
        index = self._numbers[row]
        line = self._lines[index]
        position = 0
        for _, pattern in _PARTS[: _PART_OF_COLUMN[column]]:
            part = pattern.match(line, position)
            position = part.end() if part else position
        return self._first_line + index, position + line.startswith(('"', "["), position) + 1


def _first_deviation(line: str) -> tuple[int, str]:
    """(position, reason) of the first part that is not as the format has it."""
    position = 0
    for name, pattern in _PARTS:
        part = pattern.match(line, position)
        if part is None:
            if _OPEN_QUOTE.fullmatch(line, position):
                return position, f"expected the {name}: the quote is never closed"
            found = "there is something else" if position < len(line) else "the line ends"
            return position, f"expected the {name}: {found}"
        position = part.end()
    return position, "expected the end of the line after the agent"


def _with_open_agent(line: str, position: int) -> _Row | None:
    """The cells of a line that lacks nothing but the quote after the agent; None for any other."""
    if not _OPEN_QUOTE.fullmatch(line, position):
        return None
    match = _LINE.fullmatch(line.removesuffix("\\") + '"')
    return match.groups("") if match else None


def _plain(row: _Row) -> _Row:
    """Escapes resolved, and an unusual request taken apart where that is possible."""
    cells = [_resolve(cell) if "\\" in cell else cell for cell in row]
    if cells[_REQUEST]:
        request = _UNUSUAL_REQUEST.fullmatch(cells[_REQUEST])
        if request is not None:
            cells[_METHOD], cells[_PATH], cells[_PROTOCOL] = request.groups("")
            cells[_REQUEST] = ""
    return tuple(cells)


def _resolve(text: str) -> str:
    """Backslash escapes as what they stand for; the text as it is where that is not UTF-8."""
    try:
        return _ESCAPE.sub(_escaped, text.encode()).decode()
    except UnicodeDecodeError:
        return text


def _escaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code.startswith(b"x"):
        return bytes.fromhex(code[1:].decode())
    return _CONTROLS.get(code, code)
