"""warehouse: from the lake to a star schema, with dbt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import context

if TYPE_CHECKING:
    from services.warehouse.build import Report

app = typer.Typer(
    no_args_is_help=True,
    help="Build silver and gold from the lake with dbt on DuckDB, ask them, keep them right.\n\n"
    "Example: `tidegate warehouse build`",
)

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]


@app.command()
def build(
    full: Annotated[bool, typer.Option("--full", help="Every date anew, not just changed ones.")]
    = False,
    json: Json = False,
) -> None:
    """Bring the warehouse up to what the lake holds, test it, and put it in place of the last one.

    Makes the dates anew that have changed since; at first, or when models or contracts have
    changed, all of them. Exits with 1 if a test fails: the last good warehouse stays then.

    Examples: `tidegate warehouse build`, `tidegate -d .tidegate/demo warehouse build --full`
    """
    from services.warehouse.build import build as build_warehouse
    from services.warehouse.terminal import Progress

    with Progress() as progress:
        report = build_warehouse(context.config(), full=full, tell=progress.node)
    _show(report, json)


def _show(report: Report, json: bool) -> None:
    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    from services.warehouse.terminal import print_report

    print_report(report)
