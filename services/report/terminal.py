"""What a person reads at the end of a run: plain without colour, and within 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dataflows.runtime.fates import Reconciliation
from services.report.checks import Check
from services.report.model import Alert, BehaviourFacts, Facts, MetricFacts, WarehouseFacts
from services.report.wording import (
    FATES,
    REASONS,
    count_of,
    duration,
    instant,
    milliseconds,
    money,
    percent,
    printable,
    words,
)

EXPLAINED_ALERTS = 3
EXPLAINED_ANOMALIES = 3
REASONS_SHOWN = 4
BAR_CELLS = 24
WIDTH = 80
SEVERITY_STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}


@dataclass(frozen=True)
class Summary:
    """Prints itself on a rich console; on one that knows only ASCII, in ASCII."""

    facts: Facts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        options = options.update(width=min(options.max_width, WIDTH))
        for part in _sections(self.facts):
            for segment in console.render(part, options):
                if options.ascii_only:
                    segment = segment._replace(text=_ascii(segment.text))
                yield segment


def summary(facts: Facts) -> Summary:
    """The end of the run, as something to print."""
    return Summary(facts)


def print_summary(facts: Facts, console: Console) -> None:
    console.print(summary(facts))


_ASCII = str.maketrans({"✓": "+", "✗": "X", "█": "#", "─": "-", "…": "~"})


def _ascii(text: str) -> str:
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def _sections(facts: Facts) -> Iterator[RenderableType]:
    yield from _section("Sessions", _sessions(facts))
    yield from _section("Funnel", _funnel(facts))
    yield from _section("Fraud alerts", _alerts(facts))
    if facts.behaviour.kinds:
        yield from _section("Behaviour", _behaviour(facts.behaviour))
    if facts.metrics.windows:
        yield from _section("Metrics", _metrics(facts.metrics))
    yield from _section("Late data", _late(facts))
    yield from _section("Dead letters", _dead_letters(facts))
    if facts.warehouse is not None:
        yield from _section("Warehouse", _warehouse(facts.warehouse))
    yield from _section("Speed", _speed(facts))
    yield from _section("Reconciliation", _reconciliation(facts))


def _section(title: str, parts: Iterator[RenderableType]) -> Iterator[RenderableType]:
    rule = "─" * (WIDTH - len(title) - 5)
    yield Text.assemble("\n", ("── ", "dim"), (title, "bold"), (f" {rule}", "dim"), end="\n")
    for part in parts:
        yield Padding(part, (0, 0, 0, 2), expand=False)


def _sessions(facts: Facts) -> Iterator[RenderableType]:
    sessions = facts.sessions
    if not sessions.count:
        yield Text("No session has closed.")
        return
    yield Text(
        f"{count_of(sessions.count, 'session')} of {sessions.mean_events:.1f} events on average; "
        f"half are shorter than {duration(sessions.median_seconds)}, nine in ten shorter than "
        f"{duration(sessions.p90_seconds)}."
    )
    yield Text(
        f"{sessions.revised:,} corrected after late events, {sessions.retracted:,} merged into "
        f"another, {sessions.capped:,} cut short at the cap (bots)."
    )


def _funnel(facts: Facts) -> Iterator[RenderableType]:
    if not facts.sessions.count:
        yield Text("No session has closed.")
        return
    table = _table(("", "left"), ("sessions", "right"), ("of all", "left"), ("", "right"))
    table.add_column("of the step before", justify="right")
    for step in facts.funnel:
        bar = "█" * max(round(step.share_of_all * BAR_CELLS), 1 if step.sessions else 0)
        table.add_row(
            words(step.stage),
            f"{step.sessions:,}",
            Text(f"{bar:<{BAR_CELLS}}", "cyan"),
            percent(step.share_of_all),
            percent(step.share_of_previous),
        )
    yield table


def _alerts(facts: Facts) -> Iterator[RenderableType]:
    alerts = facts.alerts
    if not alerts.count:
        yield Text(f"No alert on {count_of(alerts.scored, 'scored payment')}.")
    else:
        severities = [
            f"{count:,} {printable(name, 20)}"
            for name, count in alerts.by_severity.items()
            if count
        ]
        yield Text(
            f"{count_of(alerts.count, 'alert')} on {count_of(alerts.scored, 'scored payment')}: "
            f"{', '.join(severities)}."
        )
    yield from _caught(facts)
    for nth, alert in enumerate(alerts.top[:EXPLAINED_ALERTS], 1):
        yield _explained(nth, alert)


def _caught(facts: Facts) -> Iterator[RenderableType]:
    if facts.fraud is None or not facts.fraud.kinds:
        return
    caught = ", ".join(
        f"{kind.caught} of {count_of(kind.cases, words(kind.kind))}" for kind in facts.fraud.kinds
    )
    yield Text(f"Injected frauds that were noticed: {caught}.")
    if facts.fraud.alerted_payments:
        yield Text(
            f"{facts.fraud.fraudulent_among_them:,} of the {facts.fraud.alerted_payments:,} "
            f"payments with an alert are frauds ({percent(facts.fraud.precision)})."
        )


def _explained(nth: int, alert: Alert) -> RenderableType:
    """Who, when, how much, and why."""
    lines = Text.assemble(
        f"\n{nth}. ",
        (printable(alert.severity.upper(), 20), SEVERITY_STYLES.get(alert.severity, "")),
        f"  {money(alert.amount, alert.currency)} by {printable(alert.user_id, 40)} on "
        f"{instant(alert.at)};\n   score {alert.score:.2f}, "
        f"decision: {printable(alert.decision, 20)}. Why:",
    )
    reasons = Table.grid(padding=(0, 1))
    for rank, reason in enumerate(alert.reasons[:REASONS_SHOWN], 1):
        reasons.add_row(f"{rank}.", Text(printable(reason.text, 200)))
    if not alert.reasons:
        reasons.add_row("no reason was given")
    grid = Table.grid()
    grid.add_row(lines)
    grid.add_row(Padding(reasons, (0, 0, 0, 5)))
    return grid


def _behaviour(behaviour: BehaviourFacts) -> Iterator[RenderableType]:
    table = _table(("", "left"), ("incidents", "right"), ("of cases", "left"))
    table.add_column("for example")
    for kind in behaviour.kinds:
        cases = "" if kind.hidden is None else f"{kind.found:,} of {kind.hidden:,}"
        example = Text(printable(kind.example, 200))
        table.add_row(printable(words(kind.behaviour), 40), f"{kind.incidents:,}", cases, example)
    yield table


def _metrics(metrics: MetricFacts) -> Iterator[RenderableType]:
    yield Text(
        f"{count_of(metrics.windows, 'window')} of {metrics.series:,} series were judged, "
        f"{count_of(metrics.anomalies, 'anomaly', 'anomalies')}."
    )
    if not metrics.top:
        return
    table = Table.grid(padding=(0, 1))
    for anomaly in metrics.top[:EXPLAINED_ANOMALIES]:
        table.add_row(f"{anomaly.score:.2f}", Text(printable(anomaly.explanation, 200)))
    yield table


def _late(facts: Facts) -> Iterator[RenderableType]:
    yield _tallies(facts, [(f"{FATES[fate]}", fate) for fate in FATES])
    requests = sum(source.requests for source in facts.reprocessing)
    late_events = sum(source.late_events for source in facts.reprocessing)
    if requests:
        yield Text(
            f"{count_of(requests, 'request')} to reprocess a day in the warehouse, for "
            f"{count_of(late_events, 'event')}."
        )


def _dead_letters(facts: Facts) -> Iterator[RenderableType]:
    total = sum(letters.count for letters in facts.dead_letters)
    if not total:
        yield Text("None.")
        return
    yield Text(f"{count_of(total, 'record')}, each kept byte for byte:")
    table = _table(("", "left"), ("", "right"), ("", "left"))
    table.show_header = False
    for letters in facts.dead_letters:
        meaning = REASONS.get(letters.reason, "")
        table.add_row(printable(letters.reason, 24), f"{letters.count:,}", meaning)
    yield table


def _tallies(facts: Facts, rows: list[tuple[str, str]]) -> RenderableType:
    """Ingest's counts, beside what was injected where that is known."""
    by_fate = {tally.fate: tally for tally in facts.ingested}
    table = _table(("", "left"), ("events", "right"))
    if facts.simulated:
        table.add_column("injected", justify="right")
        table.add_column("")
    for label, fate in rows:
        tally = by_fate.get(fate)
        counted = tally.counted if tally else 0
        injected = (tally.injected if tally else 0) or 0
        beside = (f"{injected:,}", _mark(counted == injected)) if facts.simulated else ()
        table.add_row(label, f"{counted:,}", *beside)
    return table


