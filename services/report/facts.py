"""Facts of a run, out of the Parquet lake, the flows' counts and, if there is one, the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec

from services.report.checks import Check, LakeCounts, Tally, check_all, tallies
from services.report.lake import DERIVED, SOURCES, open_lake
from services.simulator.truth import GroundTruth
from services.status.slots import FlowTotals

LATENESS = ("on_time", "late", "buffered")
FUNNEL = ("visit", "product_view", "cart", "checkout", "purchase")
SEVERITIES = ("critical", "high", "medium", "low")
DECISIONS = ("allow", "review", "block")
TOP_ALERTS = 10
PLOTTED_ALERTS = 2_000
LENGTH_MINUTES = 60  # longer sessions share the last bar of the histogram
SCORE_BINS = 25
HOURLY_UP_TO_DAYS = 45


class LagSample(msgspec.Struct, frozen=True):
    """How far a flow was behind, `seconds` after the start of the run."""

    seconds: float
    flow: str
    lag_records: int


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What only the run itself knows; latencies from an event's arrival to its alert."""

    events: int
    wall_seconds: float
    events_per_second: float
    alert_latency_p50_ms: float | None = None
    alert_latency_p99_ms: float | None = None
    started_at: str = ""
    seed: int | None = None
    days: int | None = None


