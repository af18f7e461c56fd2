"""Facts of a run, out of the Parquet lake, the flows' counts and, if there is one, the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from dataflows.detection.anomalies import ALERT_AT
from dataflows.eventtime.funnel import FUNNEL
from services.report.behaviour import behaviour_facts
from services.report.checks import LakeCounts, check_all, check_days, tallies
from services.report.detection import drift_days, judged_days
from services.report.lake import Lake
from services.report.model import (
    Alert,
    AlertFacts,
    DeadLetters,
    Facts,
    FraudFacts,
    FraudKind,
    FunnelStep,
    Histogram,
    JudgedSeries,
    LagSample,
    MetricFacts,
    Reprocessing,
    RuleFacts,
    RunFigures,
    Series,
    SessionFacts,
    SourceCount,
    TopAnomaly,
    WarehouseFacts,
)
from services.simulator.settings import SOURCES
from services.simulator.truth import DayTruth, GroundTruth
from services.status.slots import FlowTotals

LATENESS = ("on_time", "late", "buffered")
SEVERITIES = ("critical", "high", "medium", "low")
DECISIONS = ("allow", "review", "block")
TOP_ALERTS = 10
TOP_ANOMALIES = 10
PLOTTED_ALERTS = 2_000
LENGTH_MINUTES = 60  # longer sessions share the last bar of the histogram
SCORE_BINS = 25
HOURLY_UP_TO_DAYS = 45


def gather(
    lake: Path,
    totals: Sequence[FlowTotals],
    truth: GroundTruth | None,
    lag_samples: Sequence[LagSample],
    figures: RunFigures,
    warehouse: WarehouseFacts | None = None,
    rules: Sequence[RuleFacts] = (),
) -> Facts:
    """Reads the lake. The same lake and counts give the same facts.

    Args:
        lake: its folder; it, or any table, may be missing.
        totals: of every flow that ran.
        truth: what was injected, for simulated data.

    Raises:
        LakeError: a table of the lake cannot be read.
    """
    tables = Lake(lake)
    dead_letters = _dead_letters(tables)
    sources = _sources(tables, dead_letters)
    ingested = tallies(totals, truth)
    return Facts(
        figures=figures,
        sources=sources,
        traffic=_traffic(tables),
        late_over_time=_series(tables, "day", "lateness", LATENESS, "lateness <> 'on_time'"),
        sessions=_sessions(tables),
        funnel=_funnel(tables),
        alerts=_alerts(tables),
        fraud=_fraud(tables, truth) if truth else None,
        behaviour=behaviour_facts(tables, truth),
        metrics=_metrics(tables),
        dead_letters=dead_letters,
        reprocessing=_reprocessing(tables),
        lag=list(lag_samples),
        ingested=ingested,
        flows=list(totals),
        checks=[
            *check_all(totals, truth, ingested, _lake_counts(tables, sources)),
            *(check_days(truth.daily, _gold(warehouse)) if truth and warehouse else ()),
        ],
        rules=list(rules),
        judged=judged_days(tables),
        drift=drift_days(tables),
        warehouse=warehouse,
    )


def _gold(warehouse: WarehouseFacts) -> dict[str, DayTruth]:
    """The days of gold as a truth would tell them."""
    return {
        day.date: DayTruth(
            clicks=day.clicks,
            payments=day.payments,
            purchases=day.purchases,
            revenue=str(day.revenue),
        )
        for day in warehouse.days
    }


def _dead_letters(lake: Lake) -> list[DeadLetters]:
    """The most frequent reason first, and within it the source."""
    by_reason: dict[str, dict[str, int]] = {}
    examples: dict[str, str] = {}
    for reason, source, count, example in lake.rows(
        """SELECT reason, coalesce(split_part(contract, '/', 1), ''), count(*) AS records,
               coalesce(min(message), '')
           FROM dead_letters GROUP BY ALL ORDER BY records DESC, 1, 2"""
    ):
        by_reason.setdefault(reason, {})[source] = count
        examples.setdefault(reason, example)
    letters = [
        DeadLetters(reason, sum(by_source.values()), by_source, examples[reason])
        for reason, by_source in by_reason.items()
    ]
    return sorted(letters, key=lambda letters: (-letters.count, letters.reason))


def _sources(lake: Lake, dead_letters: Sequence[DeadLetters]) -> list[SourceCount]:
    """The shop's own sources, written to or not, then any others."""
    counts: dict[str, dict[str, int]] = {source: {} for source in SOURCES}
    for source, lateness, count in lake.rows(
        "SELECT source, lateness, count(*) FROM events GROUP BY ALL ORDER BY source"
    ):
        counts.setdefault(source, {})[lateness] = count
    for letters in dead_letters:
        kind = "expired" if letters.reason == "too_late" else "rejected"
        for source in counts.keys() & letters.by_source.keys():
            of_source = counts[source]
            of_source[kind] = of_source.get(kind, 0) + letters.by_source[source]
    return [
        msgspec.convert({"source": source, **by_kind}, SourceCount)
        for source, by_kind in counts.items()
    ]


