"""archive: days of the lake in a folder or bucket, and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import context

if TYPE_CHECKING:
    from services.archive.store import Choice

app = typer.Typer(
    no_args_is_help=True,
    help="Export days of the lake to a folder or bucket, verify, restore, and rehearse it.\n\n"
    "Example: `tidegate archive export backup`",
)

To = Annotated[
    str, typer.Argument(metavar="ARCHIVE", help="A folder, gs://bucket/folder or s3://...")
]
Tables = Annotated[
    list[str] | None, typer.Argument(metavar="TABLE...", help="Only these tables of the lake.")
]
First = Annotated[str | None, typer.Option("--from", metavar="DATE", help="The first event date.")]
Last = Annotated[str | None, typer.Option("--to", metavar="DATE", help="The last event date.")]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]


@app.command("export")
def export_days(
    archive: To,
    tables: Tables = None,
    first: First = None,
    last: Last = None,
    json: Json = False,
) -> None:
    """Add each day of each table that is not in the archive as the lake has it.

    What has not changed is left alone; a day that has, by late events, becomes a new version, and
    the old one stays. A day is complete at once or not at all. gs:// and s3:// need their drivers:
    `pip install gcsfs`, `pip install s3fs`.

    Examples: `tidegate archive export backup`,
    `tidegate archive export gs://shop-archive/lake transactions --from 2026-05-01 --to 2026-05-31`
    """
    from services.archive.export import export
    from services.archive.store import Archive
    from services.archive.terminal import export_lines
    from services.warehouse.terminal import Progress

    with Progress() as progress:
        report = export(
            context.config(), Archive(archive), _choice(tables, first, last), progress.node
        )
    _show(report, json, export_lines(report))


@app.command("list")
def list_versions(
    archive: To,
    tables: Tables = None,
    first: First = None,
    last: Last = None,
    json: Json = False,
) -> None:
    """List what is complete in the archive: a line a table, or a version where tables are named.

    Examples: `tidegate archive list backup`, `tidegate archive list backup alerts --json`
    """
    from services.archive.inventory import inventory
    from services.archive.store import Archive
    from services.archive.terminal import summary_lines, version_lines

    listed = inventory(Archive(archive), _choice(tables, first, last))
    _show(listed, json, version_lines(listed) if tables else summary_lines(listed))


@app.command()
def verify(
    archive: To,
    tables: Tables = None,
    first: First = None,
    last: Last = None,
    json: Json = False,
) -> None:
    """Read every version back, and name each file that is missing, changed or half.

    Exits with 1 if there is one.

    Examples: `tidegate archive verify backup`, `tidegate archive verify backup --from 2026-05-01`
    """
    from dataflows.runtime.exits import Exit
    from services.archive.store import Archive
    from services.archive.terminal import verify_lines
    from services.archive.verify import verify as read_back
    from services.warehouse.terminal import Progress

    with Progress() as progress:
        report = read_back(Archive(archive), _choice(tables, first, last), progress.node)
    _show(report, json, verify_lines(report))
    if report.problems:
        raise typer.Exit(Exit.CHECK_FAILED)


@app.command()
def restore(
    archive: To,
    tables: Tables = None,
    first: First = None,
    last: Last = None,
    version: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="This version, not the newest.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A lake directory; default: the lake of --data-dir."),
    ] = None,
    json: Json = False,
) -> None:
    """Put days back into a lake; refuse where it holds something else of them.

    Every file and row is compared with the manifest first. A day is there at once or not at all,
    and a restore that was cut off is finished by doing it again. Stop the load flow before.

    Examples: `tidegate archive restore backup --into restored/lake`,
    `tidegate archive restore backup transactions --from 2026-05-01 --to 2026-05-01 --version 1`
    """
    from services.archive.restore import restore as put_back
    from services.archive.store import Archive
    from services.archive.terminal import restore_lines
    from services.warehouse.terminal import Progress

    lake = into or context.config().lake_path
    with Progress() as progress:
        choice = _choice(tables, first, last)
        report = put_back(Archive(archive), choice, version, lake, progress.node)
    _show(report, json, restore_lines(report))


@app.command()
def drill(
    archive: To,
    tables: Tables = None,
    first: First = None,
    last: Last = None,
    warehouse: Annotated[
        bool,
        typer.Option("--warehouse", help="Build one from each side, and compare the gold tables."),
    ] = False,
    json: Json = False,
) -> None:
    """Restore into a scratch directory, and prove that it is the lake, row for row.

    Exits with 1 if it is not. Changes neither lake nor archive.

    Examples: `tidegate archive drill backup`, `tidegate archive drill backup --warehouse --json`
    """
    from dataflows.runtime.exits import Exit
    from services.archive.drill import drill as rehearse
    from services.archive.store import Archive
    from services.archive.terminal import drill_lines
    from services.warehouse.terminal import Progress

    with Progress() as progress:
        report = rehearse(
            context.config(),
            Archive(archive),
            _choice(tables, first, last),
            warehouse=warehouse,
            tell=progress.node,
        )
    _show(report, json, drill_lines(report))
    if report.differences:
        raise typer.Exit(Exit.CHECK_FAILED)


def _choice(tables: list[str] | None, first: str | None, last: str | None) -> Choice:
    from services.archive.store import Choice

    for text in filter(None, (first, last)):
        if not _is_date(text):
            raise typer.BadParameter(f"{text!r} is no date such as 2026-05-01")
    if first and last and last < first:
        raise typer.BadParameter(f"--to {last} is before --from {first}")
    return Choice(tuple(dict.fromkeys(tables or ())), first or "", last or "~")


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _show(report: Any, json: bool, lines: Sequence[str]) -> None:
    import msgspec

    if json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print("\n".join(lines))
