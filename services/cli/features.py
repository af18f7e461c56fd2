"""features: rows of features from anyone's events, and what a spec costs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import context

if TYPE_CHECKING:
    from dataflows.features.spec import FeatureSpec
    from services.features.events import EventTable

app = typer.Typer(
    no_args_is_help=True,
    help="Features declared in YAML: for training and for the stream by the same code.\n\n"
    "Example: `tidegate features build --spec features/handbook.yaml --in events.parquet "
    "--out features.parquet`",
)

SpecFile = Annotated[Path, typer.Option("--spec", metavar="FILE", help="The spec, YAML.")]
EventsFile = Annotated[
    str, typer.Option("--in", metavar="FILE", help="Events: .parquet, .csv or .jsonl.")
]
FieldMap = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="The column of a field of the spec."),
]
TimestampFormat = Annotated[
    str | None,
    typer.Option("--timestamp-format", metavar="FORMAT", help="As strptime; %s for seconds."),
]

_PROGRESS_EVERY = 100_000  # rows


@app.callback()
def features() -> None: ...


@app.command()
def build(
    spec: SpecFile,
    file: EventsFile,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Where the rows go: .parquet.")],
    mapping: FieldMap = None,
    timestamp_format: TimestampFormat = None,
    order: Annotated[
        str, typer.Option(metavar="ORDER", help="time, or file: events come as they stand there.")
    ] = "time",
) -> None:
    """Make a row of features for each event: what would have been known when it came.

    Out: id, time and label as the spec names them, then the features, in the order of the file.
    With `--order file` late events are late, as they would be on the stream with the configured
    bound and lateness. Wrong input is named by row and column, and nothing is written.

    Example: `tidegate features build --spec features/handbook.yaml --in payments.csv --out
    rows.parquet --map customer_id=client --map tx_amount=amount`
    """
    from services.features.build import as_table, compute_features, write_table
    from services.features.errors import EventsError

    if order not in ("time", "file"):
        raise typer.BadParameter(f"--order {order!r}: write time or file")
    if Path(out).suffix != ".parquet":
        raise EventsError(f"{out}: the rows are written as Parquet: name it .parquet")
    if Path(file).exists() and Path(out).exists() and Path(file).samefile(out):
        raise EventsError(f"{out}: is the input itself: name another file")
    loaded = read_spec(spec)
    events = read_events(file, loaded, mapping, timestamp_format)
    context.kernels()
    time = context.config().event_time
    bound_us, lateness_us = (int(time.bound), int(time.lateness)) if order == "file" else (None, 0)

    def progress(done: int) -> None:
        if sys.stderr.isatty() and len(events) >= _PROGRESS_EVERY:
            print(f"\r{file} {done / len(events):.0%}", end="", file=sys.stderr, flush=True)

    made = compute_features(loaded, events, bound_us, lateness_us, progress)
    if sys.stderr.isatty() and len(events) >= _PROGRESS_EVERY:
        print(file=sys.stderr)
    write_table(as_table(loaded, events, made), out)
    labelled = ""
    if events.positive is not None:
        labelled = f", {int(events.positive.sum()):,} of them positive"
    print(f"{len(events):,} rows of {len(loaded.names)} features{labelled}; they are in {out}")


@app.command()
def check(
    spec: Annotated[Path, typer.Argument(help="The spec, YAML.")],
    events_per_day: Annotated[
        float, typer.Option(min=1, metavar="N", help="For the size of the state.")
    ] = 1_000_000,
    entities: Annotated[
        float, typer.Option(min=1, metavar="N", help="Customers, terminals, ...: of each kind.")
    ] = 100_000,
) -> None:
    """Check a spec, and say what its state takes and how fast it is.

    Example: `tidegate features check features/handbook.yaml --events-per-day 10000`
    """
    from services.features.cost import explained

    loaded = read_spec(spec)
    context.kernels()
    for line in explained(loaded, events_per_day, entities):
        print(line)


def read_spec(path: Path) -> FeatureSpec:
    """The spec, its filters compiled."""
    from dataflows.detection.predicates import compile_predicate
    from dataflows.features.spec import load_spec

    return load_spec(path, compile_predicate)


def read_events(
    file: str, spec: FeatureSpec, mapping: list[str] | None, timestamp_format: str | None
) -> EventTable:
    """The events of a file as the spec takes them."""
    from services.features.events import load_events
    from services.publisher.options import parse_options

    options = parse_options(mapping=mapping or (), timestamp_format=timestamp_format)
    return load_events(file, spec, options.mapping, timestamp_format)
