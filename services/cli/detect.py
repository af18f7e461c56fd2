"""detect: the anomaly detector on anyone's series."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import context

if TYPE_CHECKING:
    from services.anomalies.scoring import Summary
    from services.publisher.files import InputFile

app = typer.Typer(
    no_args_is_help=True,
    help="Find what is new in metric series.\n\n"
    "Example: `tidegate detect score --in cpu.csv --out scores.csv`",
)

_SHOWN = 10
_PROGRESS_EVERY = 50_000  # rows


@app.callback()
def detect() -> None: ...


@app.command()
def score(
    file: Annotated[
        str, typer.Option("--in", metavar="FILE", help="A CSV; .gz and - (stdin) too.")
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="Where the scores go; - for stdout.")
    ],
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A page of values, expected band, scores and alerts."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.01, max=1.0, metavar="SCORE", help="From where a row alerts.")
    ] = 0.5,
    timestamp_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="As strptime, e.g. %Y%m%d; %s for seconds.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Score each row of a series from 0 to 1: how new is what begins there?

    In: a header with the columns `timestamp` and `value`, others are ignored. Out: `timestamp`,
    `value`, `anomaly_score`, a row for a row, timestamps and values as they were. A row's score
    uses only the rows up to it. Wrong input is named by line and column, and nothing is written.

    Examples: `tidegate detect score --in cpu.csv --out scores.csv`, `tidegate detect score --in
    cpu.csv --out scores.csv --plot cpu.html`
    """
    import msgspec

    from services.anomalies.errors import SeriesError
    from services.anomalies.scoring import STDOUT, Track, score_series
    from services.publisher.files import open_inputs

    if out == STDOUT and json:
        raise typer.BadParameter("the scores and the JSON cannot both go to standard output")
    if plot is not None and not plot.parent.is_dir():
        raise SeriesError(f"{plot}: cannot be written: there is no folder {plot.parent}")
    (given,) = open_inputs([file], whole=False)
    if any(place is not None and _same(file, str(place)) for place in (out, plot)):
        raise SeriesError(f"{file}: is the input itself: name another file for what is written")
    context.kernels()
    track = Track() if plot is not None else None
    summary = score_series(given, out, threshold, timestamp_format, track, _show_progress)
    if sys.stderr.isatty() and summary.rows >= _PROGRESS_EVERY:
        print(file=sys.stderr)
    if plot is not None and track is not None:
        from services.anomalies.plot import write_plot

        write_plot(summary, track, plot)
    _warn(summary)
    if json:
        print(msgspec.json.format(msgspec.json.encode(summary.document())).decode())
    elif out != STDOUT:
        for line in _lines(summary, out):
            print(line)


def _same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


def _show_progress(file: InputFile, rows: int) -> None:
    if not sys.stderr.isatty() or rows < _PROGRESS_EVERY:
        return
    share = f" {file.position / file.size:.0%}" if file.size else ""
    print(f"\r{file.name}{share} {rows:,} rows", end="", file=sys.stderr, flush=True)


def _warn(summary: Summary) -> None:
    """What is unusual about the file, but no reason to refuse it."""
    if summary.ignored_columns:
        from services.publisher.errors import listing

        print(
            f"tidegate: {summary.file}: columns ignored: {listing(summary.ignored_columns)}",
            file=sys.stderr,
        )
    for count, line, what in (
        (summary.out_of_order, summary.first_out_of_order, "earlier than the row before"),
        (summary.repeated, summary.first_repeated, "the same as the row before"),
    ):
        if count:
            rows = "timestamp is" if count == 1 else "timestamps are"
            print(
                f"tidegate: {summary.file}:{line}: {count:,} {rows} {what}; rows are scored in the "
                "order of the file",
                file=sys.stderr,
            )


def _lines(summary: Summary, out: str) -> list[str]:
    missing = f", {summary.missing:,} without a value" if summary.missing else ""
    alerts = sorted(summary.alerts, key=lambda alert: -alert.score)
    lines = [f"{summary.rows:,} rows scored{missing}; the scores are in {out}"]
    if not alerts:
        return [*lines, f"no row reaches a score of {summary.threshold}"]
    reach = "1 row reaches" if len(alerts) == 1 else f"{len(alerts):,} rows reach"
    lines.append(f"{reach} a score of {summary.threshold}:")
    for alert in sorted(alerts[:_SHOWN], key=lambda alert: alert.line):
        band = "" if alert.lower is None else f" ({alert.lower:.6g} to {alert.upper:.6g})"
        expected = "" if alert.expected is None else f", expected {alert.expected:.6g}{band}"
        lines.append(
            f"  line {alert.line}  {alert.timestamp}  score {alert.score:.2f}"
            f"  value {alert.value:.6g}{expected}"
        )
    if len(alerts) > _SHOWN:
        lines.append(f"  and {len(alerts) - _SHOWN:,} with lower scores")
    return lines
