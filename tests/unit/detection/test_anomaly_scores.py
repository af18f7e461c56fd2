"""The anomaly detector: what holds for every series, and that it notices what it should."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataflows.detection.anomalies import ALERT_AT, MOST, AnomalyDetector, Scores
from dataflows.eventtime.snapshots import SnapshotError, pack

FIVE_MINUTES_US = 300_000_000
DAY = 288  # rows
START_US = 1_767_225_600_000_000  # a Thursday at midnight

Series = NDArray[np.float64]


def times(rows: int, step_us: int = FIVE_MINUTES_US) -> NDArray[np.int64]:
    return START_US + step_us * np.arange(rows, dtype=np.int64)


def scored(values: Series, step_us: int = FIVE_MINUTES_US) -> Scores:
    return AnomalyDetector().score(["a"] * len(values), times(len(values), step_us), values)


def alerts(values: Series) -> list[int]:
    return np.flatnonzero(scored(values).score >= ALERT_AT).tolist()


def same(one: Scores, other: Scores) -> bool:
    pairs = zip(one, other, strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


@st.composite
def series(draw: st.DrawFn) -> Series:
    """Noise, seasons, steps, spikes, repetitions and holes, of all sizes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(2, 1_500))
    at = np.arange(rows)
    values = rng.normal(0, draw(st.sampled_from([0.0, 0.1, 1.0])), rows)
    values += draw(st.sampled_from([0.0, 3.0])) * np.sin(at * 2 * np.pi / DAY)
    if draw(st.booleans()):
        values = np.round(values * 2)
    for _ in range(draw(st.integers(0, 4))):
        where, size = rng.integers(0, rows), rng.normal(0, 10)
        values[where : where + rng.integers(1, 100)] += size
    if draw(st.booleans()):
        values[rng.random(rows) < 0.05] = np.nan
    return values


@settings(max_examples=60, deadline=None)
@given(series())
def test_scores_lie_between_0_and_1_and_bands_hold_what_is_expected(values: Series) -> None:
    found = scored(values)
    assert ((found.score >= 0) & (found.score <= 1)).all()
    assert (found.score[np.isnan(values)] == 0).all()
    banded = ~np.isnan(found.lower)
    assert (found.lower[banded] <= found.expected[banded]).all()
    assert (found.expected[banded] <= found.upper[banded]).all()


@settings(max_examples=60, deadline=None)
@given(series(), st.data())
def test_a_row_uses_only_rows_so_far(values: Series, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values)))
    whole, part = scored(values), scored(values[:cut])
    assert same(part, Scores(*(column[:cut] for column in whole)))


