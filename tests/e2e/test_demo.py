"""`tidegate demo`, small: real processes, a summary, a report, and exit 0 because it adds up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from places import SMALL_DEMO, Demonstrated, demo


def test_a_demo_adds_up_leaves_a_report_and_replaces_an_earlier_one(
    demonstrated: Demonstrated,
) -> None:
    directory, said = demonstrated
    assert "It adds up" in said
    assert "Try next:" in said
    page = (directory / "demo" / "report.html").read_text("utf-8")
    assert "seed 7" in page
    assert "How right the rules were" in page
    assert (directory / "demo" / "ground_truth.json").is_file()
    assert not (directory / "demo" / "lake" / "stale").exists()


@pytest.mark.slow
def test_a_demo_runs_again_where_one_has_run(demonstrated: Demonstrated, tmp_path: Path) -> None:
    shutil.copytree(demonstrated.directory / "demo", tmp_path / "demo")
    done = demo(tmp_path, *SMALL_DEMO, "--seed", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "It adds up" in done.stdout
    assert "Try next:" in done.stdout
    page = (tmp_path / "demo" / "report.html").read_text("utf-8")
    assert "seed 4" in page
    assert "How right the rules were" in page


def test_a_directory_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "demo" / "precious.txt"
    precious.parent.mkdir()
    precious.touch()
    done = demo(tmp_path, *SMALL_DEMO)
    assert done.returncode == 78
    assert "holds something that no demo made" in done.stderr
    assert "Traceback" not in done.stderr
    assert precious.exists()
