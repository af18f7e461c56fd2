"""The plots, as plotly figures without theme: the page's script adds fonts and colours."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from dataflows.detection.anomalies import ALERT_AT
from dataflows.detection.profile import CHANGED, MUCH_CHANGED
from services.report.model import (
    Alert,
    DriftDay,
    Facts,
    JudgedDay,
    JudgedSeries,
    Series,
    WarehouseFacts,
)
from services.report.wording import count_of, instant, money, printable, words

# Okabe and Ito, "Color Universal Design" (2008): told apart with any colour vision.
BLUE, ORANGE, GREEN = "#0072b2", "#e69f00", "#009e73"
VERMILLION, PURPLE, SKY = "#d55e00", "#cc79a7", "#56b4e9"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION)

# Shape tells severities apart too.
SEVERITIES: Mapping[str, tuple[str, str, int]] = {
    "critical": (VERMILLION, "diamond", 12),
    "high": (ORANGE, "square", 9),
    "medium": (BLUE, "circle", 8),
    "low": (SKY, "circle-open", 7),
}
DECISIONS: Mapping[str, str] = {"allow": GREEN, "review": ORANGE, "block": VERMILLION}
LATENESS: Mapping[str, tuple[str, str]] = {
    "late": (ORANGE, "late: results corrected"),
    "buffered": (PURPLE, "too late for the stream: merged in the warehouse"),
}
_RARE = 0.005  # share of the hours or days that may be rare peaks, at least one
_HOVER_REASONS = 4
_HOVER_COLUMNS = 56

Trace = dict[str, Any]


class Plot(msgspec.Struct, frozen=True):
    """A plotly figure; without traces there is nothing to show."""

    data: list[Trace]
    layout: dict[str, Any]


def plots(facts: Facts) -> dict[str, Plot]:
    """Every plot of the page by the id of its place."""
    return {
        "traffic": _traffic(facts),
        "lateness": _lateness(facts),
        "lengths": _lengths(facts),
        "funnel": _funnel(facts),
        "scores": _scores(facts),
        "alerts": _alerts(facts),
        **({"judged": _judged(facts.judged)} if facts.judged else {}),
        **({"drift": _drift(facts.drift)} if facts.drift else {}),
        **({"metric": _metric(facts.metrics.shown)} if facts.metrics.shown else {}),
        **({"days": _days(facts.warehouse)} if facts.warehouse else {}),
        "lag": _lag(facts),
    }


def _traffic(facts: Facts) -> Plot:
    series = _without_gaps(facts.traffic)
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "stackgroup": "sources",
            "name": _plain(words(source)),
            "x": series.at,
            "y": counts,
            "line": {"shape": "hv", "width": 0, "color": colour},
            "fillcolor": colour,
        }
        for (source, counts), colour in _coloured(series.counts.items())
    ]
    layout = _axes("event time (UTC)", f"events per {series.bucket}")
    totals = [sum(counts) for counts in zip(*series.counts.values(), strict=True)]
    return Plot(data, layout | _cut(series, totals) | {"hovermode": "x unified"})


def _without_gaps(series: Series) -> Series:
    """With zeros after each hour or day that none follows, so that a line comes down there."""
    step = timedelta(hours=1) if series.bucket == "hour" else timedelta(days=1)
    ends = {at + step for at in series.at} - set(series.at)
    at = sorted(ends.union(series.at))
    position = {start: i for i, start in enumerate(series.at)}
    return Series(
        series.bucket,
        at,
        {
            name: [0 if start in ends else counts[position[start]] for start in at]
            for name, counts in series.counts.items()
        },
    )


def _cut(series: Series, totals: list[int]) -> dict[str, Any]:
    """Ends the axis below rare peaks that would flatten the rest, and says how high they are."""
    rare = math.ceil(len(totals) * _RARE)
    if len(totals) < 10 * rare or not totals:
        return {}
    top = 1.2 * sorted(totals)[-1 - rare]
    peaks = [(at, total) for at, total in zip(series.at, totals, strict=True) if total > top]
    if not peaks or max(totals) < 2 * top:
        return {}
    notes = [
        {
            "x": at,
            "y": 1,
            "yref": "paper",
            "yanchor": "top",
            "xanchor": "left",
            "text": f"↑ {total:,}",
            "showarrow": False,
        }
        for at, total in peaks
    ]
    title = f"events per {series.bucket}"
    return {"yaxis": {"title": {"text": title}, "range": [0, top]}, "annotations": notes}


def _lateness(facts: Facts) -> Plot:
    series = facts.late_over_time
    data = [
        {
            "type": "bar",
            "name": LATENESS[lateness][1],
            "x": series.at,
            "y": counts,
            "marker": {"color": LATENESS[lateness][0]},
        }
        for lateness, counts in series.counts.items()
        if lateness in LATENESS
    ]
    layout = _axes("event date (UTC)", "events per day") | {"barmode": "stack"}
    return Plot(data, layout | {"hovermode": "x unified"})


def _lengths(facts: Facts) -> Plot:
    lengths = facts.sessions.lengths
    last = len(lengths.counts) - 1
    hover = [f"{i} to {i + 1} minutes" for i in range(last)] + [f"{last} minutes or longer"]
    bars = {
        "type": "bar",
        "x": [edge + 0.5 for edge in lengths.edges[:-1]],
        "y": lengths.counts,
        "width": 1,
        "marker": {"color": [BLUE] * last + [SKY]},
        "hovertext": [
            f"{text}: {count_of(count, 'session')}"
            for text, count in zip(hover, lengths.counts, strict=True)
        ],
        "hoverinfo": "text",
    }
    layout = _axes("length of the session (minutes)", "sessions")
    layout["xaxis"] |= {
        "tickvals": [*range(0, last, 10), last + 0.5],
        "ticktext": [*(str(minute) for minute in range(0, last, 10)), f"{last}+"],
    }
    return Plot([bars] if facts.sessions.count else [], layout | {"bargap": 0.1})


def _funnel(facts: Facts) -> Plot:
    funnel = {
        "type": "funnel",
        "y": [words(step.stage) for step in facts.funnel],
        "x": [step.sessions for step in facts.funnel],
        "text": [f"{step.sessions:,} · {step.share_of_all:.0%}" for step in facts.funnel],
        "textinfo": "text",
        "hovertext": [
            f"{step.sessions:,} sessions, {step.share_of_all:.1%} of all"
            + (
                f", {step.share_of_previous:.1%} of the step before"
                if step.share_of_previous is not None
                else ""
            )
            for step in facts.funnel
        ],
        "hoverinfo": "text",
        "marker": {"color": BLUE},
        "connector": {"fillcolor": "rgba(86, 180, 233, 0.25)"},
    }
    layout = _axes("sessions", "furthest step reached, or passed")
    return Plot([funnel] if facts.sessions.count else [], layout | {"funnelgap": 0.15})


def _scores(facts: Facts) -> Plot:
    data = []
    highest = 1
    for decision, histogram in facts.alerts.scores.items():
        if not any(histogram.counts):
            continue
        highest = max(highest, *histogram.counts)
        width = histogram.edges[1] - histogram.edges[0]
        data.append(
            {
                "type": "bar",
                "name": _plain(decision),
                "x": [edge + width / 2 for edge in histogram.edges[:-1]],
                "y": histogram.counts,
                "width": width,
                "marker": {"color": DECISIONS.get(decision, PURPLE)},
                "hovertemplate": f"score around %{{x:.2f}}: %{{y:,}} payments<extra>"
                f"{_plain(decision)}</extra>",
            }
        )
    layout = _axes("fraud score (0 harmless, 1 certain)", "payments (log scale)")
    layout["xaxis"] |= {"range": [0, 1]}
    # From half a payment on, so that a single one has a bar.
    layout["yaxis"] |= {"type": "log", "dtick": 1, "range": [-0.3, math.log10(highest) + 0.3]}
    return Plot(data, layout | {"barmode": "overlay", "bargap": 0.05})


def _alerts(facts: Facts) -> Plot:
    shown = facts.alerts.highest
    currencies = {alert.currency for alert in shown}
    unit = printable(currencies.pop(), 8) if len(currencies) == 1 else "the payment's currency"
    data = []
    for severity in facts.alerts.by_severity:
        alerts = [alert for alert in shown if alert.severity == severity]
        if not alerts:
            continue
        colour, symbol, size = SEVERITIES.get(severity, (PURPLE, "x", 8))
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": _plain(severity),
                "x": [alert.at for alert in alerts],
                "y": [alert.amount for alert in alerts],
                "marker": {
                    "color": colour,
                    "symbol": symbol,
                    "size": size,
                    "line": {"width": 1.5 if symbol.endswith("open") else 0, "color": colour},
                },
                "hovertext": [_hover(alert) for alert in alerts],
                "hoverinfo": "text",
            }
        )
    layout = _axes("time of the payment (UTC)", f"amount ({_plain(unit)}, log scale)")
    layout["yaxis"] |= {"type": "log"} | _decades([alert.amount for alert in shown])
    return Plot(data, layout | {"hovermode": "closest"})


def _decades(values: list[float]) -> dict[str, Any]:
    """Ticks 1, 2, 5, 10, ... around the values."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    ticks = [step * 10.0**power for power in range(low, high + 1) for step in (1, 2, 5)]
    return {"tickvals": ticks, "ticktext": [f"{tick:,g}" for tick in ticks]}