class SourceCount(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a source by lateness; `expired` and `rejected` are dead letters."""

    source: str
    on_time: int = 0
    late: int = 0
    buffered: int = 0
    expired: int = 0
    rejected: int = 0

    @property
    def events(self) -> int:
        """In the lake."""
        return self.on_time + self.late + self.buffered


class Series(msgspec.Struct, frozen=True):
    """Counts over event time; `at` are the starts of the hours or days that have any."""

    bucket: str  # hour or day
    at: list[datetime]
    counts: dict[str, list[int]]


class Histogram(msgspec.Struct, frozen=True):
    """counts[i] lie in [edges[i], edges[i + 1])."""

    edges: list[float]
    counts: list[int]


class SessionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The final sessions; `revised` were corrected by late events, `retracted` merged away."""

    count: int
    median_seconds: float
    p90_seconds: float
    mean_events: float
    capped: int
    revised: int
    retracted: int
    lengths: Histogram  # minutes, the last bar without an upper bound


class FunnelStep(msgspec.Struct, frozen=True):
    """Sessions that reached a stage or a later one; shares in 0..1, of the step before."""

    stage: str
    sessions: int
    share_of_all: float
    share_of_previous: float | None


class Reason(msgspec.Struct, frozen=True):
    rule: str
    weight: float
    text: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    alert_id: str
    transaction_id: str
    user_id: str
    device_id: str | None
    at: datetime
    amount: float
    currency: str
    score: float
    severity: str
    decision: str
    reasons: list[Reason]


class AlertFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`top` has the highest scores, then amounts, of different customers as long as there are any;
    `highest` are those on the time line."""

    count: int
    by_severity: dict[str, int]
    scored: int
    by_decision: dict[str, int]
    scores: dict[str, Histogram]  # by decision
    top: list[Alert]
    highest: list[Alert]


class FraudKind(msgspec.Struct, frozen=True, kw_only=True):
    """Cases of an injected kind; `caught` had at least one alert."""

    kind: str
    cases: int
    caught: int
    payments: int
    alerted_payments: int


class FraudFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How alerts compare with the injected frauds, payment by payment."""

    kinds: list[FraudKind]
    alerted_payments: int
    fraudulent_among_them: int

    @property
    def precision(self) -> float | None:
        """Share of alerted payments that are fraudulent."""
        return self.fraudulent_among_them / self.alerted_payments if self.alerted_payments else None


class DeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    reason: str
    source: str
    count: int
    example: str


class Reprocessing(msgspec.Struct, frozen=True, kw_only=True):
    """Requests to merge late events in the warehouse."""

    source: str
    requests: int
    dates: int
    late_events: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that the summary and the page show."""

    figures: RunFigures
    sources: list[SourceCount]
    traffic: Series  # by source
    late_over_time: Series  # by lateness, without those on time
    sessions: SessionFacts
    funnel: list[FunnelStep]
    alerts: AlertFacts
    fraud: FraudFacts | None
    dead_letters: list[DeadLetters]
    reprocessing: list[Reprocessing]
    lag: list[LagSample]
    ingested: list[Tally]
    flows: list[FlowTotals]
    checks: list[Check]

    @property
    def adds_up(self) -> bool:
        return all(check.good for check in self.checks)


def gather(
    lake: Path,
    totals: Sequence[FlowTotals],
    truth: GroundTruth | None,
    lag_samples: Sequence[LagSample],
    figures: RunFigures,
) -> Facts:
    """Reads the lake. The same lake and counts give the same facts.

    Args:
        lake: its folder; it, or any table, may be missing.
        totals: of every flow that ran.
        truth: what was injected, for simulated data.

    Raises:
        LakeError: a table of the lake cannot be read.
    """
    views = open_lake(lake)
    dead_letters = _dead_letters(views)
    sources = _sources(views, dead_letters)
    ingested = tallies(totals, truth)
    return Facts(
        figures=figures,
        sources=sources,
        traffic=_series(views, "source", "true"),
        late_over_time=_series(views, "lateness", "lateness <> 'on_time'"),
        sessions=_sessions(views),
        funnel=_funnel(views),
        alerts=_alerts(views),
        fraud=_fraud(views, truth) if truth else None,
        dead_letters=dead_letters,
        reprocessing=_reprocessing(views),
        lag=list(lag_samples),
        ingested=ingested,
        flows=list(totals),
        checks=check_all(totals, truth, ingested, _lake_counts(views, sources)),
    )


def _dead_letters(views: duckdb.DuckDBPyConnection) -> list[DeadLetters]:
    rows = views.execute(
        """SELECT reason, coalesce(split_part(contract, '/', 1), '') AS source,
               count(*), coalesce(min(message), '')
           FROM dead_letters GROUP BY ALL ORDER BY count(*) DESC, reason, source"""
    ).fetchall()
    names = ("reason", "source", "count", "example")
    return [DeadLetters(**dict(zip(names, row, strict=True))) for row in rows]


def _sources(
    views: duckdb.DuckDBPyConnection, dead_letters: Sequence[DeadLetters]
) -> list[SourceCount]:
    """The shop's own sources, written to or not, then any others."""
    counts: dict[str, dict[str, int]] = {source: {} for source in SOURCES}
    for source, lateness, count in views.execute(
        "SELECT source, lateness, count(*) FROM events GROUP BY ALL ORDER BY source"
    ).fetchall():
        counts.setdefault(source, {})[lateness] = count
    for letters in dead_letters:
        if letters.source in counts:
            kind = "expired" if letters.reason == "too_late" else "rejected"
            of_source = counts[letters.source]
            of_source[kind] = of_source.get(kind, 0) + letters.count
    return [
        msgspec.convert({"source": source, **by_kind}, SourceCount)
        for source, by_kind in counts.items()
    ]


def _series(views: duckdb.DuckDBPyConnection, name: str, condition: str) -> Series:
    """Counts of the events that meet the condition, by the column `name`."""
    (days,) = _row(views, "SELECT coalesce(date_diff('day', min(at), max(at)), 0) FROM events")
    bucket = "hour" if name == "source" and days <= HOURLY_UP_TO_DAYS else "day"
    rows = views.execute(
        f"""SELECT date_trunc('{bucket}', at)::TIMESTAMP AS start, {name}, count(*)
            FROM events WHERE {condition} GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    starts = sorted({start for start, _, _ in rows})
    order = {start: position for position, start in enumerate(starts)}
    known = SOURCES if name == "source" else LATENESS
    names = sorted({name for _, name, _ in rows}, key=lambda name: _rank(known, name))
    counts = {name: [0] * len(starts) for name in names}
    for start, name, count in rows:
        counts[name][order[start]] = count
    return Series(bucket, [start.replace(tzinfo=UTC) for start in starts], counts)


def _rank(known: Sequence[str], name: str) -> tuple[int, str]:
    return (known.index(name) if name in known else len(known), name)


def _sessions(views: duckdb.DuckDBPyConnection) -> SessionFacts:
    count, median, p90, events, capped, revised = _row(
        views,
        """SELECT count(*), quantile_cont(seconds, 0.5), quantile_cont(seconds, 0.9),
               avg(event_count), count_if(capped), count_if(revision > 1)
           FROM final_sessions""",
    )
    (retracted,) = _row(
        views, "SELECT count_if(superseded_by IS NOT NULL) FROM last_revisions"
    )
    bars = _bars(
        views,
        f"SELECT least(seconds // 60, {LENGTH_MINUTES})::INT AS bin FROM final_sessions",
    )
    return SessionFacts(
        count=count,
        median_seconds=median or 0.0,
        p90_seconds=p90 or 0.0,
        mean_events=events or 0.0,
        capped=capped,
        revised=revised,
        retracted=retracted,
        lengths=Histogram(
            [float(minute) for minute in range(LENGTH_MINUTES + 2)],
            [bars.get(minute, 0) for minute in range(LENGTH_MINUTES + 1)],
        ),
    )


def _funnel(views: duckdb.DuckDBPyConnection) -> list[FunnelStep]:
    ended = dict(
        views.execute("SELECT funnel_stage, count(*) FROM final_sessions GROUP BY ALL").fetchall()
    )
    reached = [sum(ended.get(stage, 0) for stage in FUNNEL[i:]) for i in range(len(FUNNEL))]
    return [
        FunnelStep(
            stage,
            sessions,
            sessions / reached[0] if reached[0] else 0.0,
            (sessions / reached[i - 1] if reached[i - 1] else 0.0) if i else None,
        )
        for i, (stage, sessions) in enumerate(zip(FUNNEL, reached, strict=True))
    ]


def _alerts(views: duckdb.DuckDBPyConnection) -> AlertFacts:
    by_severity = dict(
        views.execute("SELECT severity, count(*) FROM alerts GROUP BY ALL").fetchall()
    )
    by_decision = dict(
        views.execute("SELECT decision, count(*) FROM scores GROUP BY ALL").fetchall()
    )
    highest = "score DESC, total_amount DESC, alert_id"
    nth_of_customer = f"row_number() OVER (PARTITION BY user_id ORDER BY {highest})"
    return AlertFacts(
        count=sum(by_severity.values()),
        by_severity=_in_order(SEVERITIES, by_severity),
        scored=sum(by_decision.values()),
        by_decision=_in_order(DECISIONS, by_decision),
        scores={
            decision: _scores(views, decision)
            for decision in _in_order(DECISIONS, by_decision)
        },
        top=_alert_rows(views, f"{nth_of_customer}, {highest}", TOP_ALERTS),
        highest=_alert_rows(views, highest, PLOTTED_ALERTS),
    )


def _alert_rows(views: duckdb.DuckDBPyConnection, order: str, limit: int) -> list[Alert]:
    rows = views.execute(
        f"""SELECT alert_id, transaction_id, user_id, device_id,
                make_timestamp(epoch_us(event_timestamp)), total_amount, currency, score,
                severity, decision, coalesce(reasons, [])
            FROM alerts ORDER BY {order} LIMIT {limit}"""
    ).fetchall()
    return [_alert(row) for row in rows]


def _alert(row: tuple) -> Alert:  # type: ignore[type-arg]
    values = dict(zip(Alert.__struct_fields__, row, strict=True))
    values["at"] = values["at"].replace(tzinfo=UTC)
    values["reasons"].sort(key=lambda reason: -reason["weight"])
    return msgspec.convert(values, Alert)


def _scores(views: duckdb.DuckDBPyConnection, decision: str) -> Histogram:
    bars = _bars(
        views,
        f"""SELECT greatest(0, least(floor(score * {SCORE_BINS}), {SCORE_BINS - 1}))::INT AS bin
            FROM scores WHERE decision = ?""",
        decision,
    )
    edges = [position / SCORE_BINS for position in range(SCORE_BINS + 1)]
    return Histogram(edges, [bars.get(position, 0) for position in range(SCORE_BINS)])


def _fraud(views: duckdb.DuckDBPyConnection, truth: GroundTruth) -> FraudFacts:
    alerted = {
        transaction
        for (transaction,) in views.execute(
            "SELECT DISTINCT transaction_id FROM alerts"
        ).fetchall()
    }
    kinds = {}
    fraudulent: set[str] = set()
    for kind in dict.fromkeys(case.kind for case in truth.frauds):
        cases = [set(case.transaction_ids) for case in truth.frauds if case.kind == kind]
        payments = set().union(*cases)
        fraudulent |= payments
        kinds[kind] = FraudKind(
            kind=kind,
            cases=len(cases),
            caught=sum(not alerted.isdisjoint(case) for case in cases),
            payments=len(payments),
            alerted_payments=len(payments & alerted),
        )
    return FraudFacts(
        kinds=[kinds[kind] for kind in sorted(kinds)],
        alerted_payments=len(alerted),
        fraudulent_among_them=len(alerted & fraudulent),
    )


def _reprocessing(views: duckdb.DuckDBPyConnection) -> list[Reprocessing]:
    rows = views.execute(
        """SELECT source, count(*), count(DISTINCT event_date), sum(late_events)::BIGINT
           FROM reprocess_requests GROUP BY source ORDER BY source"""
    ).fetchall()
    names = Reprocessing.__struct_fields__
    return [Reprocessing(**dict(zip(names, row, strict=True))) for row in rows]


def _lake_counts(views: duckdb.DuckDBPyConnection, sources: Sequence[SourceCount]) -> LakeCounts:
    derived = {table: _row(views, f"SELECT count(*) FROM {table}")[0] for table in DERIVED}
    repeated, session_events, revenue = _row(
        views,
        """SELECT (SELECT count(*) - count(DISTINCT alert_id) FROM alerts),
               (SELECT coalesce(sum(event_count), 0)::BIGINT FROM final_sessions),
               (SELECT coalesce(sum(total_amount), 0)::DECIMAL(38, 2) FROM transactions
                WHERE status IN ('authorized', 'captured') AND lateness <> 'buffered')""",
    )
    return LakeCounts(
        events={
            source.source: {name: getattr(source, name) for name in LATENESS}
            for source in sources
        },
        derived=derived,
        repeated_alerts=repeated,
        session_events=session_events,
        revenue_in_time=revenue,
    )


def _bars(views: duckdb.DuckDBPyConnection, bins: str, *values: str) -> dict[int, int]:
    query = f"SELECT bin, count(*) FROM ({bins}) WHERE bin IS NOT NULL GROUP BY bin"
    return dict(views.execute(query, values).fetchall())


def _in_order(known: Sequence[str], counts: Mapping[str, int]) -> dict[str, int]:
    """All the known names in their order, then any others."""
    names = [*known, *sorted(set(counts) - set(known))]
    return {name: counts.get(name, 0) for name in names}


def _row(views: duckdb.DuckDBPyConnection, query: str) -> tuple:  # type: ignore[type-arg]
    row = views.execute(query).fetchone()
    assert row is not None
    return row
