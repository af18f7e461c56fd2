"""`tidegate warehouse schedule`: build after build, whatever one of them comes upon."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from built_warehouse import Built


@pytest.fixture
def scheduled(built: Built, tmp_path: Path) -> Iterator[tuple[Path, Callable[[], str]]]:
    """A shop with a warehouse that is built every half second; gives the next line about it."""
    shop = Path(shutil.copytree(built.directory, tmp_path / "shop"))
    command = (sys.executable, "-P", "-m", "services.cli", "-d", "shop", "warehouse", "schedule")
    process = subprocess.Popen(
        [*command, "--every", "500ms"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = iter(process.stderr)
    yield shop, lambda: next(said).partition(" ")[2].rstrip("\n")
    process.send_signal(signal.SIGTERM)
    process.stderr.read()
    assert process.wait(60) == 0


def test_a_build_that_fails_is_said_and_the_next_one_goes_on(
    scheduled: tuple[Path, Callable[[], str]],
) -> None:
    shop, line = scheduled
    unchanged = "shop/warehouse/warehouse.duckdb is as it was: nothing has changed in shop/lake."
    assert line() == unchanged
    lake = shop / "lake"
    lake.rename(shop / "elsewhere")
    while (said := line()) == unchanged:
        pass
    assert said.startswith("shop/lake: no lake there;")
    (shop / "elsewhere").rename(lake)
    while line() != unchanged:
        pass


def test_no_duration(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "services.cli", "warehouse", "schedule", "--every", "soon"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "'soon' is no duration: write 10ms, 30s, 1h30m or 7d" in " ".join(done.stderr.split())