def _warehouse(warehouse: WarehouseFacts) -> Iterator[RenderableType]:
    yield Text(
        f"{count_of(warehouse.models, 'table')} of a star schema, built and tested by "
        f"{count_of(warehouse.tests, 'test')} in {duration(warehouse.seconds)}."
    )
    if not warehouse.days:
        return
    best = max(warehouse.days, key=lambda day: day.revenue)
    revenue = sum(day.revenue for day in warehouse.days)
    purchases = sum(day.purchases for day in warehouse.days)
    yield Text(
        f"{count_of(purchases, 'purchase')} on {count_of(len(warehouse.days), 'day')} came to "
        f"{money(float(revenue), warehouse.currency)}; most on {best.date}: "
        f"{money(float(best.revenue), warehouse.currency)}."
    )


def _speed(facts: Facts) -> Iterator[RenderableType]:
    figures = facts.figures
    yield Text(
        f"{count_of(figures.events, 'event')} through every flow, "
        f"{figures.events_per_second:,.0f} a second; the run took "
        f"{duration(figures.wall_seconds)}."
    )
    yield Text(
        "From an event's arrival to its alert: half within "
        f"{milliseconds(figures.alert_latency_p50_ms)} (p50), 99 of 100 within "
        f"{milliseconds(figures.alert_latency_p99_ms)} (p99)."
        if facts.alerts.count
        else "No alert, so the way from event to alert was not measured."
    )


