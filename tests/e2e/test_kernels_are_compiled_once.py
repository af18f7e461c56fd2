"""Kernels are compiled once, by one process, before any other uses them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import COMMAND, CONFIG, EVENTS, Place

from dataflows.runtime.config import HOUSE

pytestmark = pytest.mark.slow

PROCESSES = 4
COMPILING = "compiling kernels, once"
NESTED = b"[" * 70 + b"]" * 70


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def compiled(cache: Path) -> dict[str, int]:
    """Every file of numba's and when it was written."""
    return {str(file): file.stat().st_mtime_ns for file in cache.rglob("*.nb[ci]")}


def test_of_processes_that_start_at_once_one_compiles_and_no_other_ever_does(
    cache: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    place = Place(tmp_path, CONFIG)
    started = [
        subprocess.Popen(
            [*COMMAND, "-d", str(tmp_path / str(number)), "status"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * PROCESSES
    assert sum(COMPILING in text for text in said) == 1, said
    before = compiled(cache)
    assert len({Path(file).parent.parent for file in before}) == 1

    # Whatever the service and the commands need is there by then: they compile nothing.
    try:
        use_every_flow(place, str(cache))
    finally:
        place.clean_up()
    changed = {file for file, written in compiled(cache).items() if before.get(file) != written}
    assert not changed


def use_every_flow(place: Place, cache: str) -> None:
    service = place.up(NUMBA_CACHE_DIR=cache)
    assert place.tidegate(*EVENTS, NUMBA_CACHE_DIR=cache).returncode == 0
    for source, options in (("clickstream", ()), ("labels", ("--whole-file",))):
        done = place.tidegate("publish", source, "-", *options, stdin=NESTED, NUMBA_CACHE_DIR=cache)
        assert done.returncode == 0, done.stderr
    access = place.directory / "access.log"
    access.write_text('h - - [01/May/2026:10:00:05 +0000] "GET / HTTP/1.1" 200 1 "-" "Mozilla"\n')
    done = place.tidegate(
        *("publish", "clickstream", access, "--format", "combined-log"), NUMBA_CACHE_DIR=cache
    )
    assert done.returncode == 0, done.stderr
    series = place.directory / "series.csv"
    series.write_text("timestamp,value\n2026-05-01,1\n")
    scored = ("detect", "score", "--in", series, "--out", place.directory / "scores.csv")
    assert place.tidegate(*scored, NUMBA_CACHE_DIR=cache).returncode == 0
    place.wait_until_drained()
    assert service.stop() == 0
    again = place.up(NUMBA_CACHE_DIR=cache)  # restores the state of every slot
    assert again.stop() == 0


def test_a_process_takes_no_cache_of_other_sources_over(cache: Path, tmp_path: Path) -> None:
    """Started by one of an older version, say: a supervisor that outlives an upgrade."""
    house = tmp_path / "house"
    for part in ("dataflows", "services"):
        shutil.copytree(HOUSE / part, house / part, ignore=shutil.ignore_patterns("__pycache__"))

    def chosen(given: str) -> Path:
        done = subprocess.run(
            [sys.executable, "-c", "import dataflows; print(dataflows.kernel_cache())"],
            cwd=house,
            env={**os.environ, "NUMBA_CACHE_DIR": given},
            capture_output=True,
            text=True,
            check=True,
        )
        return Path(done.stdout.strip())

    first = chosen(str(cache))
    assert first.parent == cache
    constants = house / "dataflows" / "eventtime" / "watermark.py"
    constants.write_text(constants.read_text() + "\n# another version\n")
    second = chosen(str(first))
    assert second.parent == cache
    assert second != first
    constants.write_text(constants.read_text().replace("\n# another version\n", ""))
    assert chosen(str(second)) == first
