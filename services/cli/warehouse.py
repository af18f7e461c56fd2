"""warehouse: from the lake to a star schema, with dbt."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from services.cli import context

if TYPE_CHECKING:
    from services.warehouse.build import Report
    from services.warehouse.merges import Choice

app = typer.Typer(
    no_args_is_help=True,
    help="Build silver and gold with dbt, from the lake on DuckDB or from what `load` has "
    "written to BigQuery there; ask those of the lake, keep them right.\n\n"
    "Example: `tidegate warehouse build`",
)

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]


@app.command()
def build(
    full: Annotated[
        bool, typer.Option("--full", help="Every date anew, not just changed ones.")
    ] = False,
    target: Annotated[
        Literal["duckdb", "bigquery", "bigquery_dev"],
        typer.Option(help="Where: a file, or BigQuery beside the dataset of `load`; dev: a trial."),
    ] = "duckdb",
    json: Json = False,
) -> None:
    """Bring the warehouse up to what the lake holds, test it, and put it in place of the last one.

    Makes the dates anew that have changed since; at first, or when models or contracts have
    changed, all of them. Exits with 1 if a test fails: the last good warehouse stays then. On
    BigQuery a good one takes its place table by table, in seconds: docs/how-to/bigquery.md.

    Examples: `tidegate warehouse build`, `tidegate -d .tidegate/demo warehouse build --full`,
    `tidegate warehouse build --target bigquery`
    """
    from services.warehouse.terminal import Progress

    with Progress() as progress:
        if target == "duckdb":
            from services.warehouse.build import build as build_warehouse

            report = build_warehouse(context.config(), full=full, tell=progress.node)
        else:
            from services.warehouse.bigquery_build import build_on_bigquery

            report = build_on_bigquery(context.config(), target, full=full, tell=progress.node)
    _show(report, json)


def _show(report: Report, json: bool) -> None:
    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    from services.warehouse.terminal import print_report

    print_report(report)


@app.command()
def reprocess(
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Only what hangs on this table.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="The first date to make anew.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="The last one; default: the first.")
    ] = None,
    json: Json = False,
) -> None:
    """Make dates anew into which late events have come; by itself, those the late flow asks for.

    What hangs on them is made anew with them: dates with other copies of the same events, payments
    that a label judges, later dates of customers whose profile changed. Afterwards every table is
    what a full build would make of the same events.

    Examples: `tidegate warehouse reprocess`,
    `tidegate warehouse reprocess --source transactions --from 2026-05-01 --to 2026-05-03`
    """
    from services.warehouse.build import Asked
    from services.warehouse.build import reprocess as reprocess_dates
    from services.warehouse.terminal import Progress

    if first is None and (last or source):
        raise typer.BadParameter("--source and --to need --from, the first date to make anew")
    asked = None
    if first is not None:
        asked = Asked(_date(first), _date(last or first), source)
        if asked.last < asked.first:
            raise typer.BadParameter(f"--to {last} is before --from {first}")
    with Progress() as progress:
        report = reprocess_dates(context.config(), asked, tell=progress.node)
    _show(report, json)


Source = Annotated[str, typer.Option(metavar="SOURCE", help="The source of the events.")]
First = Annotated[str, typer.Option("--from", metavar="DATE", help="Their first event date.")]
Last = Annotated[
    str | None, typer.Option("--to", metavar="DATE", help="The last one; default: the first.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def quarantined(json: Json = False) -> None:
    """List events that came later than the horizon, by source and date: waiting, and merged.

    Such an event is in no figure until somebody has it merged.

    Example: `tidegate warehouse quarantined`
    """
    from services.warehouse.merges import quarantined as quarantined_dates
    from services.warehouse.terminal import quarantined_lines

    found = quarantined_dates(context.config())
    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        print("\n".join(quarantined_lines(found)))


@app.command()
def merge(source: Source, first: First, last: Last = None, yes: Yes = False) -> None:
    """Show what is quarantined of a source and dates, then merge it: into the lake, and build.

    Afterwards silver and gold hold these events as if they had come in time, and a build from
    nothing, or on another machine, of the same lake does so, too. The decision is in
    `bronze.merges`. Can be cut off anywhere: merging again does what is left.

    Example: `tidegate warehouse merge --source transactions --from 2026-05-01 --to 2026-05-03`
    """
    from services.warehouse.merges import merge as merge_quarantined
    from services.warehouse.merges import quarantined as quarantined_dates
    from services.warehouse.terminal import decision_lines, merge_plan_lines

    choice = _choice(source, first, last)
    config = context.config()
    found = quarantined_dates(config, choice)
    print("\n".join(merge_plan_lines(choice, found)))
    if any(day.waiting for day in found) and not yes and not typer.confirm("Merge them?"):
        raise typer.Exit(1)
    decisions = merge_quarantined(config, choice)
    if decisions:
        print("\n".join(decision_lines(decisions)))
        build()


@app.command()
def unmerge(source: Source, first: First, last: Last = None, yes: Yes = False) -> None:
    """Show what was merged of a source and dates, then take it out again: of the lake, and build.

    It is quarantined as before, and can be merged again. `bronze.merges` keeps both decisions.

    Example: `tidegate warehouse unmerge --source transactions --from 2026-05-01`
    """
    from services.warehouse.merges import quarantined as quarantined_dates
    from services.warehouse.merges import unmerge as unmerge_events
    from services.warehouse.terminal import decision_lines, unmerge_plan_lines

    choice = _choice(source, first, last)
    config = context.config()
    found = quarantined_dates(config, choice)
    print("\n".join(unmerge_plan_lines(choice, found)))
    if any(day.merged for day in found) and not yes and not typer.confirm("Take them out?"):
        raise typer.Exit(1)
    decisions = unmerge_events(config, choice)
    if decisions:
        print("\n".join(decision_lines(decisions)))
        build()


def _choice(source: str, first: str, last: str | None) -> Choice:
    from services.warehouse.merges import Choice

    choice = Choice(source, _date(first), _date(last or first))
    if choice.last < choice.first:
        raise typer.BadParameter(f"--to {last} is before --from {first}")
    return choice


@app.command()
def schedule(
    every: Annotated[
        str, typer.Option(metavar="DURATION", help="From one build to the next: 15m, 1h.")
    ] = "15m",
) -> None:
    """Build now and then until Ctrl-C or SIGTERM, which lets a build that is under way finish.

    Each build makes anew the dates that have changed since, those of late events among them. One
    that fails leaves the last good warehouse, and the next one tries again. For a laptop; on a
    cluster, `tidegate warehouse build` is the job of a scheduler.

    Example: `tidegate warehouse schedule --every 15m`
    """
    from dataflows.runtime.signals import install

    stop = install()
    import sys
    import time

    from dataflows.durations import Duration
    from services.warehouse.schedule import keep_building

    try:
        pause = Duration.parse(every)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    def say(line: str) -> None:
        print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), line, file=sys.stderr, flush=True)

    keep_building(context.config(), pause, stop, say)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A query in DuckDB's SQL.")],
    failed: Annotated[
        bool, typer.Option("--failed", help="Ask what the last build that failed had built.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="The answer as CSV.")] = False,
    json: Json = False,
) -> None:
    """Ask the warehouse; changes nothing, and works while another one is built.

    Examples: `tidegate warehouse query "SELECT * FROM gold.fct_daily_summary"`,
    `tidegate warehouse query "SHOW ALL TABLES"`
    """
    from services.warehouse.place import Place
    from services.warehouse.query import query as ask
    from services.warehouse.terminal import as_csv, as_json, print_answer

    if csv and json:
        raise typer.BadParameter("--csv or --json, not both")
    place = Place(context.config().data_path / "warehouse")
    answer = ask(place.failed if failed else place.file, sql)
    if json:
        print(as_json(answer))
    elif csv:
        print(as_csv(answer), end="")
    else:
        print_answer(answer)


@app.command()
def docs(json: Json = False) -> None:
    """Write one HTML page with every table, column and test, and the lineage of each.

    Example: `tidegate warehouse docs`
    """
    from services.warehouse.inspection import document

    page = document(context.config())
    if json:
        import msgspec

        print(msgspec.json.encode({"page": str(page.absolute())}).decode())
    else:
        print(page.absolute().as_uri())


@app.command()
def freshness(json: Json = False) -> None:
    """Say how long ago each source's last record arrived; a source without any is left out.

    Exits with 1 if one is older than its limit (warehouse_sql/models/bronze/sources.yml).

    Example: `tidegate warehouse freshness`
    """
    from dataflows.runtime.exits import Exit
    from services.warehouse.inspection import freshness as sources_freshness
    from services.warehouse.terminal import print_freshness

    sources = sources_freshness(context.config())
    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(sources)).decode())
    else:
        print_freshness(sources)
    if any(source.status not in ("pass", "warn") for source in sources):
        raise typer.Exit(Exit.CHECK_FAILED)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date such as 2026-05-01") from None
