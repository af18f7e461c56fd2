"""JSON lines: published byte for byte, or with fields moved and set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dataflows.contracts import Contract
from dataflows.contracts.shapes import Array, Map, Object, Shape
from services.publisher.errors import PublishError, listing, suggestion
from services.publisher.fields import Fields
from services.publisher.files import Block, Fault, without_mark
from services.publisher.identity import DerivedIds, with_ids
from services.publisher.json_syntax import first_fault
from services.publisher.options import PublishOptions
from services.publisher.parsed import Heads, Parsed, is_utf8
from services.publisher.plan import check_nesting, constants
from services.publisher.values import ABSENT, Column, convert

_Row = dict[str, Any]
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODE = msgspec.json.Encoder().encode


class JsonLines:
    """Each line that is JSON is a record as it stands, whether or not it obeys the contract."""

    def __init__(self, contract: Contract) -> None:
        self._heads = Heads(contract)

    def parse(self, blocks: Iterator[Block | Fault]) -> Iterator[Parsed]:
        """See `Reader`."""
        for block in blocks:
            yield Parsed(faults=[block]) if isinstance(block, Fault) else self._parse(block)

    def _parse(self, block: Block) -> Parsed:
        lines = _without_returns(block)
        try:
            heads = list(map(self._heads.read, lines)) if is_utf8(block.data) else None
        except (msgspec.DecodeError, RecursionError):
            heads = None
        parsed = Parsed(values=lines)
        if heads is None:
            parsed = Parsed()
            heads = self._one_by_one(lines, block.first_line, parsed)
        parsed.keys, parsed.times_us = self._heads.columns(heads)
        return parsed

    def _one_by_one(self, lines: Sequence[bytes], first_line: int, parsed: Parsed) -> list[Any]:
        """The heads of the lines that are JSON, which go to `parsed`, as do the others' faults."""
        heads = []
        for number, line in enumerate(lines, first_line):
            head = self._heads.read_any(line) if is_utf8(line) else None
            if head is not None or _is_json(number, line, parsed):
                heads.append(head or self._heads.nothing)
                parsed.values.append(line)
        return heads


class MappedJsonLines:
    """Each JSON object is rebuilt: mapped members moved to the contract's fields, others kept.

    Members that are not touched keep their bytes. A line that is JSON but cannot be taken apart
    (no object, half a surrogate pair) is published as it stands; ingest tells what is wrong.
    """

    def __init__(self, contract: Contract, options: PublishOptions, file: str, head: bytes) -> None:
        fields = Fields(contract)
        self._contract = contract
        self._moves = [
            _Move(tuple(path.split(".")), column, fields.shape(path))
            for path, column in options.mapping.items()
        ]
        self._constants = constants(fields, options.constants, options)
        self._timestamp_format = options.timestamp_format
        self._heads = Heads(contract)
        given = [*options.mapping, *self._constants]
        check_nesting(given)
        self._derives_id = contract.dedup_key not in given
        _check_columns(self._moves, file, head)

    def parse(self, blocks: Iterator[Block | Fault]) -> Iterator[Parsed]:
        """See `Reader`."""
        ids = DerivedIds(self._contract.source)
        for block in blocks:
            yield Parsed(faults=[block]) if isinstance(block, Fault) else self._parse(block, ids)

    def _parse(self, block: Block, ids: DerivedIds) -> Parsed:
        parsed = Parsed()
        lines: list[tuple[int, bytes, _Row | None]] = []
        for number, line in enumerate(_without_returns(block), block.first_line):
            row = _members(line)
            if row is not None or _is_json(number, line, parsed):
                lines.append((number, line, row))
        rows = [row for _, _, row in lines if row is not None]
        problems = self._rebuild(rows)
        index = -1
        for number, line, row in lines:
            index += row is not None
            if row is None:
                parsed.values.append(line)
            elif index in problems:
                column, reason = problems[index]
                parsed.faults.append(Fault(number, _place(line, column), reason))
            else:
                parsed.values.append(self._encoded(row, ids))
        parsed.faults.sort(key=lambda fault: fault.line)
        heads = [self._heads.read_any(value) or self._heads.nothing for value in parsed.values]
        parsed.keys, parsed.times_us = self._heads.columns(heads)
        return parsed

    def _rebuild(self, rows: Sequence[_Row]) -> dict[int, tuple[str, str]]:
        """Move and set members in place; (column, reason) by row where that cannot be done."""
        problems: dict[int, tuple[str, str]] = {}
        columns = [self._converted(move, rows, problems) for move in self._moves]
        for index, row in enumerate(rows):
            for name in {move.column for move in self._moves}:
                _remove(row, _path(row, name))
            filled = [
                (m.members, c.values[index]) for m, c in zip(self._moves, columns, strict=True)
            ]
            fixed = [(tuple(path.split(".")), c.values[0]) for path, c in self._constants.items()]
            for members, value in [*filled, *fixed]:
                if value is not ABSENT and not _put(row, members, value):
                    name = ".".join(members[:-1])
                    problems.setdefault(
                        index, (name, f"{name} is not an object: {members[-1]} cannot be put in it")
                    )
        return problems

    def _converted(
        self, move: _Move, rows: Sequence[_Row], problems: dict[int, tuple[str, str]]
    ) -> Column:
        found = [_find(row, _path(row, move.column)) for row in rows]
        is_whole = isinstance(move.shape, Array | Map | Object)
        cells = []
        for index, raw in enumerate(found):
            if raw[:1] in (b"{", b"[") and not is_whole:
                kind = "object" if raw[:1] == b"{" else "array"
                problems.setdefault(
                    index, (move.column, f"an {kind} cannot fill {'.'.join(move.members)}")
                )
                raw = b""
            cells.append(_text(raw))
        column = convert(move.shape, cells, self._timestamp_format)
        for index, reason in column.faults.items():
            problems.setdefault(index, (move.column, reason))
        return column

    def _encoded(self, row: _Row, ids: DerivedIds) -> bytes:
        body = _ENCODE(row)
        if not self._derives_id or self._contract.dedup_key in row:
            return body
        return with_ids([body], self._contract.dedup_key, ids.next_ids([body]))[0]


