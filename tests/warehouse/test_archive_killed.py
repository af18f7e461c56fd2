"""kill -9 in the middle of an export or a restore: nothing half-done is seen, the next finishes."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from archived_shop import ArchivedShop, rows
from places import COMMAND, LOUD, Running, wait_until

from dataflows.connectors.lake import lake_gaps, lake_progress
from services.archive.store import Archive, Choice
from services.archive.verify import verify

pytestmark = pytest.mark.slow

KILLS = 3


def kill_soon(directory: Path, target: Path, *arguments: str) -> bool:
    """Kills an archive command soon after it has begun to write; False if it was faster."""
    command = [*COMMAND, "-d", "shop", "archive", *arguments]
    running = Running(command, directory, directory / "stderr", {**os.environ, **LOUD})
    wait_until(
        lambda: any(target.rglob("*.parquet")) or running.process.poll() is not None,
        "the first file",
        every_s=0.002,
    )
    time.sleep(random.random() * 0.15)
    ended = running.process.poll()
    running.kill()
    assert ended in (None, 0), running.stderr
    return ended is None


def test_an_export(archived: ArchivedShop) -> None:
    killed = 0
    for number in range(KILLS):
        target = archived.directory / f"backup{number}"
        killed += kill_soon(archived.directory, target, "export", target.name)
        archive = Archive(str(target))
        if any(kept.versions for kept in archive.days().values()):
            assert verify(archive, Choice(), lambda _: None).problems == []
        archived("export", target.name)
        back = f"back{number}"
        archived("restore", target.name, "--into", back)
        for table in archived.lake.iterdir():
            assert rows(archived.directory / back, table.name) == rows(archived.lake, table.name)
    assert killed


def test_a_restore(archived: ArchivedShop) -> None:
    lake, killed = archived.lake, 0
    archived("export", "backup")
    for number in range(KILLS):
        back = archived.directory / f"back{number}"
        killed += kill_soon(archived.directory, back, "restore", "backup", "--into", back.name)
        for folder in back.glob("[!_]*/event_date=*"):
            original = lake / folder.relative_to(back)
            names = sorted(file.name for file in original.iterdir())
            assert sorted(file.name for file in folder.iterdir()) == names
            for name in names:
                assert (folder / name).read_bytes() == (original / name).read_bytes()
        archived("restore", "backup", "--into", back.name)
        for table in lake.iterdir():
            assert rows(back, table.name) == rows(lake, table.name)
            assert lake_progress(back, table.name) == lake_progress(lake, table.name)
            assert lake_gaps(back, table.name) == []
        assert not (back / "_restoring").exists()
    assert killed
