"""A lake is archived while the service runs, lost, restored, and written on: each record once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from places import EVENTS, Place

pytestmark = pytest.mark.slow

TABLES = ("clickstream", "sessions", "transactions")


def records(lake: Path) -> dict[str, Any]:
    """Of each table the rows, and the records of the log that they come from."""
    found = {}
    with duckdb.connect() as database:
        for table in TABLES:
            files = f"{lake / table}/*/*.parquet"
            found[table] = database.execute(
                "SELECT count(*), count(DISTINCT (_topic, _partition, _offset)), "
                "sum(hash(_topic, _partition, _offset)) FROM read_parquet(?)",
                [files],
            ).fetchone()
    return found


def test_a_lost_lake_comes_back(place: Place) -> None:
    lake = place.data / "lake"
    service = place.up()
    assert place.tidegate(*EVENTS).returncode == 0
    place.wait_until_drained()
    done = place.tidegate("archive", "export", "backup")
    assert done.returncode == 0, done.stderr
    assert place.tidegate(*EVENTS, "--seed", "2").returncode == 0
    place.wait_until_drained()
    assert service.stop() == 0
    before = records(lake)

    shutil.rmtree(lake)
    done = place.tidegate("archive", "restore", "backup")
    assert (done.returncode, "cannot go on" in done.stdout) == (0, False), done
    assert records(lake) != before
    done = place.tidegate("reset", "load", "--yes")  # its state is ahead of the archive
    assert done.returncode == 0, done.stderr
    service = place.up()
    place.wait_until_drained()
    assert service.stop() == 0
    assert records(lake) == before
    done = place.tidegate("archive", "export", "backup")
    assert done.returncode == 0, done.stderr

    shutil.rmtree(lake)
    assert place.tidegate("archive", "restore", "backup").returncode == 0
    assert records(lake) == before
    service = place.up()  # nothing has come since: no reset is needed
    assert place.tidegate(*EVENTS, "--seed", "3").returncode == 0
    place.wait_until_drained()
    assert service.stop() == 0
    after = records(lake)
    assert after["clickstream"][0] > before["clickstream"][0]
    for rows, of_log, _ in after.values():
        assert rows == of_log
    assert not any(status.difference for status in place.statuses())
