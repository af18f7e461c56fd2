"""Whether it adds up: each flow for itself, against what was injected, and against the lake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

import msgspec

from services.simulator.truth import DayTruth, GroundTruth
from services.status.slots import FlowTotals


class Check(msgspec.Struct, frozen=True):
    """Two counts that must be the same."""

    what: str
    expected: int | Decimal
    got: int | Decimal
    good: bool


class Tally(msgspec.Struct, frozen=True):
    """Records that ingest gave one fate, and how many were injected, where that is known."""

    fate: str
    counted: int
    injected: int | None


class LakeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in the lake."""

    events: Mapping[str, Mapping[str, int]]  # by source and lateness
    derived: Mapping[str, int]  # by table
    alerts: int  # different ones
    suspicious: int  # scores whose decision is not to allow
    held_back: int  # alerts of floods
    payments_to_score: int  # timely, and no refunds
    session_events: int  # in the final sessions
    revenue_in_time: Decimal
    clicks_in_windows: int  # timely, from the first window of the metric `clicks` to its last
    clicks_of_metric: int
    anomalous_windows: int  # whose score says so
    incidents: int
    incidents_begun: int  # as often as it was told that one began

    def of(self, lateness: str) -> int:
        return sum(counts.get(lateness, 0) for counts in self.events.values())

    def timely(self, source: str) -> int:
        counts = self.events.get(source, {})
        return counts.get("on_time", 0) + counts.get("late", 0)

    @property
    def rows(self) -> int:
        by_lateness = (sum(counts.values()) for counts in self.events.values())
        return sum(by_lateness) + sum(self.derived.values())


def tallies(totals: Sequence[FlowTotals], truth: GroundTruth | None) -> list[Tally]:
    """Ingest's counts beside the injected ones; zeros of both are left out."""
    ingest = next((total for total in totals if total.flow == "ingest"), FlowTotals(flow="ingest"))
    counted = {fate: count for fate, count in ingest.fates.items() if fate != "heartbeat"}
    injected = _injected(truth) if truth else None
    fates = [fate for fate in counted if not injected or fate not in injected]
    return [
        Tally(fate, counted.get(fate, 0), injected.get(fate, 0) if injected is not None else None)
        for fate in [*(injected or ()), *sorted(fates)]
        if counted.get(fate) or (injected and injected.get(fate))
    ]


def _injected(truth: GroundTruth) -> Counter[str]:
    """Records of all sources by the fate that ingest must give them."""
    injected: Counter[str] = Counter()
    for source in truth.sources.values():
        injected["good"] += source.good
        injected["late"] += source.late
        injected["buffered"] += source.buffered
        injected["expired"] += source.expired
        injected["duplicate"] += source.duplicates
        for reason, count in source.failed.items():
            injected[f"failed.{reason}"] += count
    return injected


def check_all(
    totals: Sequence[FlowTotals],
    truth: GroundTruth | None,
    ingested: Sequence[Tally],
    lake: LakeCounts,
) -> list[Check]:
    """Every check, in the order that the records flow."""
    comparisons = [*_of_flows(totals), *_of_lake(totals, lake)]
    if truth is not None:
        total = sum(source.total for source in truth.sources.values())
        read = sum(tally.counted for tally in ingested)
        against_truth = [
            ("ingest: all records, against those injected", total, read),
            *(
                (f"ingest: {of.fate}, against those injected", of.injected or 0, of.counted)
                for of in ingested
            ),
            *_of_sources(truth, lake),
        ]
        comparisons = [*against_truth, *comparisons]
    return [Check(what, expected, got, expected == got) for what, expected, got in comparisons]


def check_days(injected: Mapping[str, DayTruth], gold: Mapping[str, DayTruth]) -> list[Check]:
    """For each figure of a day: on how many days gold has what was injected."""
    days, none = sorted(injected.keys() | gold.keys()), DayTruth()
    checks = []
    for figure in DayTruth.__struct_fields__:
        equal = sum(
            getattr(injected.get(day, none), figure) == getattr(gold.get(day, none), figure)
            for day in days
        )
        what = f"gold: days whose {figure} are those injected"
        checks.append(Check(what, len(days), equal, len(days) == equal))
    return checks


