"""The lake, held still: hard links to the files that it had at one instant."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from dataflows.connectors.lake import LakeError, lake_files

_ATTEMPTS = 20


def hold_lake(lake: Path, tables: Iterable[str], into: Path) -> None:
    """Links each table's files below `into`, where no compaction takes them away.

    Where links cannot be made (another disk) the files are copied.

    Raises:
        LakeError: the lake cannot be read, or changes all the time.
    """
    for table in tables:
        if (lake / table).is_dir():
            _hold_table(lake, table, into / table)


def _hold_table(lake: Path, table: str, into: Path) -> None:
    for _ in range(_ATTEMPTS):
        try:
            for file in lake_files(lake, table):
                target = into / file.parent.name / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(file, target)
            return
        except FileNotFoundError:  # compacted after it was listed: ask again
            shutil.rmtree(into, ignore_errors=True)
    raise LakeError(f"{lake / table} changes all the time; build when less is written")


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(file, target)
