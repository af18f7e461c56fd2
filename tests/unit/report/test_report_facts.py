"""Facts are what somebody with a pencil would count in the same lake."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import report_shop as shop
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.detection.profile import CHANGED, MUCH_CHANGED
from dataflows.eventtime.funnel import FUNNEL
from services.report.checks import check_days
from services.report.facts import LENGTH_MINUTES, gather
from services.report.model import Facts, FraudKind, Reason, RunFigures
from services.simulator.truth import DayTruth
from services.status.slots import FlowTotals

NOTHING = RunFigures(events=0, wall_seconds=0.0, events_per_second=0.0)


def gather_lake(lake: Path) -> Facts:
    return gather(lake, [], None, [], NOTHING)


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return shop.facts(tmp_path)


def test_events_by_source_and_lateness(facts: Facts) -> None:
    counts = {
        s.source: (s.on_time, s.late, s.buffered, s.expired, s.rejected) for s in facts.sources
    }
    assert counts == {
        "clickstream": (6, 2, 1, 0, 2),
        "transactions": (3, 1, 1, 1, 1),
        **dict.fromkeys(
            ("customer_support", "product_catalog", "customer_profiles", "labels"), (0,) * 5
        ),
    }


def test_traffic_by_the_hour(facts: Facts) -> None:
    assert facts.traffic.bucket == "hour"
    assert [(start.day, start.hour) for start in facts.traffic.at] == [
        (1, 0),
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
    ]
    assert facts.traffic.at[0] == datetime(2026, 1, 1, tzinfo=UTC)
    assert facts.traffic.counts == {"clickstream": [4, 3, 0, 1, 1], "transactions": [2, 1, 2, 0, 0]}


def test_traffic_by_the_day_over_a_long_time(tmp_path: Path) -> None:
    columns = {"event_timestamp": shop.TIME, "lateness": pa.string()}
    days = [(shop.at(24 * day), "on_time") for day in (0, 0, 1, 300)]
    shop.write(tmp_path, "customer_support", columns, days)
    traffic = gather_lake(tmp_path).traffic
    assert (traffic.bucket, traffic.counts) == ("day", {"customer_support": [2, 1, 1]})


def test_lateness_by_the_day(facts: Facts) -> None:
    assert [start.day for start in facts.late_over_time.at] == [1, 2]
    assert facts.late_over_time.counts == {"late": [3, 0], "buffered": [1, 1]}


def test_sessions_are_the_last_revisions_that_were_not_merged_away(facts: Facts) -> None:
    sessions = facts.sessions
    assert (sessions.count, sessions.revised, sessions.retracted, sessions.capped) == (3, 2, 1, 1)
    assert sessions.median_seconds == pytest.approx(360)
    assert sessions.p90_seconds == pytest.approx(648)
    assert sessions.mean_events == pytest.approx(8 / 3)
    assert [i for i, count in enumerate(sessions.lengths.counts) if count] == [0, 6, 12]


def test_funnel_counts_who_reached_a_step_or_a_later_one(facts: Facts) -> None:
    assert [step.sessions for step in facts.funnel] == [3, 3, 2, 1, 1]
    assert [step.share_of_previous for step in facts.funnel] == [None, 1.0, 2 / 3, 0.5, 1.0]


def test_alerts(facts: Facts) -> None:
    alerts = facts.alerts
    assert alerts.by_severity == {"critical": 1, "high": 0, "medium": 0, "low": 1}
    assert alerts.by_decision == {"allow": 1, "review": 1, "block": 1}
    assert [alert.alert_id for alert in alerts.top] == ["a3", "a2"]
    assert alerts.top[0].at == datetime(2026, 1, 1, 2, tzinfo=UTC)
    assert alerts.top[0].reasons == [
        Reason("dear", 0.7, "12.4 times the usual amount"),
        Reason("many_cards", 0.4, "4 cards in 10 min"),
    ]
    assert [alerts.scores[d].counts.index(1) for d in ("allow", "review", "block")] == [0, 13, 24]


def test_top_alerts_are_of_different_customers_first(tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [
        (name, name, user, None, shop.at(0), amount, "EUR", score, "high", "block", [])
        for name, user, amount, score in (
            ("a1", "u1", 10.0, 0.9),
            ("a2", "u1", 99.0, 0.9),
            ("a3", "u2", 10.0, 0.6),
            ("a4", "u1", 10.0, 0.8),
            ("a5", "u3", 11.0, 0.6),
        )
    ]
    shop.write_alerts(tmp_path, rows)
    top = gather_lake(tmp_path).alerts.top
    assert [alert.alert_id for alert in top] == ["a2", "a5", "a3", "a1", "a4"]


def test_frauds_that_were_noticed(facts: Facts) -> None:
    assert facts.fraud is not None
    assert facts.fraud.kinds == [
        FraudKind(kind="account_takeover", cases=1, caught=0, payments=1, alerted_payments=0),
        FraudKind(kind="card_burst", cases=2, caught=1, payments=3, alerted_payments=1),
    ]
    assert facts.fraud.precision == 0.5


def test_how_right_alerts_were_week_by_week(tmp_path: Path) -> None:
    dice = random.Random(3)
    scores = [
        (f"t{n}", shop.at(24 * dice.randrange(20) + 1), 9.0, 0.6, dice.choice(("allow", "review")))
        for n in range(300)
    ]
    verdicts = {name: dice.choice(("fraud", "legitimate")) for name, *_ in scores[:200]}
    taken_back = [(name, shop.at(999), "legitimate", "on_time") for name in list(verdicts)[:20]]
    first = [(name, shop.at(500), verdict, "on_time") for name, verdict in verdicts.items()]
    shop.write(tmp_path, "scores", shop.SCORE_COLUMNS, scores)
    shop.write(tmp_path, "labels", shop.LABEL_COLUMNS, [*taken_back, *first])
    verdicts |= {name: verdict for name, _, verdict, _ in taken_back}

    def of_week(day: int) -> tuple[int, int, int]:
        week = [
            (decision != "allow", verdicts[name] == "fraud")
            for name, at_us, _, _, decision in scores
            if name in verdicts and day - 6 <= (at_us - shop.START) // (24 * shop.HOUR) <= day
        ]
        alerted = sum(alerted for alerted, _ in week)
        return alerted, sum(fraud for _, fraud in week), week.count((True, True))

    judged = gather_lake(tmp_path).judged
    found = {
        (each.day - datetime(2026, 1, 1, tzinfo=UTC)).days: (each.alerted, each.frauds, each.caught)
        for each in judged
    }
    assert list(found) == sorted(found)
    assert found == {day: of_week(day) for day in found}
    assert len(found) >= 19
    assert judged[-1].precision == judged[-1].caught / judged[-1].alerted


def test_payments_that_drift(tmp_path: Path) -> None:
    dice = random.Random(5)
    scores = [
        (f"t{n}", shop.at(n / 10), dice.gauss(50 if n < 2_800 else 200, 10), dice.random(), "allow")
        for n in range(4_000)
    ]
    shop.write(tmp_path, "scores", shop.SCORE_COLUMNS, scores)
    drift = gather_lake(tmp_path).drift
    assert [each.day.day for each in drift] == list(range(8, 18))
    assert all(each.index["score"] < CHANGED for each in drift)
    moved = [each.index["total_amount"] >= MUCH_CHANGED for each in drift]
    assert moved == [False] * 6 + [True] * 4  # the last of a week weigh little in it


def test_of_a_few_days_nothing_drifts_and_without_labels_nothing_is_judged(facts: Facts) -> None:
    assert (facts.judged, facts.drift) == ([], [])


def test_metrics(facts: Facts) -> None:
    metrics = facts.metrics
    assert (metrics.windows, metrics.series, metrics.anomalies) == (3, 2, 1)
    (anomaly,) = metrics.top
    assert (anomaly.at.hour, anomaly.score) == (1, 0.87)
    assert metrics.shown is not None
    assert (metrics.shown.name, metrics.shown.value) == ("clicks", [4.0, 3.0])
    assert (metrics.shown.lower, metrics.shown.upper) == ([None, 30.0], [None, 61.0])


def test_behaviour(facts: Facts) -> None:
    behaviour = facts.behaviour
    assert behaviour.incidents == 2
    kinds = {
        kind.behaviour: (kind.incidents, kind.subjects, kind.hidden, kind.found)
        for kind in behaviour.kinds
    }
    assert kinds == {
        "credential_stuffing": (1, 1, 2, 1),
        "scraping": (1, 1, None, None),
        "cart_abuse": (0, 0, 1, 0),
    }
    assert [(top.behaviour, top.subject, top.events) for top in behaviour.top] == [
        ("credential_stuffing", "d1", 5),
        ("scraping", "u1", 7),
    ]
    assert behaviour.top[1].text == "61 products"


def test_dead_letters_and_reprocess_requests(facts: Facts) -> None:
    assert [(of.reason, of.count, of.by_source) for of in facts.dead_letters] == [
        ("not_json", 2, {"clickstream": 1, "transactions": 1}),
        ("missing_user", 1, {"clickstream": 1}),
        ("too_late", 1, {"transactions": 1}),
    ]
    assert [(r.source, r.requests, r.late_events) for r in facts.reprocessing] == [
        ("clickstream", 1, 1),
        ("transactions", 1, 1),
    ]


def test_a_run_that_adds_up(facts: Facts) -> None:
    assert [check for check in facts.checks if not check.good] == []
    assert len(facts.checks) > 30
    assert facts.adds_up


def _with(flow: str, **changes: int) -> list[FlowTotals]:
    """The totals where a flow says something else; names with a dot are fates."""
    totals = shop.totals()
    total = next(total for total in totals if total.flow == flow)
    for name, by in changes.items():
        if name in total.fates:
            total.fates[name] += by
        if hasattr(total, name):
            setattr(total, name, getattr(total, name) + by)
    return totals


@pytest.mark.parametrize(
    ("flow", "changes", "noticed"),
    [
        ("ingest", {"records_in": 1}, "ingest: records in, against their fates"),
        ("load", {"lag_records": 3}, "load: records not read yet"),
        ("ingest", {"duplicate": 1}, "ingest: duplicate, against those injected"),
        ("ingest", {"expired": -1}, "late: records in, against ingest's"),
        ("late", {"buffered": 1}, "lake: buffered events, against the late buffer"),
        ("sessionize", {"late": 1}, "lake: events in final sessions, against sessionize"),
        ("score", {"good": -1}, "lake: scores, against score"),
        ("features", {"failed": 1}, "lake: dead letters, against all flows' failed"),
        ("measure", {"records_in": 1}, "measure: records in, against timely events in the lake"),
        ("load", {"good": 1}, "lake: all rows, against load"),
    ],
)
def test_a_wrong_count_is_noticed(
    tmp_path: Path, flow: str, changes: dict[str, int], noticed: str
) -> None:
    shop.write_lake(tmp_path)
    facts = gather(tmp_path, _with(flow, **changes), shop.truth(), [], shop.FIGURES)
    assert noticed in [check.what for check in facts.checks if not check.good]
    assert not facts.adds_up


def _lose_a_click(lake: Path) -> None:
    next(iter(sorted((lake / "clickstream").glob("*/*.parquet")))).unlink()


def _repeat_an_alert(lake: Path) -> None:
    shop.write_alerts(
        lake, [("a2", "t2", "u1", None, shop.at(1.7), 0.2, "EUR", 0.55, "low", "review", [])]
    )


def _count_a_click_twice(lake: Path) -> None:
    row = ("clicks", None, shop.at(2), shop.at(3), 1.0, None, None, None, 0.0, "v2")
    shop.write_metrics(lake, [row])


def _repeat_an_anomaly(lake: Path) -> None:
    shop.write_anomalies(lake, [("n1", "clicks", None, shop.at(1), 0.87, "again")])


def _repeat_an_incident(lake: Path) -> None:
    row = ("i1", "scraping", "medium", "u1", None, shop.at(1), shop.at(1), 1, False, 1, "again")
    shop.write_incidents(lake, [row])


def test_an_incident_that_was_taken_back_is_in_no_figure(tmp_path: Path) -> None:
    shop.write_lake(tmp_path)
    before = gather_lake(tmp_path).behaviour
    session = ("i3", "unusual_session", "critical", "u1", None, shop.at(1), shop.at(1.5))
    rows = [(*session, 90, True, 1, "long"), (*session, 0, True, 2, "taken back")]
    shop.write_incidents(tmp_path, rows)
    assert gather_lake(tmp_path).behaviour == before


def _change_an_amount(lake: Path) -> None:
    columns = {"event_timestamp": shop.TIME, "lateness": pa.string(), "total_amount": shop.MONEY}
    row = (shop.at(1), "on_time", 1, "captured")
    shop.write(lake, "transactions", {**columns, "status": pa.string()}, [row])


@pytest.mark.parametrize(
    ("damage", "noticed"),
    [
        (_lose_a_click, "lake: clickstream on_time, against those injected"),
        (_repeat_an_alert, "lake: different alerts, against all alerts"),
        (_count_a_click_twice, "lake: clicks of all windows, against timely clicks then"),
        (_repeat_an_anomaly, "lake: anomalies, against windows of metrics whose score says so"),
        (_repeat_an_incident, "lake: different incidents, against all that began"),
        (_change_an_amount, "lake: revenue in time in EUR, against what was paid"),
    ],
)
def test_a_wrong_lake_is_noticed(
    tmp_path: Path, damage: Callable[[Path], None], noticed: str
) -> None:
    shop.write_lake(tmp_path)
    damage(tmp_path)
    facts = gather(tmp_path, shop.totals(), shop.truth(), [], shop.FIGURES)
    assert noticed in [check.what for check in facts.checks if not check.good]


@pytest.mark.parametrize(
    ("days", "noticed"),
    [
        ({}, []),
        ({"2026-03-02": DayTruth(clicks=1)}, ["clicks"]),
        ({"2026-03-01": DayTruth(clicks=3, payments=2, purchases=1, revenue="9.99")}, ["revenue"]),
        ({"2026-03-01": DayTruth()}, ["clicks", "payments", "purchases", "revenue"]),
    ],
)
def test_a_day_of_gold_that_is_not_what_happened_is_noticed(
    days: dict[str, DayTruth], noticed: list[str]
) -> None:
    happened = {"2026-03-01": DayTruth(clicks=3, payments=2, purchases=1, revenue="10.00")}
    checks = check_days(happened, happened | days)
    bad = [check.what for check in checks if not check.good]
    assert bad == [f"gold: days whose {figure} are those injected" for figure in noticed]
    assert all(not check.good for check in check_days(happened, {}))


def test_no_lake_is_all_zeros(tmp_path: Path) -> None:
    facts = gather_lake(tmp_path / "missing")
    assert facts.sessions.count == facts.alerts.count == 0
    assert all(source.on_time == 0 for source in facts.sources)
    assert facts.fraud is None
    assert facts.adds_up


def test_nothing_where_much_was_injected_does_not_add_up(tmp_path: Path) -> None:
    assert not gather(tmp_path, [], shop.truth(), [], NOTHING).adds_up


@pytest.mark.parametrize("folder", ["a [x] *?", "it's", 'say "lake"', "ünïcode 🌊"])
def test_any_folder_name(tmp_path: Path, folder: str) -> None:
    assert shop.facts(tmp_path / folder).adds_up


def test_a_source_of_ones_own(tmp_path: Path) -> None:
    shop.write(
        tmp_path,
        "returns",
        {"moment": shop.TIME, "lateness": pa.string()},
        [(shop.at(30), "on_time")],
    )
    shop.write(tmp_path, "notes", {"text": pa.string()}, [("not a source",)])
    facts = gather_lake(tmp_path)
    assert [s.source for s in facts.sources if s.on_time] == ["returns"]
    assert facts.traffic.at == [datetime(2026, 1, 2, tzinfo=UTC)]


def test_facts_are_readable_by_a_program(facts: Facts) -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(facts))
    assert decoded["sessions"]["count"] == 3
    assert decoded["checks"][0].keys() == {"what", "expected", "got", "good"}


_revisions = st.lists(
    st.tuples(
        st.sampled_from(["s1", "s2", "s3"]),
        st.integers(0, 90),  # minutes
        st.sampled_from(FUNNEL),
        st.sampled_from([None, "s9"]),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=25)
@given(_revisions)
def test_final_sessions_by_brute_force(revisions: list[tuple[str, int, str, str | None]]) -> None:
    last: dict[str, tuple[int, str, str | None]] = {}
    rows = []
    for revision, (name, minutes, stage, successor) in enumerate(revisions, 1):
        last[name] = minutes, stage, successor
        end = shop.at(minutes / 60)
        rows.append((name, shop.at(0), end, 1, stage, False, revision, successor))
    final = [(minutes, stage) for minutes, stage, successor in last.values() if not successor]
    with TemporaryDirectory() as folder:
        if rows:
            shop.write_sessions(Path(folder), rows)
        facts = gather_lake(Path(folder))
    assert facts.sessions.count == len(final)
    assert facts.sessions.retracted == len(last) - len(final)
    reached = [sum(FUNNEL.index(stage) >= i for _, stage in final) for i in range(len(FUNNEL))]
    assert [step.sessions for step in facts.funnel] == reached
    minutes_of = [min(minutes, LENGTH_MINUTES) for minutes, _ in final]
    assert facts.sessions.lengths.counts == [
        minutes_of.count(minute) for minute in range(LENGTH_MINUTES + 1)
    ]