_Comparison = tuple[str, int | Decimal, int | Decimal]


def _of_sources(truth: GroundTruth, lake: LakeCounts) -> Iterator[_Comparison]:
    for name, source in truth.sources.items():
        found = lake.events.get(name, {})
        for lateness, injected in (
            ("on_time", source.good),
            ("late", source.late),
            ("buffered", source.buffered),
        ):
            what = f"lake: {name} {lateness}, against those injected"
            yield what, injected, found.get(lateness, 0)
    revenue = f"lake: revenue in time in {truth.currency}, against what was paid"
    yield revenue, Decimal(truth.revenue_in_time), lake.revenue_in_time


def _of_flows(totals: Sequence[FlowTotals]) -> Iterator[_Comparison]:
    for total in totals:
        fates = total.records_in - total.difference
        yield f"{total.flow}: records in, against their fates", total.records_in, fates
        yield f"{total.flow}: records not read yet", 0, total.lag_records


def _of_lake(totals: Sequence[FlowTotals], lake: LakeCounts) -> Iterator[_Comparison]:
    """What one flow or the lake holds, against what the flow before it passed on."""
    flows = {total.flow: total for total in totals}

    def fate(flow: str, *names: str) -> int:
        return sum(flows[flow].fates.get(name, 0) for name in names)

    if "ingest" in flows:
        yield "lake: events on time, against ingest", fate("ingest", "good"), lake.of("on_time")
        yield "lake: late events, against ingest", fate("ingest", "late"), lake.of("late")
    if "late" in flows:
        buffered = fate("late", "buffered")
        yield "lake: buffered events, against the late buffer", buffered, lake.of("buffered")
    if "ingest" in flows and "late" in flows:
        set_aside = fate("ingest", "buffered", "expired")
        yield "late: records in, against ingest's", set_aside, flows["late"].records_in
    if "sessionize" in flows:
        clicks, visits = lake.timely("clickstream"), flows["sessionize"].records_in
        yield "sessionize: records in, against timely clicks in the lake", clicks, visits
        in_sessions = fate("sessionize", "good", "late")
        what = "lake: events in final sessions, against sessionize"
        yield what, in_sessions, lake.session_events
    if "features" in flows:
        payments, requests = lake.timely("transactions"), flows["features"].records_in
        yield "features: records in, against timely payments in the lake", payments, requests
    if "score" in flows:
        score, to_score = flows["score"], lake.payments_to_score
        yield "score: records in, against payments in the lake", to_score, score.records_in
        scores = lake.derived.get("scores", 0)
        yield "lake: scores, against score", score.good + score.late, scores
    if "measure" in flows:
        events, measured = lake.of("on_time") + lake.of("late"), flows["measure"].records_in
        yield "measure: records in, against timely events in the lake", events, measured
    if "detect" in flows:
        clicks = lake.clicks_in_windows
        yield (
            "lake: clicks of all windows, against timely clicks then",
            clicks,
            lake.clicks_of_metric,
        )
        found = lake.derived.get("anomalies", 0)
        what = "lake: anomalies, against windows of metrics whose score says so"
        yield what, lake.anomalous_windows, found
    if "watch" in flows:
        what = "lake: different incidents, against all that began"
        yield what, lake.incidents_begun, lake.incidents
    if "load" in flows:
        failed = sum(total.failed for total in totals if total.flow != "load")
        dead_letters = lake.derived.get("dead_letters", 0)
        yield "lake: dead letters, against all flows' failed", failed, dead_letters
        yield "lake: all rows, against load", flows["load"].good, lake.rows
    alerts = lake.derived.get("alerts", 0)
    told = alerts + lake.held_back
    yield "lake: alerts and those of floods, against scores not allowed", lake.suspicious, told
    yield "lake: different alerts, against all alerts", alerts, lake.alerts
