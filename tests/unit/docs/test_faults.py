"""Every fault of the list is survived in some test."""

from __future__ import annotations

import re
from pathlib import Path

from faults_table import FAULTS, page

HOUSE = Path(__file__).resolve().parents[3]
MARK = re.compile(r"@pytest\.mark\.survives\(([0-9, ]+)\)")


def test_every_fault_has_a_test() -> None:
    marked = {
        int(number)
        for file in HOUSE.glob("tests/**/test_*.py")
        for numbers in MARK.findall(file.read_text("utf-8"))
        for number in numbers.split(",")
    }
    assert marked == FAULTS.keys()


def test_the_table_tells_what_was_run_and_what_was_not() -> None:
    ran = {
        "survives": [2],
        "result": "passed",
        "on": "2026-11-25",
        "seconds": 61.4,
        "seed": 7,
        "figures": "kills 100",
    }
    lines = page({"tests/faults/test_kills.py::test_each_point": ran}).splitlines()
    assert any(
        line.startswith("| 2. ")
        and line.endswith(
            "| [each point](../../tests/faults/test_kills.py) | passed 2026-11-25 | 61 s | 7 "
            "| kills 100 |"
        )
        for line in lines
    )
    assert any("| 1. " in line and "| not run |" in line for line in lines)