def _hover(alert: Alert) -> str:
    """Who, when, how much, why, as the few tags that plotly knows."""
    lines = [
        f"<b>{_plain(alert.severity)}</b> · score {alert.score:.2f} · {_plain(alert.decision)}",
        f"{_plain(printable(alert.user_id, 40))} · {_plain(money(alert.amount, alert.currency))}",
        instant(alert.at),
    ]
    for rank, reason in enumerate(alert.reasons[:_HOVER_REASONS], 1):
        wrapped = textwrap.wrap(f"{rank}. {printable(reason.text, 160)}", _HOVER_COLUMNS)
        lines += [_plain(line) for line in wrapped]
    return "<br>".join(lines)


def _days(warehouse: WarehouseFacts) -> Plot:
    days, currency = warehouse.days, _plain(warehouse.currency)
    data = [
        {
            "type": "bar",
            "x": [day.date for day in days],
            "y": [float(day.revenue) for day in days],
            "customdata": [[day.purchases, day.payments, day.clicks] for day in days],
            "hovertemplate": f"%{{x}}<br>%{{y:,.2f}} {currency}"
            "<br>%{customdata[0]:,} purchases of %{customdata[1]:,} payments"
            "<br>%{customdata[2]:,} clicks<extra></extra>",
            "marker": {"color": GREEN},
        }
    ]
    layout = _axes("day (UTC)", f"revenue ({currency})") | {"showlegend": False}
    return Plot(data if days else [], layout)


