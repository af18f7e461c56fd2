"""The cost of days, against a bill that is written record by record, partition by partition."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from cost_samples import DAYS, PRICES, measured, settings_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.runtime.config import Cost
from services.cost.pricing import Part
from services.cost.report import Report, cost_report
from services.cost.volumes import Builds, Flow, Measured, Query, Table, Topic, Worker

WORDS = ("id", "amount", "event_date", "note")
COUNTS = st.integers(0, 10**7)
WIDTHS = st.decimals(0, 200, places=2)
BY_DAY = st.dictionaries(st.sampled_from(DAYS), COUNTS.map(Decimal))
NEAR = st.dates(DAYS[0] - timedelta(200), DAYS[-1] + timedelta(3))
NAMES = [("bronze", "clicks"), ("silver", "stg"), ("gold", "facts")]


@st.composite
def traffic(draw: st.DrawFn) -> Measured:
    topics = [
        Topic(name, draw(BY_DAY), draw(WIDTHS), draw(st.integers(0, 3)), "log")
        for name in ("raw.clicks", "events.clicks", "alerts")
    ]
    tables = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        rows: dict[date | None, int] = {None: draw(COUNTS)}
        if draw(st.booleans()):
            rows = {**draw(st.dictionaries(NEAR, COUNTS))}
        widths = draw(st.dictionaries(st.sampled_from(WORDS), WIDTHS))
        tables.append(Table(name, rows, widths, "lake", draw(st.sampled_from(["", "id"]))))
    queries = [
        Query(
            f"q{number}",
            draw(st.lists(st.sampled_from(NAMES), unique=True)),
            frozenset(draw(st.lists(st.sampled_from([*WORDS, "select"])))),
            draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    builds = Builds(queries, draw(st.decimals(1, 9, places=1)), "models")
    flow = Flow("ingest", ("raw.clicks", "alerts"), draw(st.decimals(1, 900, places=1)), "cpu")
    workers = [Worker("ingest", [flow]), Worker("light", [])]
    return Measured(topics, tables, workers, draw(st.sampled_from([None, builds])))


def bill(found: Measured, day: date, cost: Cost, scale: Fraction) -> dict[Part, Fraction]:
    """What a day uses, in bytes, hours of vCPU and GiB."""
    used = dict.fromkeys(Part, Fraction(0))
    for topic in found.topics:
        message = Fraction(topic.bytes_each) + 36
        for _ in range(1 + topic.readers):
            used[Part.PUBSUB] += Fraction(topic.records.get(day, 0)) * message * scale / 2**40
    there = {table.name: table for table in found.tables}
    for table in found.tables:
        row = sum(map(Fraction, table.widths.values()))
        for at, rows in table.rows.items():
            stored = rows * row * scale / 2**30 / 730 * 24
            if at is not None and day - at >= timedelta(90):
                used[Part.STORAGE_LONG_TERM] += stored
            elif at is None or at <= day:
                used[Part.STORAGE_ACTIVE] += stored
    for query in found.builds.queries if found.builds else ():
        for name in query.reads:
            scanned = Fraction(0)
            if name in there:
                table = there[name]
                for column, width in table.widths.items():
                    for at, rows in table.rows.items():
                        if column not in query.words or (at is not None and at > day):
                            continue
                        every_date = not query.by_date or at is None
                        if every_date or column == table.key:
                            scanned += rows * Fraction(width) * scale
                        if not every_date and at == day:
                            assert found.builds is not None
                            dates = Fraction(found.builds.dates)
                            scanned += rows * Fraction(width) * dates * scale
            used[Part.QUERIES] += max(scanned, Fraction(10 * 2**20)) * cost.builds_a_day / 2**40
    for worker in found.workers:
        busy_us = Fraction(0)
        for flow in worker.flows:
            for topic in found.topics:
                if topic.name in flow.inputs:
                    records = Fraction(topic.records.get(day, 0)) * scale
                    busy_us += records * Fraction(flow.cpu_us)
        room = Fraction(cost.pod_vcpu) * Fraction(cost.pod_load) * 86_400 * 1_000_000
        pods = max(cost.replicas, ceil(busy_us / room))
        used[Part.GKE_VCPU] += pods * 24 * Fraction(cost.pod_vcpu)
        used[Part.GKE_MEMORY] += pods * 24 * Fraction(cost.pod_memory_gib)
    used[Part.GKE_CLUSTER] = Fraction(24)
    return used


def priced(used: dict[Part, Fraction], day: date) -> dict[Part, Fraction]:
    costs = {}
    for part, amount in used.items():
        price = PRICES.on(part, day)
        over = amount * 730 / 24 - Fraction(price.free_a_month)
        costs[part] = max(over, Fraction(0)) * Fraction(price.price) / 730 * 24
    return costs


SETTINGS = st.builds(
    settings_of,
    builds_a_day=st.integers(0, 96),
    replicas=st.integers(1, 3),
    pod_vcpu=st.sampled_from([Decimal("0.25"), Decimal("0.5"), Decimal(2)]),
    pod_load=st.sampled_from([Decimal("0.1"), Decimal("0.5"), Decimal(1)]),
)
SCALES = st.sampled_from([Decimal("0.5"), Decimal(1), Decimal(10)])
SLACK = Fraction(1, 100_000)  # of each part's millionths, and of means of repeating decimals


@given(traffic(), SETTINGS, SCALES)
@settings(max_examples=150)
def test_days_cost_what_a_bill_of_single_things_says(
    found: Measured, cost: Cost, scale: Decimal
) -> None:
    report = cost_report(found, DAYS, PRICES, cost, scale, Decimal(0))
    bills = [priced(bill(found, day, cost, Fraction(scale)), day) for day in DAYS]
    for day, costs in zip(report.days, bills, strict=True):
        for part in Part:
            assert abs(Fraction(day.parts[part]) - costs[part]) < SLACK, part
    mean = Fraction(sum(cost for costs in bills for cost in costs.values())) / len(DAYS)
    assert abs(Fraction(report.a_day) - mean) < SLACK
    assert abs(Fraction(report.a_month) - mean * 730 / 24) < 40 * SLACK
    events = sum(found.topics[0].records.get(day, Decimal(0)) for day in DAYS) * scale / len(DAYS)
    if events:
        assert report.a_million_events is not None
        exact = Fraction(report.a_day) * 1_000_000 / Fraction(events)
        assert abs(Fraction(report.a_million_events) - exact) < SLACK
    else:
        assert report.a_million_events is None


@given(traffic(), SCALES)
@settings(max_examples=40)
def test_it_adds_up(found: Measured, scale: Decimal) -> None:
    report = cost_report(found, DAYS, PRICES, Cost(), scale, Decimal(0))
    assert report.a_day == sum(part.a_day for part in report.parts)
    for day in report.days:
        assert day.cost == sum(day.parts.values())
    for part in report.parts:
        own = [Fraction(volume.amount) for volume in report.volumes if volume.part is part.part]
        assert abs(sum(own) - Fraction(part.amount)) < Fraction(1, 10**30)
    assert all(volume.source for volume in report.volumes)


def test_each_day_has_the_price_of_that_day() -> None:
    report = report_with_budget("0")
    (queries,) = (part for part in report.parts if part.part is Part.QUERIES)
    before, *_, after = (day.parts[Part.QUERIES] for day in report.days)
    assert before < after  # the sample's price rises on the last day
    assert (queries.valid_from, queries.price) == (DAYS[-1], Decimal("12.5"))


def report_with_budget(a_day: str, *alert_at: float) -> Report:
    """Of days of which the second costs a little more than half of the third."""
    cost = settings_of(alert_at=alert_at)
    return cost_report(measured(), DAYS, PRICES, cost, Decimal(1), Decimal(a_day))


def test_a_day_above_a_share_of_the_budget_is_an_alert_of_the_largest() -> None:
    costs = [day.cost for day in report_with_budget("0").days]
    assert costs[0] < costs[-1]
    exactly = str(costs[-1])
    budget = report_with_budget(exactly, 1.0).budget
    assert budget is not None
    assert budget.alerts == []  # at the budget is not above it
    budget = report_with_budget(exactly, 0.9, 0.5, 1.0).budget
    assert budget is not None
    assert budget.alert_at == [Decimal("0.5"), Decimal("0.9"), Decimal("1.0")]
    assert [(alert.day, alert.cost, str(alert.share)) for alert in budget.alerts] == [
        (DAYS[1], costs[1], "0.5"),
        (DAYS[2], costs[2], "0.9"),
    ]


@pytest.mark.parametrize("alert_at", [(), (1.0,)])
def test_no_budget_is_no_alert(alert_at: tuple[float, ...]) -> None:
    assert report_with_budget("0", *alert_at).budget is None
