"""Ids for records whose file has none: the same file published twice gives the same ids.

An id is BLAKE2b-128 of source and record, in hex; the second and later among equal records of a
file get `-1`, `-2`, ... behind it. Whether a record was there before is asked of a Bloom filter
(Bloom, 1970) of fixed size and, only when it says "maybe", of a table of the repeated ones. A false
"maybe" costs an id that begins at `-1`: still unique, still the same at the next publication.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numba import njit

_DIGEST_BYTES = 16
_FILTER_BITS = np.uint64(1 << 29)


class DerivedIds:
    """Gives ids to the records of one file, in order. Holds a filter of 64 MB."""

    def __init__(self, source: str) -> None:
        self._personal = blake2b(source.encode(), digest_size=_DIGEST_BYTES).digest()
        self._filter = np.zeros(int(_FILTER_BITS) // 8, np.uint8)
        self._repeats: dict[str, int] = {}

    def next_ids(self, bodies: Sequence[bytes]) -> list[str]:
        """One id for each record."""
        personal, size = self._personal, _DIGEST_BYTES
        digests = b"".join(
            [blake2b(body, digest_size=size, person=personal).digest() for body in bodies]
        )
        text = digests.hex()
        ids = [text[start : start + 2 * size] for start in range(0, len(text), 2 * size)]
        probes = np.frombuffer(digests, "<u8").reshape(-1, 2)
        for row in np.flatnonzero(_maybe_seen(self._filter, probes)).tolist():
            identity = ids[row]
            self._repeats[identity] = repeat = self._repeats.get(identity, 0) + 1
            ids[row] = f"{identity}-{repeat}"
        return ids


@njit(cache=True, nogil=True)
def _maybe_seen(bits, probes):  # type: ignore[no-untyped-def]
    """For each row of two hashes whether both their bits were set before; they are afterwards."""
    seen = np.zeros(len(probes), np.bool_)
    for row in range(len(probes)):
        present = True
        for column in range(2):
            probe = probes[row, column] % _FILTER_BITS
            byte, bit = probe >> np.uint64(3), np.uint8(1) << np.uint8(probe & np.uint64(7))
            present &= (bits[byte] & bit) != 0
            bits[byte] |= bit
        seen[row] = present
    return seen


def with_ids(bodies: Sequence[bytes], field: str, ids: Sequence[str]) -> list[bytes]:
    """JSON objects with their ids as the first member."""
    prefix = f'{{"{field}":"'
    return [
        (prefix + identity).encode() + (b'",' + body[1:] if len(body) > 2 else b'"}')
        for identity, body in zip(ids, bodies, strict=True)
    ]
