"""What there is to know about a run."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from services.report.checks import Check, Tally
from services.status.slots import FlowTotals


class LagSample(msgspec.Struct, frozen=True):
    """How far a flow was behind, `seconds` after the start of the run."""

    seconds: float
    flow: str
    lag_records: int


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What only the run itself knows. Latencies are from an event's arrival to its alert; None or
    nan without alerts."""

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
    """Why, in words; the weights rank the reasons of an alert."""

    rule: str
    weight: float
    text: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that is held to be suspicious; reasons, the weightiest first."""

    alert_id: str
    transaction_id: str
    user_id: str
    device_id: str
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


class RuleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How right a rule was, by the labels that have come; `alone`: no live rule fires beside it."""

    rule: str
    state: str
    hits: int
    fraud: int
    legitimate: int
    alone: int
    precision: float | None  # of the hits that are labelled
    recall: float | None
    example: str


class JudgedDay(msgspec.Struct, frozen=True):
    """Payments of a week up to a day that have a label: with an alert, fraudulent, both."""

    day: datetime
    alerted: int
    frauds: int
    caught: int

    @property
    def precision(self) -> float | None:
        return self.caught / self.alerted if self.alerted else None

    @property
    def recall(self) -> float | None:
        return self.caught / self.frauds if self.frauds else None


class DriftDay(msgspec.Struct, frozen=True):
    """How far the payments of a week up to a day have moved from those of the first week: the
    population stability index, by column."""

    day: datetime
    index: dict[str, float]


class TopAnomaly(msgspec.Struct, frozen=True):
    """A window of a metric that is unlike those before, in words."""

    at: datetime
    score: float
    explanation: str


class JudgedSeries(msgspec.Struct, frozen=True, kw_only=True):
    """A metric's windows, with what was expected of each; None where there is no number."""

    name: str
    at: list[datetime]
    value: list[float | None]
    score: list[float]
    lower: list[float | None]
    upper: list[float | None]


class MetricFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`top` are the anomalies with the highest scores, `shown` the series of the first of them."""

    windows: int  # of all series
    series: int
    anomalies: int
    top: list[TopAnomaly]
    shown: JudgedSeries | None


class BehaviourKind(msgspec.Struct, frozen=True):
    """Incidents of a behaviour, of so many users or devices; `example` is in words. `hidden` are
    the cases that were injected, `found` those of them that are an incident."""

    behaviour: str
    incidents: int
    subjects: int
    example: str
    hidden: int | None
    found: int | None


class TopIncident(msgspec.Struct, frozen=True):
    """An incident as far as it is known."""

    at: datetime
    behaviour: str
    severity: str
    subject: str
    events: int
    text: str


class BehaviourFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`top` are the most severe incidents, the longest first."""

    kinds: list[BehaviourKind]
    top: list[TopIncident]

    @property
    def incidents(self) -> int:
        return sum(kind.incidents for kind in self.kinds)


class DeadLetters(msgspec.Struct, frozen=True):
    """Records rejected for a reason; `example` is the message of one of them."""

    reason: str
    count: int
    by_source: dict[str, int]
    example: str


class Reprocessing(msgspec.Struct, frozen=True):
    """Requests to merge late events in the warehouse."""

    source: str
    requests: int
    dates: int
    late_events: int


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A day as gold has it; revenue in the reporting currency."""

    date: str
    clicks: int
    payments: int
    purchases: int
    revenue: Decimal


class WarehouseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a build of the warehouse made of the run's lake."""

    seconds: float
    models: int
    tests: int
    currency: str
    days: list[Day]


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
    behaviour: BehaviourFacts
    metrics: MetricFacts
    dead_letters: list[DeadLetters]
    reprocessing: list[Reprocessing]
    lag: list[LagSample]
    ingested: list[Tally]
    flows: list[FlowTotals]
    checks: list[Check]
    rules: list[RuleFacts] = []
    judged: list[JudgedDay] = []
    drift: list[DriftDay] = []
    warehouse: WarehouseFacts | None = None

    @property
    def simulated(self) -> bool:
        """What was injected is known."""
        return self.fraud is not None

    @property
    def adds_up(self) -> bool:
        return all(check.good for check in self.checks)
