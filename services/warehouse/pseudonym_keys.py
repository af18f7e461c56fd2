"""The two keys of RFC 2104 that SQL needs for HMAC-SHA-256; never the key itself."""

from __future__ import annotations

from hashlib import sha256

_BLOCK = 64


def padded_keys(key: bytes) -> tuple[str, str]:
    """The inner and the outer key, in hexadecimal, of a key of any length."""
    block = (key if len(key) <= _BLOCK else sha256(key).digest()).ljust(_BLOCK, b"\0")
    inner = bytes(byte ^ 0x36 for byte in block)
    outer = bytes(byte ^ 0x5C for byte in block)
    return inner.hex(), outer.hex()