def _without_returns(block: Block) -> list[bytes]:
    if b"\r" not in block.data:
        return block.lines
    return [line.removesuffix(b"\r") for line in block.lines]


@dataclass(frozen=True, slots=True)
class _Move:
    members: tuple[str, ...]
    column: str
    shape: Shape


def _is_json(number: int, line: bytes, parsed: Parsed) -> bool:
    """Decide about a line that the decoder refused; count it when it is not to be published."""
    fault = first_fault(line)
    if fault is None:
        return True
    if line.isspace() or not line:
        parsed.blank += 1
    else:
        parsed.faults.append(Fault(number, *fault))
    return False


def _members(line: bytes) -> _Row | None:
    """The object's members, undecoded; None for anything that is no object or no UTF-8."""
    try:
        return dict(_MEMBERS.decode(line)) if is_utf8(line) else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _path(row: Mapping[str, Any], column: str) -> tuple[str, ...]:
    """A column is a member's name, even with dots in it, or else a dotted path."""
    return (column,) if column in row else tuple(column.split("."))


def _find(row: Mapping[str, Any], path: Sequence[str]) -> bytes:
    """The JSON of the member at `path`, b"" where there is none."""
    raw = row.get(path[0])
    if raw is None:
        return b""
    if len(path) == 1:
        return bytes(raw)
    inner = _members(bytes(raw))
    return b"" if inner is None else _find(inner, path[1:])


def _remove(row: _Row, path: Sequence[str]) -> None:
    if len(path) == 1:
        row.pop(path[0], None)
    elif path[0] in row:
        inner = _members(bytes(row[path[0]]))
        if inner is not None:
            _remove(inner, path[1:])
            row[path[0]] = msgspec.Raw(_ENCODE(inner))


def _put(row: _Row, path: Sequence[str], value: Any) -> bool:
    """Set a member; what stood there is kept as original_<name>. False: its parent is no object."""
    name = path[0]
    if len(path) == 1:
        if name in row:
            row.setdefault(f"original_{name}", row[name])
        row[name] = value
        return True
    inner = row.get(name, {})
    if not isinstance(inner, dict):
        members = _members(bytes(inner))
        if members is None:
            return False
        inner = members
    row[name] = inner
    return _put(inner, path[1:], value)


def _text(raw: bytes) -> str:
    if raw == b"null":
        return ""
    return str(msgspec.json.decode(raw)) if raw.startswith(b'"') else raw.decode()


def _place(line: bytes, column: str) -> int:
    """Where the member's value begins, as well as its name tells: 1 when it cannot be found."""
    name = re.escape(json.dumps(column.rpartition(".")[2], ensure_ascii=False))
    match = re.search(rf"{name}\s*:\s*", line.decode())
    return match.end() + 1 if match else 1


def _check_columns(moves: Sequence[_Move], file: str, head: bytes) -> None:
    """Refuse a --map whose column none of the first records has."""
    rows = [row for row in map(_members, without_mark(head).split(b"\n")) if row is not None]
    names = dict.fromkeys(name for row in rows for name in row)
    for move in moves:
        if rows and not any(_find(row, _path(row, move.column)) for row in rows):
            raise PublishError(
                f"{file}: --map {'.'.join(move.members)}={move.column}: none of the first"
                f" {len(rows)} records has {move.column!r}{suggestion(move.column, names)}:"
                f" there are {listing(names)}"
            )
