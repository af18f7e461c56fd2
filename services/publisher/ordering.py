"""Records by event time, whatever their number: sorted runs on disk, then merged.

A record without a usable time stays behind the one it followed; equal times keep their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from heapq import merge
from itertools import islice
from operator import itemgetter
from tempfile import TemporaryFile
from typing import IO

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.publisher.parsed import Parsed
from services.publisher.times import UNTIMED

_RUN_BYTES = 128 * 1024 * 1024
_CHUNK_RECORDS = 1_000
_RECORD_OVERHEAD_BYTES = 150

_Record = tuple[int, int, bytes | None, bytes]
"""(place in the order, event time, key, value)"""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[_Record])


class TimeOrder:
    """Takes records in any order and gives them back by event time.

    Holds about `run_bytes` of records in memory, the rest in temporary files that vanish with it.
    """

    def __init__(self, run_bytes: int = _RUN_BYTES) -> None:
        self._run_bytes = run_bytes
        self._files = ExitStack()
        self._runs: list[IO[bytes]] = []
        self._newest = UNTIMED
        self._forget()

    def add(self, parsed: Parsed) -> None:
        """Raises OSError when the temporary directory is full."""
        times = parsed.times_us
        if len(times) == 0:
            return
        last_timed = np.maximum.accumulate(np.where(times != UNTIMED, np.arange(len(times)), -1))
        places = np.where(last_timed >= 0, times[last_timed], self._newest)
        self._newest = int(places[-1])
        self._places.append(places)
        self._times.append(times)
        self._keys += parsed.keys
        self._values += parsed.values
        self._held_bytes += sum(map(len, parsed.values)) + _RECORD_OVERHEAD_BYTES * len(times)
        if self._held_bytes > self._run_bytes:
            self._spill()

    def batches(self) -> Iterator[Parsed]:
        """Everything, by event time; what was taken is given once."""
        runs: list[Iterable[_Record]] = [_records(run) for run in self._runs]
        # Runs are in order of arrival, and merging lets the earlier run go first.
        records = merge(*runs, self._sorted(), key=itemgetter(0)) if runs else self._sorted()
        while chunk := list(islice(records, _CHUNK_RECORDS)):
            _, times, keys, values = zip(*chunk, strict=True)
            yield Parsed(list(keys), list(values), np.array(times, np.int64))
        self._files.close()
        self._runs = []
        self._forget()

    def _forget(self) -> None:
        self._keys: list[bytes | None] = []
        self._values: list[bytes] = []
        self._times: list[NDArray[np.int64]] = []
        self._places: list[NDArray[np.int64]] = []
        self._held_bytes = 0

    def _sorted(self) -> Iterator[_Record]:
        if not self._places:
            return
        places, times = np.concatenate(self._places), np.concatenate(self._times)
        order = np.argsort(places, kind="stable")
        yield from zip(
            places[order].tolist(),
            times[order].tolist(),
            map(self._keys.__getitem__, order.tolist()),
            map(self._values.__getitem__, order.tolist()),
            strict=True,
        )

    def _spill(self) -> None:
        # Closed together, when everything has been given back.
        run = self._files.enter_context(TemporaryFile(prefix="tidegate-publish-"))  # noqa: SIM115
        self._runs.append(run)
        records = self._sorted()
        while chunk := list(islice(records, _CHUNK_RECORDS)):
            encoded = _ENCODER.encode(chunk)
            run.write(len(encoded).to_bytes(8, "little") + encoded)
        run.seek(0)
        self._forget()


def _records(run: IO[bytes]) -> Iterator[_Record]:
    while size := run.read(8):
        yield from _DECODER.decode(run.read(int.from_bytes(size, "little")))