@settings(max_examples=60, deadline=None)
@given(series(), st.data())
def test_batches_and_snapshots_change_nothing(values: Series, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(values)), max_size=5)))
    detector, parts, at = AnomalyDetector(), [], times(len(values))
    for first, end in zip([0, *cuts], [*cuts, len(values)], strict=True):
        if data.draw(st.booleans()):
            detector = AnomalyDetector.restore(detector.snapshot())
        parts.append(detector.score(["a"] * (end - first), at[first:end], values[first:end]))
    joined = Scores(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    assert same(joined, scored(values))


@settings(max_examples=60, deadline=None)
@given(
    series(),
    st.sampled_from([-1_000.0, -1.0, 1e-3, 0.37, 3.0, 1e6]),
    st.floats(-1_000, 1_000, allow_subnormal=False),
)
def test_unit_and_zero_do_not_matter(values: Series, factor: float, shift: float) -> None:
    moved = scored(factor * (values + shift))
    plain = scored(values)
    np.testing.assert_allclose(moved.score, plain.score, atol=1e-5)
    np.testing.assert_allclose(
        moved.expected, factor * (plain.expected + shift), atol=1e-6 * abs(factor) * 1_000
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(series(), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_series_do_not_know_of_each_other(many: list[Series], random: object) -> None:
    rows = [(t, f"series {s}", v) for s, one in enumerate(many) for t, v in enumerate(one)]
    rows.sort(key=lambda row: row[0])
    detector = AnomalyDetector()
    together = detector.score(
        [name for _, name, _ in rows],
        START_US + FIVE_MINUTES_US * np.array([t for t, _, _ in rows], np.int64),
        np.array([value for _, _, value in rows]),
    )
    assert len(detector) == len(many)
    for s, one in enumerate(many):
        own = [i for i, (_, name, _) in enumerate(rows) if name == f"series {s}"]
        assert same(Scores(*(column[own] for column in together)), scored(one))


@settings(max_examples=30, deadline=None)
@given(series(), st.data())
def test_a_missing_value_is_as_if_its_row_were_not_there(
    values: Series, data: st.DataObject
) -> None:
    there = ~np.isnan(values)
    holes = scored(values)
    at = times(len(values))[there]
    without = AnomalyDetector().score(["a"] * int(there.sum()), at, values[there])
    assert same(Scores(*(column[there] for column in holes)), without)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(), min_size=1, max_size=600),
    st.integers(1, 10**12),
    st.integers(-(10**17), 10**17),
)
def test_any_numbers_are_survived(values: list[float], step_us: int, start_us: int) -> None:
    numbers = np.array(values * (600 // len(values)))
    at = start_us + step_us % 10**11 * np.arange(len(numbers), dtype=np.int64)
    found = AnomalyDetector().score(["a"] * len(numbers), at, numbers)
    assert ((found.score >= 0) & (found.score <= 1)).all()
    assert (found.score[~(np.abs(numbers) <= MOST)] == 0).all()


# --- what it notices -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -3.5, 1e12])
def test_a_constant_series_is_silent(value: float) -> None:
    found = scored(np.full(5_000, value))
    assert (found.score == 0).all()
    assert (found.upper[30:] == value).all()


def test_a_repeated_shape_is_silent() -> None:
    square = np.where(np.arange(10 * DAY) % DAY < 100, 80.0, 20.0)
    assert alerts(square) == []


def rising(rng: np.random.Generator) -> Series:
    values = np.full(2_000, 5.0)
    values[1_000:] += 1.0
    return values


def spike(rng: np.random.Generator) -> Series:
    values = rng.normal(0, 1, 2_000)
    values[1_000:1_003] += 15
    return values


def shift(rng: np.random.Generator) -> Series:
    values = rng.normal(0, 1, 2_000)
    values[1_000:] += 6
    return values


def louder(rng: np.random.Generator) -> Series:
    values = rng.normal(0, 1, 2_000)
    values[1_000:1_100] *= 6
    return values


def outage(rng: np.random.Generator) -> Series:
    values = 100 + 40 * np.sin(np.arange(8 * DAY) * 2 * np.pi / DAY) + rng.normal(0, 3, 8 * DAY)
    values[1_000:1_040] = 0
    return values


def no_morning(rng: np.random.Generator) -> Series:
    """Nothing leaves its range: a day's plateau is missing."""
    values = np.where(np.arange(12 * DAY) % DAY < 100, 80.0, 20.0)
    values[9 * DAY : 10 * DAY] = 20
    return values + rng.normal(0, 1, 12 * DAY)


@pytest.mark.parametrize(
    ("make", "begin", "until"),
    [
        (rising, 1_000, 1_001),
        (spike, 1_000, 1_003),
        (shift, 1_000, 1_012),
        (louder, 1_000, 1_060),
        (outage, 1_000, 1_030),
        (no_morning, 9 * DAY, 9 * DAY + 30),
    ],
)
def test_it_alerts_soon_and_on_nothing_else(
    make: Callable[[np.random.Generator], Series], begin: int, until: int
) -> None:
    for seed in range(5):
        found = alerts(make(np.random.default_rng(seed)))
        assert any(begin <= row < until for row in found), (seed, found)
        assert len([row for row in found if not begin <= row < begin + 400]) <= 1, (seed, found)


def test_noise_alone_alerts_rarely() -> None:
    rows, rng = 20_000, np.random.default_rng(7)
    kinds = [rng.normal(0, 1, rows), rng.uniform(0, 1, rows), np.exp(rng.normal(0, 1, rows))]
    assert sum(len(alerts(values)) for values in kinds) <= 20


def test_the_band_holds_99_of_100_rows() -> None:
    rng = np.random.default_rng(3)
    values = 50 + 20 * np.sin(np.arange(30 * DAY) * 2 * np.pi / DAY) + rng.normal(0, 2, 30 * DAY)
    found = scored(values)
    inside = (values >= found.lower) & (values <= found.upper)
    assert inside[DAY:].mean() == pytest.approx(0.99, abs=0.003)
    assert np.abs(found.expected - values)[3 * DAY :].mean() < 3


# --- state ---------------------------------------------------------------------------------------


def test_a_snapshot_that_does_not_fit_is_refused() -> None:
    detector = AnomalyDetector()
    detector.score(["a", "b"], times(2), np.array([1.0, 2.0]))
    snapshot = detector.snapshot()
    header = msgspec.msgpack.decode(snapshot[8 : 8 + int.from_bytes(snapshot[:8], "little")])
    for damaged in (b"", snapshot[:-1], snapshot[:100], b"\0" * 40):
        with pytest.raises(SnapshotError, match="the snapshot of the anomaly detector is damaged"):
            AnomalyDetector.restore(damaged)

    class Header(msgspec.Struct, array_like=True):
        version: int
        series: int
        lengths: list[int]

    later = b"".join(pack(Header(9, header[1], []), []))
    with pytest.raises(SnapshotError, match="has version 9, this code reads up to 1"):
        AnomalyDetector.restore(later)
