"""The price file: which price is valid, and what is refused, with its place."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.runtime.config import HOUSE, Config
from services.cost.errors import CostError
from services.cost.prices import PriceList, parse_prices, read_prices
from services.cost.pricing import Part

SHIPPED = HOUSE / "config" / "prices.yaml"
TEXT = SHIPPED.read_text("utf-8")
REGION = Config().cost.region
DAY = date(2026, 5, 1)
DATES = st.dates(date(2025, 1, 1), date(2027, 12, 31))


def priced(text: str, region: str = REGION) -> PriceList:
    return parse_prices(text, "prices.yaml", region)


def entry(part: Part, valid_from: object, price: object, region: str = "moon1") -> str:
    return (
        f"  - {{part: {part}, region: {region}, valid_from: {valid_from}, unit: {part.unit}, "
        f"price: {price}, source: 'https://example.org/{price}'}}\n"
    )


def test_the_one_that_comes_along_prices_every_part_of_the_default_region() -> None:
    assert Config().prices_path == SHIPPED
    found = read_prices(SHIPPED, REGION)
    found.require([date(2025, 1, 1), DAY, date(2030, 1, 1)])
    assert found.currency == "USD"
    assert {found.on(part, DAY).source.split("/")[2] for part in Part} == {"cloud.google.com"}


@given(st.lists(DATES, min_size=1, unique=True), DATES)
def test_the_newest_that_is_valid_on_the_day_is_used(starts: list[date], day: date) -> None:
    text = "currency: EUR\nprices:\n" + "".join(
        entry(Part.QUERIES, start, number) for number, start in enumerate(starts)
    )
    found = priced(text, "moon1")
    valid = day
    while valid >= min(starts) and valid not in starts:
        valid -= timedelta(1)
    if valid < min(starts):
        with pytest.raises(CostError, match=f"the first price .* from {min(starts)}, and {day} is"):
            found.on(Part.QUERIES, day)
    else:
        assert found.on(Part.QUERIES, day).price == starts.index(valid)


def test_a_price_is_the_decimal_that_is_written() -> None:
    text = "currency: EUR\nprices:\n" + entry(
        Part.QUERIES, "2026-01-01", "0.1000000000000000055511"
    )
    assert priced(text, "moon1").on(Part.QUERIES, DAY).price == Decimal("0.1000000000000000055511")


def test_a_part_without_a_price_is_named_with_what_to_add() -> None:
    found = priced("currency: EUR\nprices:\n" + entry(Part.QUERIES, "2026-01-01", 1), "moon1")
    with pytest.raises(CostError, match=r"^prices.yaml: prices: has no price of pubsub in moon1;"):
        found.require([DAY])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("price: 40", "prize: 40", ":11: prices[0].prize: there is no such field: there are part"),
        ("price: 40", "price: -40", ":11: prices[0].price: -40 must be a number, 0 or more"),
        ("price: 40", "price: NaN", ":11: prices[0].price: NaN must be a number"),
        ("price: 40", "price: 4O", ":11: prices[0].price: is no number such as 6.25"),
        ("price: 40", "", ":7: prices[0]: object missing required field `price`"),
        ("price: 40", "price: 40\n    price: 41", ":12: prices[0].price: given twice, keep one"),
        ("free_a_month: 10\n", "free_a_month: -1\n", ".free_a_month: -1 must be"),
        ("currency: USD", "currency: UDS", ":4: currency: 'UDS' is no currency: write its ISO"),
        ("currency: USD", "coin: USD", ":4: coin: there is no such field: there are currency, "),
        ("2019-06-20", "2019-13-20", ":9: prices[0].valid_from: is no date such as 2026-05-01"),
        ("2019-06-20", "2027-01-01", ":9: prices[0].valid_from: the first price of pubsub in "),
        ("part: pubsub", "part: kafka", ":7: prices[0].part: 'kafka' is none of pubsub, stor"),
        ("unit: TiB", "unit: GiB", ":10: prices[0].unit: a price of pubsub is for a TiB"),
        ("https://cloud.google.com/pubsub", "the web: ", ":13: not YAML: "),
        ("https://cloud.google.com/pubsub", "the web/", ":13: prices[0].source: is no address"),
        ("part: storage_long_term", "part: queries\n    x: y", "prices[2].x: there is no such"),
        (TEXT, "[]", ": is not made of `field: value` lines"),
        (TEXT, "currency: USD\nprices: []", ":2: prices: is empty: add a price of each part"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(old: str, new: str, says: str) -> None:
    assert old in TEXT
    with pytest.raises(CostError) as refused:
        priced(TEXT.replace(old, new, 1)).require([DAY])
    message = str(refused.value)
    assert message.startswith("prices.yaml:")
    assert says in message
    assert "\n" not in message


def test_one_price_from_a_day_on_is_enough() -> None:
    again = entry(Part.PUBSUB, "2019-06-20", 3, REGION)
    with pytest.raises(CostError, match=r"pubsub in us-central1 has a price from 2019-06-20 on"):
        priced(TEXT + again)


def test_a_region_without_prices_is_refused_with_those_there_are() -> None:
    with pytest.raises(CostError, match=r"no prices of region 'mars', it has us-central1; set"):
        priced(TEXT, "mars")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CostError, match=r"nowhere\.yaml: there is no such price file"):
        read_prices(tmp_path / "nowhere.yaml", REGION)
    with pytest.raises(CostError, match="cannot be read as text"):
        read_prices(tmp_path, REGION)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(CostError, match="cannot be read as text"):
        read_prices(tmp_path / "bytes.yaml", REGION)
