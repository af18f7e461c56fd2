"""Why a record is no event: the reasons, and messages that a person can act on."""

import json
import re

import msgspec

EMPTY = "empty"
TOO_LARGE = "too_large"
NOT_UTF8 = "not_utf8"
TOO_DEEP = "too_deep"
NOT_JSON = "not_json"
INVALID = "invalid"
BAD_TIMESTAMP = "bad_timestamp"
AMOUNT_MISMATCH = "amount_mismatch"

REASONS = (
    EMPTY,
    TOO_LARGE,
    NOT_UTF8,
    TOO_DEEP,
    NOT_JSON,
    INVALID,
    BAD_TIMESTAMP,
    AMOUNT_MISMATCH,
)

_LONGEST_MESSAGE = 300
_INDEX = re.compile(r"\[(\d+|\.\.\.)\]")


class RefusedError(Exception):
    """A record that is no event, with one of REASONS and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = _on_one_line(message)


def not_json(text: bytes, error: msgspec.DecodeError) -> RefusedError:
    """The refusal of bytes that are not JSON; the message says at which byte."""
    message = str(error)
    if "(byte " in message:
        return RefusedError(NOT_JSON, message)
    if _holds_half_a_surrogate_pair(text):
        return RefusedError(NOT_JSON, "half of a surrogate pair, e.g. \\ud800, is not a character")
    return RefusedError(NOT_JSON, f"the JSON ends before it is complete (byte {len(text)})")


def not_utf8(error: UnicodeDecodeError) -> RefusedError:
    """The refusal of bytes that are not UTF-8."""
    return RefusedError(NOT_UTF8, f"not UTF-8: {error.reason} (byte {error.start})")


def invalid(error: msgspec.ValidationError, timestamps: frozenset[str]) -> RefusedError:
    """The refusal of JSON that breaks its contract; `timestamps` are dotted paths."""
    problem, _, place = str(error).rpartition(" - at `")
    path = place.removesuffix("`") if problem else "$"
    problem = problem or str(error)
    field = _INDEX.sub("", path).removeprefix("$.")
    reason = BAD_TIMESTAMP if field in timestamps else INVALID
    return RefusedError(reason, f"`{path}`: {problem[0].lower()}{problem[1:]}")


def _holds_half_a_surrogate_pair(text: bytes) -> bool:
    """The standard library lets such escapes pass, and nothing else that is refused here."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _on_one_line(message: str) -> str:
    shown = "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in message[:_LONGEST_MESSAGE]
    )
    return shown if len(message) <= _LONGEST_MESSAGE else shown + "..."
