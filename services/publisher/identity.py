"""Ids for records whose file has none: the same file published twice gives the same ids.

An id is BLAKE2b-128 of source and record, in hex; the second and later among equal records of a
file get `-1`, `-2`, ... behind it. Whether a record was there before is asked of a Bloom filter
(Bloom, 1970) of fixed size and, only when it says "maybe", of a table of the repeated ones. A false
"maybe" costs an id that begins at `-1`: still unique, still the same at the next publication.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

_FILTER_BYTES = 1 << 26
_FILTER_BITS_MASK = _FILTER_BYTES * 8 - 1
_SECOND_PROBE_SHIFT = 32


class DerivedIds:
    """Gives ids to the records of one file, in order."""

    def __init__(self, source: str) -> None:
        self._hash = blake2b(source.encode() + b"\0", digest_size=16)
        self._filter = bytearray(_FILTER_BYTES)
        self._repeats: dict[bytes, int] = {}

    def next_ids(self, bodies: Sequence[bytes]) -> list[bytes]:
        """One id for each record, as ASCII."""
        ids = []
        for body in bodies:
            state = self._hash.copy()
            state.update(body)
            digest = state.digest()
            ids.append(digest.hex().encode())
            if self._maybe_seen(digest):
                self._repeats[digest] = repeat = self._repeats.get(digest, 0) + 1
                ids[-1] += b"-%d" % repeat
        return ids

    def _maybe_seen(self, digest: bytes) -> bool:
        """Whether both of the record's bits are set; they are afterwards."""
        number = int.from_bytes(digest[:8], "little")
        first = number & _FILTER_BITS_MASK
        second = number >> _SECOND_PROBE_SHIFT & _FILTER_BITS_MASK
        bits, probes = self._filter, (first, second)
        seen = all(bits[probe >> 3] >> (probe & 7) & 1 for probe in probes)
        for probe in probes:
            bits[probe >> 3] |= 1 << (probe & 7)
        return seen


def with_id(body: bytes, field: str, identity: bytes) -> bytes:
    """The JSON object `body` with the id as its first member."""
    comma = b"" if body == b"{}" else b","
    return b'{"%s":"%s"%s%s' % (field.encode(), identity, comma, body[1:])
