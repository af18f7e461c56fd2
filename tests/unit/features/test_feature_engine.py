"""The engine equals SQL and plain Python: the Handbook's features, and every aggregate."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from dataflows.detection.predicates import compile_predicate
from dataflows.eventtime.snapshots import SnapshotError
from dataflows.features.columns import Column, as_rows, full
from dataflows.features.engine import NEVER, FeatureEngine
from dataflows.features.spec import FeatureSpec, load_spec, parse_spec
from dataflows.runtime.config import HOUSE
from services.features.arrival import in_order
from services.simulator.handbook import HandbookSettings, simulate_handbook

HANDBOOK = HOUSE / "features" / "handbook.yaml"
DAY_US = 86_400_000_000
SHUFFLED_WITHIN_US = 3_600_000_000


def spec_at(path: Path) -> FeatureSpec:
    return load_spec(path, compile_predicate)


def fields_of(table: pa.Table, spec: FeatureSpec) -> dict[str, Column]:
    made = {}
    for name, kind in spec.fields.items():
        values = table[name].to_pylist()
        if kind == "text":
            texts = np.array(values, dtype=object)
            made[name] = Column(texts, np.array([value is not None for value in values]))
        else:
            numbers = np.array([math.nan if v is None else v for v in values], np.float64)
            made[name] = Column(numbers, ~np.isnan(numbers))
    return made


def computed(
    table: pa.Table,
    spec: FeatureSpec,
    known_us: NDArray[np.int64],
    bound_us: int | None = None,
    lateness_us: int = 0,
) -> NDArray[np.float64]:
    """[n, features], with a restart in the middle."""
    times_us = table["time"].to_numpy()
    engine, rows = FeatureEngine(spec, lateness_us), np.empty((len(table), len(spec.names)))
    for part in in_order(times_us, known_us, fields_of(table, spec), bound_us):
        made = as_rows(engine.process(part.events), spec.names)
        rows[part.rows[part.rows >= 0]] = made[part.rows >= 0]
        saved, engine = engine.snapshot(), FeatureEngine(spec, lateness_us)
        engine.restore([saved])
    return rows


def payments(days: int = 70, customers: int = 60, terminals: int = 120) -> pa.Table:
    table = simulate_handbook(
        HandbookSettings(customers=customers, terminals=terminals, days=days, seed=11)
    )
    return table.append_column("time", table["tx_datetime"].cast(pa.int64()))


def known_after(table: pa.Table, days: int) -> NDArray[np.int64]:
    known: NDArray[np.int64] = np.where(
        table["tx_fraud"].to_numpy() > 0, table["time"].to_numpy() + days * DAY_US, NEVER
    )
    return known


def by_pandas(table: pa.Table) -> pd.DataFrame:
    """The Handbook's features as its chapter 3 computes them."""
    frame = table.select(["customer_id", "terminal_id", "tx_amount", "tx_fraud"]).to_pandas()
    frame["at"] = pd.to_datetime(table["time"].to_numpy(), unit="us")
    made = pd.DataFrame(index=frame.index)
    made["tx_amount"] = frame["tx_amount"]
    made["during_weekend"] = (frame["at"].dt.day_of_week >= 5).astype(float)
    made["during_night"] = (frame["at"].dt.hour <= 6).astype(float)
    for _, mine in frame.groupby("customer_id"):
        amounts = mine.set_index("at")["tx_amount"]
        for days in (1, 7, 30):
            rolling = amounts.rolling(f"{days}D")
            made.loc[mine.index, f"customer_count_{days}d"] = rolling.count().to_numpy()
            made.loc[mine.index, f"customer_mean_amount_{days}d"] = rolling.mean().to_numpy()
    for _, mine in frame.groupby("terminal_id"):
        fraud = mine.set_index("at")["tx_fraud"].astype(float)
        for days in (1, 7, 30):
            counts, frauds = (
                (
                    getattr(fraud.rolling(f"{7 + days}D"), how)()
                    - getattr(fraud.rolling("7D"), how)()
                )
                for how in ("count", "sum")
            )
            made.loc[mine.index, f"terminal_count_{days}d"] = counts.to_numpy()
            risk = (frauds.round() / counts).fillna(0.0)
            made.loc[mine.index, f"terminal_risk_{days}d"] = risk.to_numpy()
    return made


