"""State is exported, lost and restored by command, and the service goes on as if nothing was."""

from __future__ import annotations

import json
import shutil

import pytest
from places import EVENTS, Place
from test_stopping_and_starting import forget_what_was_read, outputs

pytestmark = pytest.mark.slow


def test_export_lose_restore_and_go_on(place: Place) -> None:
    service = place.up()
    assert place.tidegate(*EVENTS).returncode == 0
    place.wait_until_drained()
    running = place.tidegate("state", "export", "--all", "backup")
    assert running.returncode == 75
    assert "held by process" in running.stderr
    assert service.stop() == 0

    done = place.tidegate("state", "export", "--all", "backup", "--json")
    assert done.returncode == 0, done.stderr
    exported = {each["slot"]: each for each in json.loads(done.stdout)}
    assert any(slot.startswith("sessionize.") for slot in exported)
    assert not any(each["replays"] for each in exported.values())
    shown = json.loads(place.tidegate("state", "show", "sessionize", "--json").stdout)
    assert {each["slot"] for each in shown} <= set(exported)
    assert {each["kept"] for each in shown} == {"whole"}
    bundles = place.tidegate("state", "show", "--in", "backup").stdout.splitlines()
    assert len(bundles) == len(exported)

    assert outputs(place)["sessions"]
    shutil.rmtree(place.data / "state")
    forget_what_was_read(place)  # without the bundles the state would be gone for good
    refused = place.tidegate("run", "sessionize")
    assert refused.returncode == 78
    assert "its state is gone" in refused.stderr
    done = place.tidegate("state", "restore", "backup", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert {each["slot"] for each in json.loads(done.stdout)} == set(exported)
    service = place.up()
    assert place.tidegate(*EVENTS, "--seed", "2").returncode == 0
    place.wait_until_drained()
    assert not any(status.difference for status in place.statuses())
    assert service.stop() == 0
    assert any(outputs(place).values())


def test_a_place_that_cannot_be_is_said_in_one_line(place: Place) -> None:
    for where, says in (("gs://shop/state", "pip install gcsfs"), ("no://x", "can be reached")):
        done = place.tidegate("state", "restore", where, "--yes")
        assert done.returncode == 78
        (line,) = done.stderr.splitlines()
        assert says in line
