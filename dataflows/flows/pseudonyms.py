"""Personal data on its way into a store: dropped, hashed with a key, or masked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from threading import get_ident

from dataflows.errors import TidegateError

KEY_BYTES = 32
SHOWN_CHARACTERS = 1


class Pseudonyms:
    """Applies what the contract says about each personal field."""

    def __init__(self, handling: Mapping[str, str], key: bytes):
        self._handling, self._key = handling, key

    def apply(self, path: str, values: Sequence[str | None]) -> Sequence[str | None]:
        """The values as they may be stored; those that are not personal as they are."""
        handling = self._handling.get(path)
        if handling is None:
            return values
        if handling == "drop":
            return [None] * len(values)
        change = self._hash if handling == "hash" else _mask
        return [None if value is None else change(value) for value in values]

    def _hash(self, value: str) -> str:
        """The same value gives the same text under one key, so that it can still be joined."""
        return blake2b(value.encode(), digest_size=16, key=self._key).hexdigest()


def _mask(value: str) -> str:
    return value[:SHOWN_CHARACTERS] + "*" * max(len(value) - SHOWN_CHARACTERS, 0)


def load_key(directory: Path) -> bytes:
    """The key of this data directory, made at first use, readable by its owner alone.

    Raises:
        TidegateError: the file holds no key.
    """
    file = directory / "pii.key"
    if not file.exists():
        draft = directory / f"pii.key.{os.getpid()}.{get_ident()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(os.urandom(KEY_BYTES).hex())
        with suppress(FileExistsError):  # whoever is first makes the key
            os.link(draft, file)
        draft.unlink()
    try:
        key = bytes.fromhex(file.read_text().strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise TidegateError(f"{file}: is no key of {KEY_BYTES} bytes in hex; restore it")
    return key