def test_the_handbooks_features_are_those_of_pandas() -> None:
    table, spec = payments(), spec_at(HANDBOOK)
    assert len(table) > 5_000
    rows = computed(table, spec, known_after(table, 7))
    wanted = by_pandas(table)[spec.names].to_numpy()
    np.testing.assert_allclose(rows, wanted, rtol=1e-9, atol=1e-9)


def brute_sql(arrived: pa.Table) -> NDArray[np.float64]:
    """The Handbook's features of events as they arrived: of those so far, by a join."""
    customer = ", ".join(
        f"count(*) FILTER (b.time > a.time - {d} * {DAY_US}) AS n{d},"
        f"avg(b.tx_amount) FILTER (b.time > a.time - {d} * {DAY_US}) AS m{d}"
        for d in (1, 7, 30)
    )
    past = f"b.time <= a.time - 7 * {DAY_US}"
    terminal = ", ".join(
        f"count(*) FILTER ({past} AND b.time > a.time - {7 + d} * {DAY_US}) AS c{d},"
        f"coalesce(avg(b.tx_fraud) FILTER ({past} AND b.time > a.time - {7 + d} * {DAY_US}), 0)"
        f" AS r{d}"
        for d in (1, 7, 30)
    )
    query = f"""
        WITH c AS (SELECT a.place, {customer} FROM arrived a JOIN arrived b
            ON b.customer_id = a.customer_id AND b.place <= a.place AND b.time <= a.time
            GROUP BY a.place),
        t AS (SELECT a.place, {terminal} FROM arrived a JOIN arrived b
            ON b.terminal_id = a.terminal_id AND b.place <= a.place AND b.time <= a.time
            GROUP BY a.place)
        SELECT n1, n7, n30, m1, m7, m30, c1, c7, c30, r1, r7, r30
        FROM c JOIN t USING (place) ORDER BY place"""
    with duckdb.connect() as connection:
        connection.register("arrived", arrived)
        found = connection.execute(query).fetchnumpy()
    return np.column_stack([np.asarray(column, np.float64) for column in found.values()])


def test_events_shuffled_within_the_lateness_get_the_features_of_what_has_arrived() -> None:
    """Of each event: all that came before it and is not later, as an SQL join says."""
    table, spec = payments(days=50, customers=40), spec_at(HANDBOOK)
    rng = np.random.default_rng(5)
    late_us = rng.integers(0, SHUFFLED_WITHIN_US, len(table))
    order = np.argsort(table["time"].to_numpy() + late_us, kind="stable")
    arrived = table.take(order).append_column("place", pa.array(np.arange(len(table))))
    rows = computed(arrived, spec, known_after(arrived, 7), 30_000_000, SHUFFLED_WITHIN_US)
    np.testing.assert_allclose(rows[:, 3:], brute_sql(arrived), rtol=1e-9, atol=1e-9)
    assert (np.diff(arrived["time"].to_numpy()) < 0).mean() > 0.1


