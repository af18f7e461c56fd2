"""Identifiers: row numbers turned into text that looks random, the same every time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_HEX = np.frombuffer("".join(f"{i:02x}" for i in range(256)).encode(), dtype=np.uint16)
_DASHES = (8, 13, 18, 23)
_DIGITS = np.array([i for i in range(36) if i not in _DASHES])


def scramble(numbers: NDArray[np.uint64], salt: int) -> NDArray[np.uint64]:
    """SplitMix64's output function (Steele, Lea, Flood 2014): a bijection of 64-bit numbers."""
    with np.errstate(over="ignore"):
        z = (numbers + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uuids(rows: NDArray[np.int64], salt: int) -> list[str]:
    """A version-4 UUID (RFC 9562) for every row number: 122 bits that depend on row and salt."""
    count = len(rows)
    if count == 0:
        return []
    numbers = rows.astype(np.uint64)
    words = np.empty((count, 2), dtype=">u8")
    words[:, 0] = scramble(numbers, salt)
    words[:, 1] = scramble(numbers, salt ^ 0x5DEECE66D)
    octets = words.view(np.uint8)
    octets[:, 6] = (octets[:, 6] & 0x0F) | 0x40
    octets[:, 8] = (octets[:, 8] & 0x3F) | 0x80
    text = np.full((count, 36), ord("-"), dtype=np.uint8)
    text[:, _DIGITS] = _HEX[octets].view(np.uint8)
    joined = text.tobytes().decode("ascii")
    return [joined[at : at + 36] for at in range(0, 36 * count, 36)]


def money(cents: NDArray[np.int64]) -> list[str]:
    """Amounts in cents as decimal strings with two digits."""
    return [f"{value // 100}.{value % 100:02d}" for value in cents.tolist()]