def _reconciliation(facts: Facts) -> Iterator[RenderableType]:
    if facts.flows:
        table = _table(("flow", "left"), ("in", "right"), ("= good", "right"))
        for kind in ("+ failed", "+ late", "+ duplicate", "+ suppressed"):
            table.add_column(kind, justify="right", no_wrap=True)
        table.add_column("")
        for flow in facts.flows:
            cells = (f"{getattr(flow, kind):,}" for kind in ("records_in", *Reconciliation.KINDS))
            table.add_row(flow.flow, *cells, _mark(flow.difference == 0))
        yield table
    else:
        yield Text("No flow has run.")
    if facts.checks and (facts.flows or not facts.adds_up):
        yield from _verdict(facts.checks, facts.simulated)


def _verdict(checks: list[Check], simulated: bool) -> Iterator[RenderableType]:
    bad = [check for check in checks if not check.good]
    if bad:
        yield Text(f"\n✗ IT DOES NOT ADD UP: {len(bad)} of {len(checks)} checks fail", "bold red")
        failures = Table.grid(padding=(0, 1))
        for check in bad:
            counts = f"expected {check.expected:,}, got {check.got:,}"
            difference = f"{check.got - check.expected:+,}"
            failures.add_row("✗", f"{check.what}: {counts} ({difference})", style="red")
        yield failures
        return
    against = "the flows, the lake and what was injected" if simulated else "the flows and the lake"
    yield Text(f"\n✓ It adds up: {count_of(len(checks), 'check')} of {against} hold.", "bold green")


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    return table


def _mark(good: bool) -> Text:
    return Text("✓", "green") if good else Text("✗", "bold red")