def _traffic(lake: Lake) -> Series:
    (days,) = lake.row(
        "SELECT coalesce(date_diff('day', min(instant), max(instant)), 0) FROM events"
    )
    bucket = "hour" if days <= HOURLY_UP_TO_DAYS else "day"
    return _series(lake, bucket, "source", SOURCES, "true")


def _series(lake: Lake, bucket: str, column: str, known: Sequence[str], condition: str) -> Series:
    """Counts over time of the events that meet the condition, by `column`."""
    rows = lake.rows(
        f"""SELECT date_trunc('{bucket}', instant)::TIMESTAMP AS start, {column}, count(*)
            FROM events WHERE {condition} GROUP BY ALL ORDER BY ALL"""
    )
    starts = sorted({start for start, _, _ in rows})
    position = {start: i for i, start in enumerate(starts)}
    found = {name for _, name, _ in rows}
    names = [*(name for name in known if name in found), *sorted(found - set(known))]
    counts = {name: [0] * len(starts) for name in names}
    for start, name, count in rows:
        counts[name][position[start]] = count
    return Series(bucket, [start.replace(tzinfo=UTC) for start in starts], counts)


def _sessions(lake: Lake) -> SessionFacts:
    count, median, p90, mean_events, capped, revised = lake.row(
        """SELECT count(*), quantile_cont(seconds, 0.5), quantile_cont(seconds, 0.9),
               avg(event_count), count(*) FILTER (capped), count(*) FILTER (revision > 1)
           FROM final_sessions"""
    )
    (retracted,) = lake.row(
        "SELECT count(*) FILTER (superseded_by IS NOT NULL) FROM last_revisions"
    )
    minutes = lake.counts(
        f"""SELECT least(seconds // 60, {LENGTH_MINUTES})::INT, count(*)
            FROM final_sessions GROUP BY ALL"""
    )
    return SessionFacts(
        count=count,
        median_seconds=median or 0.0,
        p90_seconds=p90 or 0.0,
        mean_events=mean_events or 0.0,
        capped=capped,
        revised=revised,
        retracted=retracted,
        lengths=Histogram(
            [float(minute) for minute in range(LENGTH_MINUTES + 2)],
            [minutes.get(minute, 0) for minute in range(LENGTH_MINUTES + 1)],
        ),
    )


def _funnel(lake: Lake) -> list[FunnelStep]:
    ended = lake.counts("SELECT funnel_stage, count(*) FROM final_sessions GROUP BY ALL")
    reached = [sum(ended.get(stage, 0) for stage in FUNNEL[i:]) for i in range(len(FUNNEL))]
    return [
        FunnelStep(
            stage,
            sessions,
            _share(sessions, reached[0]),
            _share(sessions, reached[i - 1]) if i else None,
        )
        for i, (stage, sessions) in enumerate(zip(FUNNEL, reached, strict=True))
    ]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _alerts(lake: Lake) -> AlertFacts:
    by_severity = lake.counts("SELECT severity, count(*) FROM alerts GROUP BY ALL")
    by_decision = lake.counts("SELECT decision, count(*) FROM scores GROUP BY ALL")
    decisions = _in_order(DECISIONS, by_decision)
    highest = "score DESC, total_amount DESC, alert_id"
    nth_of_customer = f"row_number() OVER (PARTITION BY user_id ORDER BY {highest})"
    return AlertFacts(
        count=sum(by_severity.values()),
        by_severity=_in_order(SEVERITIES, by_severity),
        scored=sum(by_decision.values()),
        by_decision=decisions,
        scores={decision: _scores(lake, decision) for decision in decisions},
        top=_alert_rows(lake, f"{nth_of_customer}, {highest}", TOP_ALERTS),
        highest=_alert_rows(lake, highest, PLOTTED_ALERTS),
    )


def _alert_rows(lake: Lake, order: str, limit: int) -> list[Alert]:
    rows = lake.rows(
        f"""SELECT alert_id, transaction_id, user_id, coalesce(device_id, ''),
                make_timestamp(epoch_us(event_timestamp)), total_amount::DOUBLE,
                coalesce(currency, ''), score, severity, decision, coalesce(reasons, [])
            FROM alerts ORDER BY {order} LIMIT {limit}"""
    )
    return [_alert(row) for row in rows]


def _alert(row: tuple[Any, ...]) -> Alert:
    values = dict(zip(Alert.__struct_fields__, row, strict=True))
    values["at"] = values["at"].replace(tzinfo=UTC)
    values["reasons"].sort(key=lambda reason: -reason["weight"])
    return msgspec.convert(values, Alert)


def _scores(lake: Lake, decision: str) -> Histogram:
    bars = lake.counts(
        f"""SELECT greatest(0, least(floor(score * {SCORE_BINS}), {SCORE_BINS - 1}))::INT, count(*)
            FROM scores WHERE decision = ? GROUP BY ALL""",
        decision,
    )
    edges = [position / SCORE_BINS for position in range(SCORE_BINS + 1)]
    return Histogram(edges, [bars.get(position, 0) for position in range(SCORE_BINS)])


