"""Money against the pattern of the schemas and against decimal."""

import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.contracts.money import format_money, parse_money
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


@given(st.lists(st.integers(0, 10**14 - 1) | st.integers(0, 1_001), max_size=12))
@settings(deadline=None, max_examples=200)
def test_written_money_is_exact_and_reads_back(hundredths: list[int]) -> None:
    texts = format_money(np.array(hundredths, np.int64))
    assert [Decimal(text) * 100 for text in texts] == hundredths
    assert all(re.fullmatch(r"(0|[1-9][0-9]*)[.][0-9]{2}", text) for text in texts)
    assert parse_money(texts)[0].tolist() == hundredths


@pytest.mark.parametrize("amount", [-1, 10**14])
def test_an_amount_without_a_text_is_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="has no text"):
        format_money(np.array([1, amount], np.int64))
