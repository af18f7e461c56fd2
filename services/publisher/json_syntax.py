"""Where a line stops being JSON: RFC 8259's grammar, without recursion and without building values.

The decoders elsewhere also refuse what the grammar allows (a number beyond double's range, half of
a surrogate pair, deep nesting). Whether such a line may be published is decided here: it may.
"""

from __future__ import annotations

import re

from services.publisher.parsed import first_undecodable

_SPACE = re.compile(r"[ \t\r\n]*+")
_STRING_BODY = re.compile(r'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_SCALAR = re.compile(
    r"(?:-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+|true|false|null)"
    r"(?![0-9A-Za-z.+-])"
)
_CLOSING = {"{": "}", "[": "]"}
_WORD = re.compile(r"[0-9A-Za-z.+-]+")


class _Malformed(Exception):
    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position
        self.reason = reason


def first_fault(line: bytes) -> tuple[int, str] | None:
    """(column, reason) of the first deviation from JSON; None when the line is one JSON value.

    Columns count characters from 1. Bytes that are not UTF-8 are looked for first.
    """
    undecodable = first_undecodable(line)
    if undecodable is not None:
        return undecodable
    try:
        _scan(line.decode())
    except _Malformed as fault:
        return fault.position + 1, fault.reason
    return None


def _scan(text: str) -> None:
    open_brackets: list[str] = []
    position = _value(text, _skip(text, 0), open_brackets)
    while open_brackets:
        position = _after_value(text, _skip(text, position), open_brackets)
    position = _skip(text, position)
    if position < len(text):
        raise _Malformed(position, f"{text[position]!r} after the end of the JSON value")


def _value(text: str, position: int, open_brackets: list[str]) -> int:
    """Read one scalar, or open one array or object together with the first thing in it."""
    while True:
        character = text[position : position + 1]
        if character == '"':
            return _string(text, position)
        if character not in ("{", "["):
            return _scalar(text, position)
        open_brackets.append(character)
        position = _skip(text, position + 1)
        if text[position : position + 1] == _CLOSING[character]:
            open_brackets.pop()
            return position + 1
        if character == "{":
            position = _name(text, position)


def _after_value(text: str, position: int, open_brackets: list[str]) -> int:
    opened = open_brackets[-1]
    found = text[position : position + 1]
    if found == _CLOSING[opened]:
        open_brackets.pop()
        return position + 1
    if found != ",":
        raise _Malformed(
            position, f"expected ',' or '{_CLOSING[opened]}', {_found(text, position)}"
        )
    position = _skip(text, position + 1)
    if opened == "{":
        position = _name(text, position)
    return _value(text, position, open_brackets)


def _name(text: str, position: int) -> int:
    """Read `"name":` and the space after it."""
    if text[position : position + 1] != '"':
        raise _Malformed(position, f"expected a name in double quotes, {_found(text, position)}")
    position = _skip(text, _string(text, position))
    if text[position : position + 1] != ":":
        raise _Malformed(position, f"expected ':', {_found(text, position)}")
    return _skip(text, position + 1)


def _string(text: str, position: int) -> int:
    body = _STRING_BODY.match(text, position + 1)
    end = body.end() if body else position + 1
    if text[end : end + 1] == '"':
        return end + 1
    if end == len(text):
        raise _Malformed(position, "this string has no closing quote")
    if text[end] == "\\":
        raise _Malformed(end, f"{text[end : end + 2]!r} is no escape that JSON knows")
    raise _Malformed(end, f"control character {text[end]!r} inside a string")


def _scalar(text: str, position: int) -> int:
    match = _SCALAR.match(text, position)
    if match is None:
        raise _Malformed(position, f"expected a JSON value, {_found(text, position)}")
    return match.end()


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _found(text: str, position: int) -> str:
    if position >= len(text):
        return "but the line ends"
    word = _WORD.match(text, position)
    return f"found {word.group()[:20] if word else text[position]!r}"
