"""Durations as people write them: `10ms`, `30s`, `1h30m`, `7d`."""

from __future__ import annotations

import re

MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")


class Duration(int):
    """A length of time in microseconds, written with units.

    Raises:
        ValueError: the text is no duration; the message shows what one looks like.
    """

    @classmethod
    def parse(cls, text: str) -> Duration:
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"{text!r} is no duration: write 10ms, 30s, 1h30m or 7d")
        return cls(round(sum(float(number) * MICROSECONDS[unit] for number, unit in parts)))

    @property
    def seconds(self) -> float:
        return self / 1_000_000

    def __str__(self) -> str:
        """The shortest text that parses back to this duration."""
        rest, text = int(self), ""
        for unit in reversed(MICROSECONDS):
            count, rest = divmod(rest, MICROSECONDS[unit])
            text += f"{count}{unit}" if count else ""
        return text or "0s"
