"""The lines of a file as records: plain events, or records as `tidegate peek --json` prints."""

from __future__ import annotations

import base64
import binascii
import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import msgspec

from dataflows.connectors.records import Headers
from dataflows.errors import TidegateError

LAST_INSTANT_US = 253_402_300_799_999_999  # of the year 9999


class Line(NamedTuple):
    """A record to append, and when it arrived."""

    arrival_us: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class _Header(msgspec.Struct):
    name: str
    value: str | None = None
    value_base64: str | None = None


class _Record(msgspec.Struct):
    arrival_us: Annotated[int, msgspec.Meta(ge=0, le=LAST_INSTANT_US)]
    key: str | None = None
    key_base64: str | None = None
    value: str | None = None
    value_base64: str | None = None
    headers: list[_Header] = []


_decode = msgspec.json.Decoder(_Record).decode


def read_lines(file: Path, as_records: bool, arrival_us: int) -> Iterator[Line]:
    """Every line that is not blank, in order.

    Raises:
        TidegateError: the file cannot be read, or (as records) a line is no record.
    """
    try:
        with _open(file) as stream:
            for number, text in enumerate(stream, 1):
                text = text.rstrip(b"\r\n")
                if not text.strip():
                    continue
                yield (
                    _record(file, number, text) if as_records else Line(arrival_us, None, text, ())
                )
    except (OSError, EOFError, zlib.error) as error:
        raise TidegateError(f"{file}: cannot be read: {error}") from error


def _open(file: Path) -> BinaryIO:
    if str(file) == "-":
        return sys.stdin.buffer
    return gzip.open(file) if file.suffix == ".gz" else open(file, "rb")  # type: ignore[return-value]


def _record(file: Path, number: int, text: bytes) -> Line:
    try:
        record = _decode(text)
        headers = tuple((h.name, _bytes(h.value, h.value_base64) or b"") for h in record.headers)
        return Line(
            record.arrival_us,
            _bytes(record.key, record.key_base64),
            _bytes(record.value, record.value_base64),
            headers,
        )
    except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError) as error:
        raise TidegateError(
            f"{file}:{number}: is no record ({error}); `tidegate peek TOPIC --json` writes "
            "records, plain events need no --records"
        ) from error


def _bytes(text: str | None, encoded: str | None) -> bytes | None:
    if encoded is not None:
        return base64.b64decode(encoded, validate=True)
    return None if text is None else text.encode()
