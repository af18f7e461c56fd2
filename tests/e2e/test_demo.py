"""`tidegate demo`, small: real processes, a summary, a report, and exit 0 because it adds up."""

from __future__ import annotations

from pathlib import Path

from places import demo


def test_a_demo_adds_up_and_leaves_a_report_and_runs_again(tmp_path: Path) -> None:
    for seed in ("3", "4"):
        done = demo(tmp_path, "--days", "3", "--events", "12000", "--seed", seed)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "It adds up" in done.stdout
        assert "Try next:" in done.stdout
        page = (tmp_path / "demo" / "report.html").read_text("utf-8")
        assert f"seed {seed}" in page
        assert "How right the rules were" in page
    assert (tmp_path / "demo" / "ground_truth.json").is_file()


def test_a_directory_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "demo" / "precious.txt"
    precious.parent.mkdir()
    precious.touch()
    done = demo(tmp_path, "--days", "3", "--events", "12000")
    assert done.returncode == 78
    assert "holds something that no demo made" in done.stderr
    assert "Traceback" not in done.stderr
    assert precious.exists()
