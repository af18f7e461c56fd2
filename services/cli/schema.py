"""schema: what a change of the contracts does to history, lake, dbt and BigQuery, and doing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataflows.runtime.exits import Exit
from services.cli import context

if TYPE_CHECKING:
    from dataflows.runtime.config import Config
    from services.schema.dataset import Dataset

app = typer.Typer(
    no_args_is_help=True,
    help="Bring every place that keeps events up to the contracts, by adding alone.\n\n"
    "Example: `tidegate schema plan`",
)

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]
BigQuery = Annotated[
    str | None,
    typer.Option(
        "--bigquery",
        metavar="PROJECT.DATASET",
        help="Also the tables of this dataset of BigQuery; by default that of `load`, if any.",
    ),
]


@app.command()
def plan(bigquery: BigQuery = None, json: Json = False) -> None:
    """Show what separates history, lake, dbt and BigQuery from the contracts as they are.

    Changes nothing. Exits with 0 if there is nothing to do or all of it only adds, with 1 if
    something is refused; the refusal says how to have it instead.

    Examples: `tidegate schema plan`, `tidegate schema plan --bigquery shop.bronze --json`
    """
    import msgspec

    from services.schema.plan import plan as compare
    from services.schema.terminal import plan_lines

    config = context.config()
    found = compare(config, _dataset(bigquery, config))
    if json:
        refused = len(found.refused)
        document = {**msgspec.to_builtins(found), "refused": refused, "to_do": len(found.changes)}
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
    else:
        print("\n".join(plan_lines(found)))
    if found.refused:
        raise typer.Exit(Exit.CHECK_FAILED)


@app.command(name="apply")
def apply_(
    bigquery: BigQuery = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Show the plan, then do it: BigQuery's tables, the accepted history, dbt's sources.

    Does nothing, and exits with 1, where something is refused. Can be cut off anywhere: applying
    again does what is left. Commit what it writes.

    Examples: `tidegate schema apply`, `tidegate schema apply --bigquery shop.bronze --yes`
    """
    from datetime import UTC, datetime

    from services.schema.apply import apply
    from services.schema.plan import plan as compare
    from services.schema.terminal import plan_lines

    config = context.config()
    dataset = _dataset(bigquery, config)
    found = compare(config, dataset)
    print("\n".join(plan_lines(found)))
    if found.refused:
        raise typer.Exit(Exit.CHECK_FAILED)
    if not found.changes:
        return
    if not yes and not typer.confirm("Do it?"):
        raise typer.Exit(Exit.CHECK_FAILED)
    apply(config, found, dataset, datetime.now(UTC).date(), lambda line: print(line, flush=True))


@app.command()
def history(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="Only this source, with its first fields."),
    ] = None,
    json: Json = False,
) -> None:
    """List every change of a contract that was accepted, in order, with its day and version.

    Examples: `tidegate schema history`, `tidegate schema history transactions --json`
    """
    import msgspec

    from services.schema.chronicle import chronicle
    from services.schema.terminal import history_lines

    recorded = chronicle(Path(context.config().schemas))
    known = sorted({entry.source for entry in recorded})
    if source is not None and source not in known:
        accepted = ", ".join(known) or "none yet"
        raise typer.BadParameter(f"{source!r} was not accepted as a source; there are {accepted}")
    chosen = [entry for entry in recorded if source in (None, entry.source)]
    if json:
        print(msgspec.json.format(msgspec.json.encode(chosen)).decode())
    else:
        print("\n".join(history_lines(chosen, whole=source is not None)))


def _dataset(name: str | None, config: Config) -> Dataset | None:
    """The one that is named, or else that of `load`."""
    name = name or config.bigquery.dataset
    if not name:
        return None
    from services.schema.dataset import Dataset

    return Dataset(name)