def _fraud(lake: Lake, truth: GroundTruth) -> FraudFacts:
    alerted = {payment for (payment,) in lake.rows("SELECT DISTINCT transaction_id FROM alerts")}
    kinds = []
    fraudulent: set[str] = set()
    for kind in sorted({case.kind for case in truth.frauds}):
        cases = [set(case.transaction_ids) for case in truth.frauds if case.kind == kind]
        payments = set().union(*cases)
        fraudulent |= payments
        kinds.append(
            FraudKind(
                kind=kind,
                cases=len(cases),
                caught=sum(not alerted.isdisjoint(case) for case in cases),
                payments=len(payments),
                alerted_payments=len(payments & alerted),
            )
        )
    return FraudFacts(
        kinds=kinds,
        alerted_payments=len(alerted),
        fraudulent_among_them=len(alerted & fraudulent),
    )


def _metrics(lake: Lake) -> MetricFacts:
    windows, series = lake.row("SELECT count(*), count(DISTINCT (metric, segment)) FROM metrics")
    (anomalies,) = lake.row("SELECT count(*) FROM anomalies")
    top = lake.rows(
        f"""SELECT make_timestamp(epoch_us(window_start)), score, explanation, metric, segment
            FROM anomalies ORDER BY score DESC, anomaly_id LIMIT {TOP_ANOMALIES}"""
    )
    return MetricFacts(
        windows=windows,
        series=series,
        anomalies=anomalies,
        top=[TopAnomaly(at.replace(tzinfo=UTC), *said) for at, *said, _, _ in top],
        shown=_judged(lake, *top[0][-2:]) if top else None,
    )


def _judged(lake: Lake, metric: str, segment: str | None) -> JudgedSeries:
    starts, value, score, _, lower, upper = zip(*lake.windows(metric, segment), strict=True)
    return JudgedSeries(
        name=metric if segment is None else f"{metric} of {segment}",
        at=[datetime.fromtimestamp(start / 1e6, UTC) for start in starts],
        value=list(value),
        score=list(score),
        lower=list(lower),
        upper=list(upper),
    )


def _reprocessing(lake: Lake) -> list[Reprocessing]:
    rows = lake.rows(
        """SELECT source, count(*), count(DISTINCT event_date), sum(late_events)::BIGINT
           FROM reprocess_requests GROUP BY source ORDER BY source"""
    )
    return [Reprocessing(*row) for row in rows]


def _lake_counts(lake: Lake, sources: Sequence[SourceCount]) -> LakeCounts:
    alerts, held_back, suspicious, session_events, payments_to_score, revenue = lake.row(
        """SELECT (SELECT count(DISTINCT alert_id) FROM alerts),
               (SELECT coalesce(sum(held_back), 0)::BIGINT FROM floods WHERE is_over),
               (SELECT count(*) FILTER (decision <> 'allow') FROM scores),
               (SELECT coalesce(sum(event_count), 0)::BIGINT FROM final_sessions),
               count(*) FILTER (status IS DISTINCT FROM 'refunded'),
               coalesce(sum(total_amount) FILTER (status IN ('authorized', 'captured')), 0)
                   ::DECIMAL(38, 2)
           FROM transactions WHERE lateness IN ('on_time', 'late')"""
    )
    clicks, of_metric, anomalous = lake.row(
        f"""WITH clicks AS (FROM metrics WHERE metric = 'clicks' AND segment IS NULL)
            SELECT (
                    SELECT count(*) FROM events WHERE source = 'clickstream'
                        AND lateness IN ('on_time', 'late')
                        AND instant >= (SELECT min(window_start)::TIMESTAMP FROM clicks)
                        AND instant < (SELECT max(window_end)::TIMESTAMP FROM clicks)
                ),
                (SELECT coalesce(sum(value), 0)::BIGINT FROM clicks),
                (SELECT count(*) FROM metrics WHERE score >= {ALERT_AT})"""
    )
    incidents, begun = lake.row(
        "SELECT count(DISTINCT incident_id), count(*) FILTER (revision = 1) FROM incidents"
    )
    return LakeCounts(
        events={
            source.source: {name: getattr(source, name) for name in LATENESS} for source in sources
        },
        derived={table: lake.row(f'SELECT count(*) FROM "{table}"')[0] for table in lake.derived},
        alerts=alerts,
        suspicious=suspicious,
        held_back=held_back,
        payments_to_score=payments_to_score,
        session_events=session_events,
        revenue_in_time=revenue,
        clicks_in_windows=clicks,
        clicks_of_metric=of_metric,
        anomalous_windows=anomalous,
        incidents=incidents,
        incidents_begun=begun,
    )


def _in_order(known: Sequence[str], counts: Mapping[str, int]) -> dict[str, int]:
    """All the known names in their order, then any others."""
    names = [*known, *sorted(set(counts) - set(known))]
    return {name: counts.get(name, 0) for name in names}