def _judged(days: list[JudgedDay]) -> Plot:
    at = [day.day for day in days]
    said = [
        f"{day.caught} of {count_of(day.alerted, 'alert')} right, "
        f"of {count_of(day.frauds, 'fraud')}"
        for day in days
    ]
    data = [
        _line(name, at, shares, colour) | {"text": said, "hovertemplate": "%{y:.0%} (%{text})"}
        for name, shares, colour in (
            ("precision", [day.precision for day in days], BLUE),
            ("recall", [day.recall for day in days], ORANGE),
        )
    ]
    layout = _axes("last day of the week (UTC)", "share")
    layout["yaxis"] |= {"range": [0, 1.05], "tickformat": ".0%"}
    return Plot(data, layout | {"hovermode": "x unified"})


def _drift(days: list[DriftDay]) -> Plot:
    at = [day.day for day in days]
    names = days[0].index
    data = [
        _line(words(name), at, [day.index[name] for day in days], colour)
        for name, colour in zip(names, PALETTE, strict=False)
    ]
    layout = _axes("last day of the week (UTC)", "stability index")
    highest = max(max(day.index.values()) for day in days)
    layout["yaxis"] |= {"range": [0, 1.1 * max(highest, MUCH_CHANGED)]}
    for index, said in ((CHANGED, "moves"), (MUCH_CHANGED, "has moved")):
        edge = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": index, "y1": index}
        layout.setdefault("shapes", []).append(edge | {"line": {"dash": "dot", "width": 1}})
        label = {"xref": "paper", "x": 1, "y": index, "text": said, "showarrow": False}
        layout.setdefault("annotations", []).append(
            label | {"xanchor": "right", "yanchor": "bottom"}
        )
    return Plot(data, layout | {"hovermode": "x unified"})


def _line(name: str, x: Sequence[Any], y: Sequence[float | None], colour: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": x,
        "y": y,
        "line": {"color": colour, "width": 2},
    }


def _metric(series: JudgedSeries) -> Plot:
    anomalies = [i for i, score in enumerate(series.score) if score >= ALERT_AT]
    hidden = {"width": 0}

    def line(name: str, y: list[float | None], **more: object) -> Trace:
        return {"type": "scatter", "mode": "lines", "name": name, "x": series.at, "y": y} | more

    data = [
        line("lower", series.lower, line=hidden, showlegend=False, hoverinfo="skip"),
        line("expected", series.upper, line=hidden, fill="tonexty", fillcolor=f"{SKY}55"),
        line(_plain(series.name), series.value, line={"width": 1, "color": BLUE}),
        {
            "type": "scatter",
            "mode": "markers",
            "name": "anomaly",
            "x": [series.at[i] for i in anomalies],
            "y": [series.value[i] for i in anomalies],
            "marker": {"color": VERMILLION, "symbol": "diamond", "size": 9},
        },
    ]
    return Plot(data, _axes("start of the window (UTC)", _plain(series.name)))


def _lag(facts: Facts) -> Plot:
    flows: dict[str, Trace] = {}
    for sample in facts.lag:
        trace = flows.setdefault(sample.flow, {"x": [], "y": []})
        trace["x"].append(round(sample.seconds, 2))
        trace["y"].append(sample.lag_records)
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": _plain(flow),
            **points,
            "line": {"color": colour, "width": 2},
        }
        for (flow, points), colour in _coloured(flows.items())
    ]
    layout = _axes("time since the start (seconds)", "records waiting")
    layout["yaxis"] |= {"rangemode": "tozero"}
    return Plot(data, layout | {"hovermode": "x unified"})


def _axes(x: str, y: str) -> dict[str, Any]:
    return {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}


def _coloured(items: Iterable[tuple[str, Any]]) -> Iterable[tuple[tuple[str, Any], str]]:
    return ((item, PALETTE[i % len(PALETTE)]) for i, item in enumerate(items))


def _plain(text: str) -> str:
    """Text in which plotly finds no tags."""
    return html.escape(printable(text))
