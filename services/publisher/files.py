"""Files, pipes and standard input as chunks of bytes and as blocks of whole lines."""

from __future__ import annotations

import io
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from services.publisher.errors import PublishError

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""A longer line or whole file is refused: it could not travel as one record."""

_CHUNK = 1 << 18
_COMPRESSED_CHUNK = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib: the gzip container with its own header and checksum
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines, beginning at line `first_line` (from 1): `data` without the last line's end.

    `lines` is the same in pieces; a carriage return before a line end is still there. `cut` says
    that the last line ended with the file and not with a line end.
    """

    first_line: int
    data: bytes
    lines: list[bytes]
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at a place in a file; line and column count from 1, column in characters."""

    line: int
    column: int
    reason: str


class _Damaged(Exception):
    """Compressed data that cannot be read to its end."""


class InputFile:
    """One FILE argument. A regular file can be read again and again, a pipe once."""

    def __init__(self, name: str, stream: BinaryIO | None, size: int | None, raw: bool) -> None:
        self.name = name
        self.size = size
        self.position = 0
        self.is_pipe = stream is not None
        self._raw = raw
        self._pending = iter(()) if stream is None else self._read(_peekable(stream))

    def chunks(self) -> Iterator[bytes]:
        """The content from the beginning, decompressed. Raises OSError."""
        if self.is_pipe:
            yield from self._pending
        else:
            with open(self.name, "rb") as stream:
                yield from self._read(stream)

    def head(self) -> bytes:
        """The first line at least, decompressed, or as much of it as fits; b"" for an empty file.

        Raises PublishError when the compressed data breaks before the first line ends.
        """
        head = b""
        chunks = self.chunks()
        try:
            for chunk in chunks:
                head += chunk
                if b"\n" in chunk or len(head) >= MAX_RECORD_BYTES:
                    break
        except _Damaged as damage:
            raise PublishError(f"{self.name}: {damage}") from damage
        if self.is_pipe:
            self._pending = chain([head] if head else [], chunks)
        return head

    def _read(self, stream: io.BufferedReader) -> Iterator[bytes]:
        self.position = 0
        compressed = not self._raw and stream.peek(2)[:2] == _GZIP_MAGIC
        pieces = self._pieces(stream, _COMPRESSED_CHUNK if compressed else _CHUNK)
        return _inflate(pieces) if compressed else pieces

    def _pieces(self, stream: io.BufferedReader, size: int) -> Iterator[bytes]:
        # A pipe gives what is there: the lines of a live log are not held back.
        read = stream.read1 if self.is_pipe else stream.read
        while piece := read(size):
            self.position += len(piece)
            yield piece


def open_inputs(
    names: Sequence[str], whole: bool, stdin: BinaryIO | None = None
) -> list[InputFile]:
    """The files a person named, `-` being standard input. `whole`: bytes as they are, even none.

    Raises PublishError for the first that cannot be read, is a directory, is empty, or is not what
    its name says.
    """
    if not names:
        raise PublishError("no FILE given: name at least one, or - for standard input")
    if list(names).count("-") > 1:
        raise PublishError("standard input (-) is given twice: it can be read once")
    return [_open_input(name, whole, stdin) for name in names]


def _open_input(name: str, whole: bool, stdin: BinaryIO | None) -> InputFile:
    try:
        file = _locate(name, whole, stdin)
        if whole:
            return file
        head = file.head()
    except OSError as error:
        raise PublishError(f"{name}: cannot be read: {error.strerror or error}") from error
    if not head.strip():
        raise PublishError(f"{file.name}: the file is empty")
    if head.startswith(_UTF16_MARKS):
        raise PublishError(
            f"{file.name}: the file is UTF-16: convert it first, iconv -f UTF-16 -t UTF-8"
        )
    return file


def _locate(name: str, whole: bool, stdin: BinaryIO | None) -> InputFile:
    if name == "-":
        return InputFile("stdin", stdin or sys.stdin.buffer, None, raw=whole)
    path = Path(name)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise PublishError(f"{name}: there is no such file{_near(path)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise PublishError(f"{name}: is a directory: name the files in it, e.g. {name}/*")
    if not stat.S_ISREG(found.st_mode):
        return InputFile(name, path.open("rb"), None, raw=whole)
    with path.open("rb") as stream:
        magic = stream.read(2)
    if magic and magic != _GZIP_MAGIC and path.suffix == ".gz" and not whole:
        raise PublishError(f"{name}: is not gzip although it is called .gz: rename or compress it")
    return InputFile(name, None, found.st_size, raw=whole)


def _near(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    near = get_close_matches(path.name, names, n=1)
    return f" (did you mean {path.with_name(near[0])}?)" if near else ""


def _peekable(stream: BinaryIO) -> io.BufferedReader:
    if isinstance(stream, io.BufferedReader):
        return stream
    return io.BufferedReader(cast(io.RawIOBase, stream))


def _inflate(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content of one or more gzip members; everything before damage is given out."""
    member = None
    for piece in pieces:
        data = piece
        while data:
            if member is None:
                data = data.lstrip(b"\0")  # tape blocks are padded with zeros
                if not data:
                    break
                member = zlib.decompressobj(_GZIP_WINDOW)
            try:
                content = member.decompress(data, _CHUNK)
            except zlib.error as error:
                raise _Damaged(f"the compressed data is damaged ({error})") from error
            if content:
                yield content
            data = member.unused_data if member.eof else member.unconsumed_tail
            if member.eof:
                member = None
    if member is not None:
        raise _Damaged("the compressed data ends early: the file is cut off")


def without_mark(start: bytes) -> bytes:
    """The beginning of a file without a byte order mark."""
    return start.removeprefix(_BOM)


def line_blocks(chunks: Iterable[bytes]) -> Iterator[Block | Fault]:
    """Chunks as blocks of whole lines, without a byte order mark.

    A line over MAX_RECORD_BYTES, and the place where compressed data breaks, become Faults.
    """
    line, rest = 1, b""
    try:
        for chunk in _marked_off(chunks):
            data = rest + chunk
            end = data.rfind(b"\n")
            if end < 0:
                rest = data[: MAX_RECORD_BYTES + 1]
                continue
            rest = data[end + 1 :]
            data = data[:end]
            lines = data.split(b"\n")
            yield from _block(line, data, lines, cut=False)
            line += len(lines)
    except _Damaged as damage:
        yield Fault(line, 1, str(damage))
        return
    if rest:
        yield from _block(line, rest, [rest], cut=True)


def _block(line: int, data: bytes, lines: list[bytes], cut: bool) -> Iterator[Block | Fault]:
    """Only the first line can be too long: no chunk is as long as a record may be."""
    if len(lines[0]) <= MAX_RECORD_BYTES:
        yield Block(line, data, lines, cut)
        return
    yield Fault(line, 1, f"the line is longer than {MAX_RECORD_BYTES:,} bytes")
    if len(lines) > 1:
        yield Block(line + 1, data[len(lines[0]) + 1 :], lines[1:], cut)


def _marked_off(chunks: Iterable[bytes]) -> Iterator[bytes]:
    start, seen_enough = b"", False
    for chunk in chunks:
        if seen_enough:
            yield chunk
            continue
        start += chunk
        if len(start) >= len(_BOM):
            seen_enough = True
            yield without_mark(start)
    if not seen_enough:
        yield without_mark(start)
