"""A source of rows for lake tests, and a process that loads it until it is killed.

Input offset n gives one row {n, text} at a date that is a function of n, so that what a lake must
hold follows from its next offset alone.

    lake_source.py ROOT TABLE SLOT STOP     loads offsets 0..STOP-1 in uneven batches, compacting
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataflows.connectors.lake import LakeWriter

FIRST_DAY = np.datetime64("2026-11-20")


def rows(start: int, stop: int) -> pa.Table:
    numbers = np.arange(start, stop)
    return pa.table({"n": numbers, "text": [f"row {n}" for n in numbers]})


def dates(start: int, stop: int) -> NDArray[np.datetime64]:
    numbers = np.arange(start, stop)
    return FIRST_DAY + (numbers * 7 // 11 % 4).astype("timedelta64[D]")


def write(writer: LakeWriter, count: int) -> None:
    """The next `count` rows."""
    start = writer.next_offset or 0
    stop = start + count
    writer.write(rows(start, stop), dates(start, stop), start, stop)


def load(root: str, table: str, slot: str, stop: str) -> None:
    writer = LakeWriter(Path(root), table, slot, small_records=200)
    print("ready", flush=True)
    sizes = random.Random()
    while (writer.next_offset or 0) < int(stop):
        write(writer, sizes.randint(1, 40))
        if sizes.random() < 0.3:
            writer.compact(min_files=3)


if __name__ == "__main__":
    load(*sys.argv[1:])
