"""Settings that make no shop are refused in one line that says what to give instead."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest

from services.simulator.settings import FaultRates, SettingsError, SimulationSettings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"days": 0}, "days is 0: give at least 1"),
        ({"products": 3}, "products is 3: give at least 12"),
        ({"customers": 1}, "customers is 1: give at least 20"),
        ({"seed": -1}, "seed is -1: give at least 0"),
        ({"target_events": 100}, "target_events is 100: give at least 9200"),
        ({"fraud_share": 0.5}, "fraud_share is 0.5: give a share in 0..0.1"),
        ({"mix": {"clicks": 0.5}}, "mix names clicks: known are clickstream, transactions"),
        ({"mix": {"clickstream": 0.9, "labels": 0.2}}, "that add up to at most 1"),
        ({"partitions": {"labels": 0}}, "give counts of at least 1"),
        ({"published_us": 1}, "the last day ends after the moment of publication"),
    ],
)
def test_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)) as caught:
        SimulationSettings(start=date(2026, 3, 2), **wrong)
    assert "\n" not in str(caught.value)


def test_a_fault_rate_is_a_share() -> None:
    with pytest.raises(SettingsError, match=re.escape("fault rate late is 2: give a share")):
        FaultRates(late=2)
