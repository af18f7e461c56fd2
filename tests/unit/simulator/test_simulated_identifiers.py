"""Identifiers and amounts as text."""

from __future__ import annotations

import uuid

import numpy as np

from services.simulator.identifiers import money, uuids


def test_uuids_are_valid_and_distinct() -> None:
    made = uuids(np.arange(20_000), salt=1)

    assert len(set(made)) == len(made)
    assert all(uuid.UUID(text).version == 4 and str(uuid.UUID(text)) == text for text in made[:500])


def test_uuids_depend_on_row_and_salt_alone() -> None:
    assert uuids(np.array([5, 6]), 1) == uuids(np.arange(10), 1)[5:7]
    assert set(uuids(np.arange(100), 1)).isdisjoint(uuids(np.arange(100), 2))
    assert uuids(np.zeros(0, np.int64), 1) == []


def test_money_has_two_digits() -> None:
    assert money(np.array([0, 5, 100, 123_456])) == ["0.00", "0.05", "1.00", "1234.56"]
