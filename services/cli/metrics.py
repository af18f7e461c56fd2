"""metrics: the shop's own series, and whether their files can be used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import context

if TYPE_CHECKING:
    from dataflows.detection.metrics import CompiledMetric, MetricError, Metrics

app = typer.Typer(
    no_args_is_help=True,
    help="Metrics: figures over windows of events, in YAML, judged by the anomaly detector.\n\n"
    "Example: `tidegate metrics check`",
)

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


@app.callback()
def metrics() -> None: ...


@app.command("list")
def list_metrics(json: AsJson = False) -> None:
    """Every metric with its source, window, series and what it is.

    Those that come with Tidegate and do not fit the contracts are not counted, and named.

    Example: `tidegate metrics list`
    """
    _show(*_configured(), json)


@app.command()
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="YAML files; by default those of metrics/.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Check metrics before they run: a file that is no metric is named by line and field.

    Examples: `tidegate metrics check`, `tidegate metrics check draft.yaml`
    """
    others: Sequence[MetricError] = ()
    if files is None:
        found, others = _configured()
    else:
        from dataflows.contracts import load_contracts
        from dataflows.detection.metrics import read_metric

        contracts = load_contracts(Path(context.config().schemas))
        found = tuple(read_metric(file, contracts) for file in files)
    _show(found, others, json)


@app.command()
def plot(
    metric: Annotated[str, typer.Argument(help="Its id.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the page goes.")],
    segment: Annotated[
        str | None, typer.Option(metavar="VALUE", help="One of its segments, or `(other)`.")
    ] = None,
) -> None:
    """A page with every window of a series: values, expected band, scores and anomalies.

    Example: `tidegate metrics plot orders --segment DE --out orders.html`
    """
    from services.anomalies.metric import judged_series
    from services.anomalies.plot import write_plot

    summary, track = judged_series(context.config().lake_path, metric, segment)
    write_plot(summary, track, out)
    print(
        f"{summary.rows:,} windows of {summary.file}, {len(summary.alerts)} of them anomalies; the "
        f"plot is {out}"
    )


def _configured() -> tuple[Metrics, list[MetricError]]:
    from dataflows.contracts import load_contracts
    from dataflows.flows.metric_files import configured_metrics

    config = context.config()
    return configured_metrics(config, load_contracts(Path(config.schemas)))


def _show(found: Metrics, others: Sequence[MetricError], json: bool) -> None:
    import msgspec

    for error in others:
        print(f"tidegate: not counted: {error}", file=sys.stderr)

    if json:
        print(msgspec.json.encode([_document(each) for each in found]).decode())
        return
    for each in found:
        metric = each.metric
        print(
            f"{metric.id:24} {metric.source:18} {metric.window:>4} {each.series:>4} series  "
            f"{_formula(each)}"
        )
    series = sum(each.series for each in found)
    print(f"{len(found)} metrics, {series:,} series, {series * 60 / 1_000:.1f} MB of state")


def _document(compiled: CompiledMetric) -> dict[str, object]:
    import msgspec

    said = msgspec.structs.asdict(compiled.metric)
    return {**said, "version": compiled.version, "series": compiled.series}


def _formula(compiled: CompiledMetric) -> str:
    metric = compiled.metric
    parts = [
        metric.aggregate,
        f"of {metric.of}" if metric.of else "",
        f"per {metric.per}" if metric.per else "",
        f"where {metric.where}" if metric.where else "",
        f"by {metric.segments.by}" if metric.segments else "",
    ]
    return " ".join(part for part in parts if part)
