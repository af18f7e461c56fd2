"""Money against the pattern of the schemas and against decimal."""

import re
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.contracts.money import parse_money
from dataflows.contracts.shapes import MONEY_PATTERN

AMOUNTS = st.from_regex(r"[0-9]{1,12}[.][0-9]{2}", fullmatch=True)
TEXTS = AMOUNTS | st.text("0123456789.-+ \n", max_size=17) | st.text(max_size=6)


@given(st.lists(TEXTS, max_size=12))
@settings(deadline=None, max_examples=200)
def test_reads_what_the_pattern_accepts_exactly(texts: list[str]) -> None:
    hundredths, ok = parse_money(texts)
    expected = [re.search(MONEY_PATTERN, text) is not None for text in texts]
    assert ok.tolist() == expected
    assert hundredths.tolist() == [
        int(Decimal(text) * 100) if readable else 0
        for text, readable in zip(texts, expected, strict=True)
    ]


def test_the_smallest_and_the_largest_amount() -> None:
    hundredths, ok = parse_money(["0.00", "999999999999.99", "1000000000000.00"])
    assert ok.tolist() == [True, True, False]
    assert hundredths.tolist() == [0, 99_999_999_999_999, 0]