EVERY = """
time: time
label: {field: bad, known: told_at}
fields: {who: text, shop: text, amount: number, lat: number, lon: number}
features:
  - {name: sum, entity: who, aggregate: sum, of: amount, window: 3d}
  - {name: mean, entity: who, aggregate: mean, of: amount, window: 3d, delay: 1d}
  - {name: min, entity: who, aggregate: min, of: amount, window: 3d}
  - {name: max, entity: who, aggregate: max, of: amount, window: 3d, delay: 1d}
  - {name: stddev, entity: who, aggregate: stddev, of: amount, window: 3d}
  - {name: first, entity: who, aggregate: first, of: amount, window: 3d}
  - {name: last, entity: who, aggregate: last, of: amount, window: 3d, delay: 1d}
  - {name: shops, entity: who, aggregate: distinct, of: shop, window: 3d}
  - {name: since, entity: who, aggregate: time_since, window: 3d}
  - {name: since_first, entity: who, aggregate: time_since_first, window: 3d}
  - {name: ratio, entity: who, aggregate: ratio, of: amount, window: 3d}
  - {name: zscore, entity: who, aggregate: zscore, of: amount, window: 3d}
  - {name: large, entity: who, aggregate: count, window: 3d, filter: amount > 50 AND shop <> 'a'}
  - {name: risk, entity: who, aggregate: risk, window: 3d}
  - {name: frauds, entity: who, aggregate: count, labelled: true, window: 3d}
  - {name: since_fraud, entity: who, aggregate: time_since, labelled: true, window: 3d}
  - {name: kmh, entity: who, aggregate: geo_velocity, latitude: lat, longitude: lon, window: 3d}
  - {name: hour, calendar: hour}
  - {name: weekday, calendar: weekday}
"""


def wandering(n: int) -> tuple[pa.Table, NDArray[np.int64]]:
    """Events with nulls, in order, and when some of them were told to be bad."""
    rng = np.random.default_rng(3)
    times = np.sort(rng.integers(0, 20 * DAY_US, n))

    def some(values: Sequence[object], share: float) -> list[object]:
        return [None if rng.random() < share else value for value in values]

    table = pa.table(
        {
            "time": times,
            "who": some(rng.choice(["ann", "bob", "cleo"], n).tolist(), 0.05),
            "shop": some(rng.choice(list("abcdef"), n).tolist(), 0.1),
            "amount": some(np.round(rng.normal(40, 30, n), 2).tolist(), 0.1),
            "lat": some(rng.uniform(-80, 80, n).round(6).tolist(), 0.2),
            "lon": some(rng.uniform(-180, 180, n).round(6).tolist(), 0.2),
        }
    )
    bad = rng.random(n) < 0.2
    told: NDArray[np.int64] = np.where(bad, times + rng.integers(0, 4 * DAY_US, n), NEVER)
    return table, told


def kilometres(a: dict[str, float], b: dict[str, float]) -> float:
    """By the angle between two unit vectors."""
    u, v = (
        np.array(
            [
                math.cos(math.radians(p["lat"])) * math.cos(math.radians(p["lon"])),
                math.cos(math.radians(p["lat"])) * math.sin(math.radians(p["lon"])),
                math.sin(math.radians(p["lat"])),
            ]
        )
        for p in (a, b)
    )
    return 6371.0088 * math.atan2(float(np.linalg.norm(np.cross(u, v))), float(u @ v))


