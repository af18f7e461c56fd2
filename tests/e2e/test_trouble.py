"""The worst days: each ends in one line that says what is wrong and what to do, and it helps."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from places import CONFIG, EVENTS, PATIENCE_S, Place, fill, mounted

from dataflows.connectors.lake import lake_files
from services.status.peek import peek_records

pytestmark = pytest.mark.slow

LOOPS_SOON = (
    '\n[service]\nport = 0\nalone = []\nrestart_backoff = "10ms"\ncrash_loop_restarts = 2\n'
)


def refusal(place: Place, *command: str, code: int = 78) -> str:
    """The one line that a command ends with."""
    done = place.tidegate(*command)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("tidegate: ")
    return line


@pytest.fixture
def filled(place: Place) -> Place:
    """A log with events that no flow has seen."""
    assert place.tidegate(*EVENTS).returncode == 0
    return place


def everything_is_there_once(place: Place) -> None:
    """All events went through all flows, and nothing came out twice."""
    assert not any(status.lag_records or status.difference for status in place.statuses())
    shop = place.open()
    sessions = [
        json.loads(r.value or b"") for r in peek_records(shop.log, "sessions", None, 0, 2**40)
    ]
    assert sessions
    shop.log.close()
    revisions = [(session["session_id"], session["revision"]) for session in sessions]
    assert len(set(revisions)) == len(revisions)
    for table in sorted((place.data / "lake").iterdir()):
        rows = [
            row
            for file in lake_files(place.data / "lake", table.name)
            for row in pq.read_table(
                file, partitioning=None, columns=["_topic", "_partition", "_offset"]
            ).to_pylist()
        ]
        assert len({tuple(row.values()) for row in rows}) == len(rows), table.name


# --- the log -------------------------------------------------------------------------------------


def overwritten(log: Path) -> None:
    log.write_bytes(b"\xffgarbage" * 5_000)


def damaged_inside(log: Path) -> None:
    content = bytearray(log.read_bytes())
    content[8192 : 8192 * 3] = b"\xff" * 8192 * 2
    log.write_bytes(content)


def a_directory(log: Path) -> None:
    log.unlink()
    log.mkdir()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (overwritten, "is not a log of Tidegate"),
        (damaged_inside, "is damaged; restore it"),
        (a_directory, "is a folder"),
    ],
)
def test_a_log_that_cannot_be_used_is_named_and_left_as_it_is(
    spoil: Callable[[Path], None], says: str, filled: Place
) -> None:
    log = filled.data / "log.db"
    for side in filled.data.glob("log.db-*"):
        side.unlink()
    spoil(log)
    before = log.read_bytes() if log.is_file() else None
    for command in (("up",), ("status",), ("publish", "labels", "tidegate.toml")):
        line = refusal(filled, *command)
        assert says in line
        assert "log.db" in line
    assert (log.read_bytes() if log.is_file() else None) == before


def test_a_log_that_is_removed_ends_even_a_service_that_rests(place: Place) -> None:
    service = place.up()
    (place.data / "log.db").unlink()
    assert service.process.wait(PATIENCE_S) == 78
    assert "was removed or replaced while in use" in service.stderr.splitlines()[-1]


# --- the disk ------------------------------------------------------------------------------------


@pytest.mark.survives(22)
def test_a_full_disk_stops_the_service_and_with_room_again_it_goes_on(place: Place) -> None:
    place.data.mkdir()
    place.config_file.write_text(
        place.config_file.read_text().partition("[service]")[0] + LOOPS_SOON
    )
    with mounted(place.data, "-t", "tmpfs", "-o", "size=40m", "tmpfs"):
        assert place.tidegate(*EVENTS).returncode == 0
        filler = place.data / "filler"
        fill(filler, leave=2 << 20)
        line = refusal(place, "up", code=70)
        assert "the disk is full; make room" in line
        fill(filler, leave=0)
        assert "room" in refusal(place, "up")
        assert "room" in refusal(place, *EVENTS)
        filler.unlink()
        service = place.up()
        place.wait_until_drained()
        everything_is_there_once(place)
        assert service.stop() == 0
        place.clean_up()


def test_a_data_directory_that_cannot_be_written_is_refused(filled: Place) -> None:
    with mounted(filled.data, "--bind", str(filled.data)):
        remounted = ["mount", "-o", "remount,ro,bind", str(filled.data)]
        subprocess.run(remounted, check=True, capture_output=True)
        for command in (("up",), EVENTS, ("reset", "ingest", "--yes")):
            line = refusal(filled, *command)
            assert str(filled.data) in line or "data" in line
            assert "cannot be written" in line
    service = filled.up()
    assert service.stop() == 0


# --- state and settings --------------------------------------------------------------------------


@pytest.fixture
def ran(filled: Place) -> Place:
    """A service that has drained and stopped."""
    service = filled.up()
    filled.wait_until_drained()
    assert service.stop() == 0
    everything_is_there_once(filled)
    return filled


def test_state_settings_and_rules_that_do_not_fit_are_refused_and_reset_helps(ran: Place) -> None:
    configured = ran.config_file.read_text()
    ran.configure("[partitions]\nclickstream = 3\n")
    assert "clickstream has 2 partition(s)" in refusal(ran, "up")

    ran.config_file.write_text(configured + '[event_time]\ngap = "20m"\n')
    line = refusal(ran, "up")
    assert "worker light refused to start: slot" in line
    assert "event_time.gap = 30m, this is 20m" in line
    assert "tidegate reset" in line

    store = ran.data / "state" / "sessionize.events.clickstream.1" / "bytewax"
    for file in store.iterdir():
        file.write_bytes(b"garbage" * 1_000)
    ran.config_file.write_text(configured)
    line = refusal(ran, "up")
    assert "sessionize.events.clickstream.1 is damaged" in line
    assert "tidegate reset sessionize" in line

    ran.config_file.write_text(configured + '[event_time]\ngap = "20m"\n')
    done = ran.tidegate("reset", "--all", "--yes")
    assert done.returncode == 0, done.stderr
    service = ran.up()
    ran.wait_until_drained()
    everything_is_there_once(ran)
    assert service.stop() == 0


def test_a_worker_that_keeps_dying_ends_the_service_naming_worker_and_log(place: Place) -> None:
    place.config_file.write_text(
        place.config_file.read_text().partition("[service]")[0] + LOOPS_SOON
    )
    assert place.tidegate("topics").returncode == 0
    (place.data / "run" / "light.json.new").mkdir(parents=True)  # where the worker writes a file
    line = refusal(place, "up", code=70)
    assert "worker light crashed 3 times in 60 s, last with exit code 70" in line
    assert str(Path("data") / "logs" / "light.log") in line


def test_a_port_that_is_taken_is_named(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        place.config_file.write_text(CONFIG.replace("port = 0", f"port = {port}"))
        line = refusal(place, "up")
    assert f"port 127.0.0.1:{port}" in line
    assert "[service] port" in line


def test_a_rule_that_cannot_be_used_is_refused_at_once(place: Place) -> None:
    (place.directory / "rules").mkdir()
    (place.directory / "rules" / "odd.yaml").write_text("id: odd\nwhen: amount >\n")
    place.config_file.write_text('rules = "rules"\n' + place.config_file.read_text())
    line = refusal(place, "up")
    assert "worker light refused to start: rules/odd.yaml" in line
