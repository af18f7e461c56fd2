from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.durations import Duration


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("10ms", 10_000), ("30s", 30_000_000), ("1h30m", 5_400_000_000), ("0.5s", 500_000), ("0s", 0)],
)
def test_durations_are_read_as_people_write_them(text: str, microseconds: int) -> None:
    assert Duration.parse(text) == microseconds


@pytest.mark.parametrize("text", ["", "5", "s", "1 s", "-1s", "1y", "1h30"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        Duration.parse(text)


@given(st.integers(0, 10**15))
def test_the_text_of_a_duration_parses_back(microseconds: int) -> None:
    assert Duration.parse(str(Duration(microseconds))) == microseconds
