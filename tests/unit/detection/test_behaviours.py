"""Behaviours are refused where they could not be told; countries are as far apart as they are."""

from __future__ import annotations

from math import asin, cos, pi, radians, sin, sqrt
from pathlib import Path

import numpy as np
import pytest

from dataflows.detection.behaviours import COLUMNS, Behaviours, Subject, load_behaviours
from dataflows.detection.countries import APART_KM, CODES, UNKNOWN, country_numbers
from dataflows.detection.rules import RuleError
from dataflows.runtime.config import load_config

GOOD = """\
id: scraping
description: d
owner: o
state: live
when: user_products_viewed_10m >= 50
weight: 0.6
reason: "{user_products_viewed_10m} products"
"""


def behaviours(folder: Path, text: str) -> Behaviours:
    (folder / "scraping.yaml").write_text(text, encoding="utf-8")
    return load_behaviours(folder)


@pytest.mark.parametrize(
    ("changed", "to", "said"),
    [
        (
            "when: user_products_viewed_10m >= 50",
            "when: user_failed_logins_10m > 1 AND device_logins_10m > 1",
            "scraping.yaml: when: name columns of a user, of a device or of a session, and of one "
            "alone: they meet in different places",
        ),
        (
            "weight: 0.6",
            "weight: 0.6\nmax_alerts_per_hour: 5",
            "scraping.yaml: max_alerts_per_hour: an incident is told once, however many clicks it "
            "has: remove it",
        ),
        (
            "user_products_viewed_10m >= 50",
            "user_products_viewed_1h >= 50",
            "scraping.yaml:5: when: ",
        ),
    ],
)
def test_a_behaviour_that_cannot_be_told_is_refused_by_name(
    changed: str, to: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(RuleError) as refused:
        behaviours(tmp_path, GOOD.replace(changed, to, 1))
    assert str(refused.value).startswith(f"{tmp_path}/{said}")


def test_lists_of_payments_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "friends.yaml").write_text(
        "id: friends\ndescription: d\nowner: o\nof: user_id\neffect: allow\nentries: [{value: u}]\n"
    )
    with pytest.raises(RuleError, match=r"friends\.yaml"):
        behaviours(tmp_path, GOOD)


def test_only_live_ones_are_told_and_each_belongs_to_its_subject(tmp_path: Path) -> None:
    found = behaviours(tmp_path, GOOD)
    assert ([len(found.of_users), len(found.of_devices)]) == [1, 0]
    found = behaviours(tmp_path, GOOD.replace("live", "retired"))
    assert ([len(found.of_users), len(found.of_devices)]) == [0, 0]
    own = load_behaviours(Path(load_config().behaviours))
    each = own.of_users, own.of_devices, own.of_sessions
    assert sum(map(len, each)) == len(own.rules.rules)
    assert all(each)


def test_every_column_is_explained_on_the_page() -> None:
    page = (Path(load_config().behaviours) / "README.md").read_text(encoding="utf-8")
    for subject in Subject:
        assert [name for name in COLUMNS[subject] if f"`{name}`" not in page] == []


# Published figures: places, and the area of countries in square kilometres.
@pytest.mark.parametrize(
    ("one", "other", "between_km", "areas"),
    [
        ("DE", "AU", 16_100, (357_000, 7_692_000)),  # Frankfurt to the middle of Sydney, Perth, ...
        ("GB", "JP", 9_450, (243_000, 378_000)),
        ("PT", "FI", 3_400, (92_000, 338_000)),
    ],
)
def test_countries_are_as_far_apart_as_their_people(
    one: str, other: str, between_km: float, areas: tuple[float, float]
) -> None:
    numbers = country_numbers([one, other])
    wanted = between_km - sum(sqrt(area / pi) for area in areas)
    assert APART_KM[tuple(numbers)] == pytest.approx(wanted, rel=0.1)


def test_distances_are_symmetric_and_none_between_neighbours() -> None:
    assert np.array_equal(APART_KM, APART_KM.T)
    assert not APART_KM.diagonal().any()
    for one, other in (("US", "CA"), ("DE", "FR"), ("ES", "PT"), ("FR", "MC")):
        assert APART_KM[tuple(country_numbers([one, other]))] < 500, (one, other)


def test_what_is_no_country_is_unknown() -> None:
    assert country_numbers(["XX", None, "de", ""]).tolist() == [UNKNOWN] * 4
    assert country_numbers([CODES[0], CODES[-1]]).tolist() == [0, len(CODES) - 1]


def test_great_circles_are_those_of_plain_python() -> None:
    from dataflows.features.great_circle import great_circle_km

    places = [(52.5, 13.4), (-33.9, 151.2), (90.0, 0.0), (0.0, 179.9), (0.0, -179.9)]
    for lat, lon in places:
        for lat_2, lon_2 in places:
            a, b, c, d = map(radians, (lat, lon, lat_2, lon_2))
            chord = sin((a - c) / 2) ** 2 + cos(a) * cos(c) * sin((b - d) / 2) ** 2
            found = great_circle_km(*(np.array([angle]) for angle in (a, b, c, d)))
            wanted = 2 * 6371.0088 * asin(sqrt(min(chord, 1.0)))
            assert found[0] == pytest.approx(wanted, abs=1e-6)
