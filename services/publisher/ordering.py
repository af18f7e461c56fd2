"""Records by event time, whatever their number: sorted runs on disk, then merged.

Records without a usable time stay behind the one they followed; equal times keep their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from heapq import merge
from operator import itemgetter
from tempfile import TemporaryFile
from typing import IO

import msgspec
import numpy as np

from services.publisher.parsed import Parsed
from services.publisher.times import UNTIMED

_RUN_BYTES = 128 * 1024 * 1024
_CHUNK_RECORDS = 1_000
_RECORD_OVERHEAD_BYTES = 200

_Record = tuple[int, int, int, bytes | None, bytes]
"""(place in order, number, event time, key, value); the number makes it unique."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[_Record])


class TimeOrder:
    """Takes records in any order and gives them back by event time.

    Holds `run_bytes` of records in memory, the rest in temporary files that vanish with it.
    """

    def __init__(self, run_bytes: int = _RUN_BYTES) -> None:
        self._run_bytes = run_bytes
        self._held: list[_Record] = []
        self._held_bytes = 0
        self._files = ExitStack()
        self._runs: list[IO[bytes]] = []
        self._count = 0
        self._newest = UNTIMED

    def add(self, parsed: Parsed) -> None:
        """Raises OSError when the temporary directory is full."""
        times = parsed.times_us
        timed = times != UNTIMED
        last_timed = np.maximum.accumulate(np.where(timed, np.arange(len(times)), -1))
        places = np.where(last_timed >= 0, times[last_timed], self._newest)
        if len(places):
            self._newest = int(places[-1])
        numbers = range(self._count, self._count + len(times))
        self._count += len(times)
        self._held += zip(
            places.tolist(), numbers, times.tolist(), parsed.keys, parsed.values, strict=True
        )
        self._held_bytes += sum(map(len, parsed.values)) + _RECORD_OVERHEAD_BYTES * len(times)
        if self._held_bytes > self._run_bytes:
            self._spill()

    def batches(self) -> Iterator[Parsed]:
        """Everything, by event time; what was taken is given once."""
        self._held.sort(key=itemgetter(0, 1))
        runs = [*(_chunks_of(run) for run in self._runs), iter(self._held)]
        ordered = runs[0] if len(runs) == 1 else merge(*runs, key=itemgetter(0, 1))
        chunk: list[_Record] = []
        for record in ordered:
            chunk.append(record)
            if len(chunk) == _CHUNK_RECORDS:
                yield _parsed(chunk)
                chunk = []
        if chunk:
            yield _parsed(chunk)
        self._files.close()
        self._runs, self._held, self._held_bytes = [], [], 0

    def _spill(self) -> None:
        self._held.sort(key=itemgetter(0, 1))
        # Closed together, when everything has been given back.
        run = self._files.enter_context(TemporaryFile(prefix="tidegate-publish-"))  # noqa: SIM115
        self._runs.append(run)
        for start in range(0, len(self._held), _CHUNK_RECORDS):
            chunk = _ENCODER.encode(self._held[start : start + _CHUNK_RECORDS])
            run.write(len(chunk).to_bytes(8, "little") + chunk)
        run.seek(0)
        self._held, self._held_bytes = [], 0


def _chunks_of(run: IO[bytes]) -> Iterator[_Record]:
    while size := run.read(8):
        yield from _DECODER.decode(run.read(int.from_bytes(size, "little")))


def _parsed(chunk: list[_Record]) -> Parsed:
    times = np.fromiter((record[2] for record in chunk), np.int64, len(chunk))
    return Parsed([record[3] for record in chunk], [record[4] for record in chunk], times)
