"""The journal of a large state: frames of changed rows in files beside the snapshot, which only
says how far they count.

A frame is its length and CRC-32, then its bytes. It is on disk before `append` returns the
reference that covers it, and whatever lies beyond the reference in a durable snapshot is cut off
at the next start. When the frames of a file add up to the whole state, the next frame begins a new
file, and the file before goes: one snapshot later, for only then is a reference without it durable.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from dataflows.durable import sync
from dataflows.errors import TidegateError
from dataflows.eventtime.changed_rows import Changes

Reference = tuple[tuple[int, int], ...]
"""(generation, length in bytes) of the files that hold the state, in order."""

_HEADER = struct.Struct("<QI")  # length, CRC-32


class JournalDamaged(TidegateError):
    """What a snapshot refers to is not there as it was written."""


class Journal:
    """The files of one state. Only the process that holds the slot's lease may open it."""

    def __init__(self, directory: Path, reference: Reference = ()):
        """Goes on from a reference; `frames` is to be read before the first `append`."""
        self._directory = directory
        self._complete = list(reference[:-1])  # files that nothing is added to
        self._generation, self._length = reference[-1] if reference else (0, 0)
        self._file: BinaryIO | None = None
        self._obsolete: list[int] = []  # not in the last reference; that one may not be durable
        if reference:
            self._cut_off()
        self._remove_all_but({generation for generation, _ in reference})

    @staticmethod
    def file(directory: Path, generation: int) -> Path:
        return directory / f"{generation:012d}.frames"

    def frames(self) -> Iterator[bytes]:
        """The frames that the reference covers, oldest first.

        Raises:
            JournalDamaged: a file is missing, short, or not what was written.
        """
        covered = [*self._complete]
        if self._length:
            covered.append((self._generation, self._length))
        for generation, length in covered:
            yield from read_frames(self.file(self._directory, generation), length)

    def append(self, changes: Changes) -> Reference:
        """Writes a frame through to the disk; the reference that covers it."""
        self.drop_obsolete()
        if self._file is None:
            self._file = self._open()
        crc = 0
        for part in changes.parts:
            crc = zlib.crc32(part, crc)
        size = sum(memoryview(part).nbytes for part in changes.parts)
        self._file.write(_HEADER.pack(size, crc))
        for part in changes.parts:
            self._file.write(part)
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self._length += _HEADER.size + size
        if changes.complete:
            self._obsolete = [generation for generation, _ in self._complete]
            self._complete = []
        reference = (*self._complete, (self._generation, self._length))
        if changes.complete:
            self._begin_another()
        return reference

    def retire(self) -> None:
        """The next snapshot holds the whole state itself: the files go one snapshot later."""
        if self._length or self._complete:
            self._begin_another()
            self._obsolete += [generation for generation, _ in self._complete]
            self._complete = []

    def drop_obsolete(self) -> None:
        """Removes what the snapshot before the one now taken no longer refers to."""
        for generation in self._obsolete:
            self.file(self._directory, generation).unlink(missing_ok=True)
        self._obsolete = []

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin_another(self) -> None:
        self.close()
        self._complete.append((self._generation, self._length))
        self._generation, self._length = self._generation + 1, 0

    def _open(self) -> BinaryIO:
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self.file(self._directory, self._generation)
        opened = open(file, "r+b" if self._length else "wb")  # noqa: SIM115
        opened.seek(self._length)
        if not self._length:
            sync(self._directory)
            sync(self._directory.parent)
        return opened

    def _cut_off(self) -> None:
        """Removes what was written after the reference: no durable snapshot covers it."""
        with suppress(FileNotFoundError):  # reading the frames will say so
            file = self.file(self._directory, self._generation)
            if file.stat().st_size > self._length:
                os.truncate(file, self._length)

    def _remove_all_but(self, generations: set[int]) -> None:
        keep = {self.file(self._directory, generation) for generation in generations}
        for file in set(self._directory.glob("*.frames")) - keep:
            file.unlink()


def read_frames(file: Path, length: int) -> Iterator[bytes]:
    """The frames of a journal's file up to a length, each checked.

    Raises:
        JournalDamaged: the file is missing, short, or not what was written.
    """
    try:
        with open(file, "rb") as opened:
            at = 0
            while at < length:
                header = opened.read(_HEADER.size)
                if len(header) < _HEADER.size:
                    raise JournalDamaged(f"{file} ends at byte {at} of {length}")
                size, crc = _HEADER.unpack(header)
                if size > length - at - _HEADER.size:
                    raise JournalDamaged(f"{file} is not what was written at byte {at}")
                frame = opened.read(size)
                if len(frame) < size:
                    raise JournalDamaged(f"{file} ends at byte {at + len(frame)} of {length}")
                if zlib.crc32(frame) != crc:
                    raise JournalDamaged(f"{file} is not what was written at byte {at}")
                yield frame
                at += _HEADER.size + size
    except FileNotFoundError:
        raise JournalDamaged(f"{file} is missing") from None


def journal_files(directory: Path, reference: Sequence[tuple[int, int]]) -> list[tuple[Path, int]]:
    """The files that a reference names, with the length that counts of each."""
    return [(Journal.file(directory, generation), length) for generation, length in reference]
