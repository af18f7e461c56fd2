"""The payments are those that the Handbook describes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from services.simulator.handbook import HandbookSettings, simulate_handbook

DAYS = 60
SETTINGS = HandbookSettings(customers=1_000, terminals=2_000, days=DAYS, seed=3)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return simulate_handbook(SETTINGS)


def test_the_same_seed_gives_the_same_payments(table: pa.Table) -> None:
    assert simulate_handbook(SETTINGS).equals(table)


def test_payments_are_in_order_and_as_many_as_poisson_says(table: pa.Table) -> None:
    times = table["tx_datetime"].cast(pa.int64()).to_numpy()
    assert (np.diff(times) >= 0).all()
    # two a day on average, of which 3.1 % would fall outside the day
    assert len(table) == pytest.approx(2 * 1_000 * DAYS * 0.969, rel=0.05)


def test_each_fraud_is_of_its_scenario(table: pa.Table) -> None:
    frame = table.to_pandas()
    assert (frame.tx_fraud == (frame.tx_fraud_scenario > 0)).all()
    large = frame.tx_amount > 220
    assert set(frame[large].tx_fraud_scenario) <= {1, 2, 3}
    frame["day"] = frame.tx_datetime.dt.day_of_year
    at_terminals = frame[frame.tx_fraud_scenario == 2].groupby("terminal_id").day
    assert (at_terminals.max() - at_terminals.min()).median() < 28
    first = at_terminals.min()
    alone = frame[frame.terminal_id.isin(first.index)]
    soon = (alone.day - alone.terminal_id.map(first)).between(0, 27)
    # nothing at a compromised terminal is genuine
    assert (alone[soon & (alone.day < alone.day.max() - 28)].tx_fraud == 1).mean() > 0.9
    customers = frame[frame.tx_fraud_scenario == 3]
    assert customers.tx_amount.mean() > 3 * frame[frame.tx_fraud == 0].tx_amount.mean()


def test_shares_are_those_of_the_books_draw() -> None:
    """0.84 % fraud among 9,600 payments a day, by 5,000 customers at 10,000 terminals."""
    table = simulate_handbook(HandbookSettings(days=45))
    last = table["tx_datetime"].cast(pa.int64()).to_numpy()
    settled = last > last.min() + 28 * 86_400_000_000
    fraud = table["tx_fraud"].to_numpy()[settled]
    assert fraud.mean() == pytest.approx(0.0084, rel=0.2)
    assert len(table) / 45 == pytest.approx(9_600, rel=0.03)