def plainly(i: int, rows: list[dict[str, float]], told: NDArray[np.int64]) -> dict[str, float]:
    """The features of event i by definition; NaN for null."""
    nan, this = math.nan, rows[i]
    made = {
        "hour": float(this["time"] // 3_600_000_000 % 24),
        "weekday": float((this["time"] // DAY_US + 3) % 7),
    }
    if this["who"] is None:
        return made

    def window(delay: int = 0, of: str | None = None, until: int = i + 1) -> list[int]:
        end = this["time"] - delay * DAY_US
        return [
            j
            for j in range(until)
            if rows[j]["who"] == this["who"]
            and end - 3 * DAY_US < rows[j]["time"] <= end
            and (of is None or rows[j][of] is not None)
        ]

    def amounts(places: list[int]) -> list[float]:
        return [rows[j]["amount"] for j in places]

    now, past = amounts(window(of="amount")), amounts(window(1, "amount"))
    before = amounts(window(of="amount", until=i))
    made["sum"] = math.fsum(now) if now else nan
    made["mean"] = statistics.fmean(past) if past else nan
    made["min"], made["first"] = (min(now), now[0]) if now else (nan, nan)
    made["max"], made["last"] = (max(past), past[-1]) if past else (nan, nan)
    made["stddev"] = statistics.stdev(now) if len(now) > 1 else nan
    made["shops"] = len({rows[j]["shop"] for j in window(of="shop")})
    earlier, seconds = window(until=i), 1e6
    made["since"] = (this["time"] - rows[earlier[-1]]["time"]) / seconds if earlier else nan
    made["since_first"] = (this["time"] - rows[window()[0]]["time"]) / seconds
    if this["amount"] is not None and before:
        made["ratio"] = this["amount"] / statistics.fmean(before)
        if len(before) > 1:
            mean, deviation = statistics.fmean(before), statistics.stdev(before)
            made["zscore"] = (this["amount"] - mean) / deviation
    made["large"] = sum(
        rows[j]["amount"] > 50 and rows[j]["shop"] not in (None, "a") for j in window(of="amount")
    )
    bad = [j for j in window() if told[j] != NEVER and told[j] <= this["time"]]
    made["frauds"], made["risk"] = len(bad), len(bad) / len(window())
    made["since_fraud"] = (this["time"] - rows[bad[-1]]["time"]) / seconds if bad else nan
    placed = [j for j in window(of="lat", until=i) if rows[j]["lon"] is not None]
    if placed and this["lat"] is not None and this["lon"] is not None:
        hours = max((this["time"] - rows[placed[-1]]["time"]) / seconds, 1.0) / 3600
        made["kmh"] = kilometres(rows[placed[-1]], this) / hours
    return made


def test_every_aggregate_is_what_it_says() -> None:
    spec = parse_spec(EVERY, "every.yaml", compile_predicate)
    table, told = wandering(600)
    made, rows = computed(table, spec, told), table.to_pylist()
    for i in range(len(rows)):
        wanted = plainly(i, rows, told)
        for k, name in enumerate(spec.names):
            assert made[i, k] == pytest.approx(
                wanted.get(name, math.nan), rel=1e-9, abs=1e-9, nan_ok=True
            ), (i, name)


def test_what_stands_otherwise() -> None:
    text = (
        "time: t\nlabel: {field: bad, delay: 0s}\nfields: {who: text}\nfeatures:\n"
        "  - {name: r, entity: who, aggregate: risk, window: 1d, delay: 1d, otherwise: 0.5}\n"
    )
    engine = FeatureEngine(parse_spec(text, "x", compile_predicate), 0)
    who = Column(np.array(["a", None], dtype=object), np.array([True, False]))
    times = np.zeros(2, np.int64)
    (part,) = in_order(times, np.full(2, NEVER), {"who": who})
    made = engine.process(part.events)["r"]
    assert made.for_json()[0] == 0.5
    assert made.valid.tolist() == [True, False]


def test_a_number_too_large_is_refused() -> None:
    text = (
        "time: t\nfields: {who: text, x: number}\nfeatures:\n"
        "  - {name: s, entity: who, aggregate: sum, of: x, window: 1d}\n"
    )
    engine = FeatureEngine(parse_spec(text, "x", compile_predicate), 0)
    fields = {"who": full(np.array(["a"], dtype=object)), "x": full(np.array([2e9]))}
    (part,) = in_order(np.zeros(1, np.int64), np.full(1, NEVER), fields)
    with pytest.raises(ValueError, match="a number beyond 1e"):
        engine.process(part.events)


def test_a_snapshot_of_another_spec_is_refused() -> None:
    handbook = spec_at(HANDBOOK)
    other = FeatureEngine(parse_spec(EVERY, "every.yaml", compile_predicate), 0)
    with pytest.raises(SnapshotError, match="spec was"):
        other.restore([FeatureEngine(handbook, 0).snapshot()])
