"""contracts: what a source promises, and what a change of it would break."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataflows.runtime.exits import Exit
from services.cli import context

app = typer.Typer(
    no_args_is_help=True,
    help="Check contracts against their history.\n\nExample: `tidegate contracts check`",
)


@app.command()
def check(
    json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Refuse a breaking change against the committed history; exits with 1 if there is one.

    Example: `tidegate contracts check`
    """
    import msgspec

    from dataflows.contracts import check_compatibility

    breaking = check_compatibility(Path(context.config().schemas))
    if json:
        print(msgspec.json.encode(breaking).decode())
    elif not breaking:
        print("contracts: nothing breaks what was promised")
    else:
        for finding in breaking:
            print(f"BREAKS {finding}")
        print("Keep what was promised, or make it a new source or version.")
    if breaking:
        raise typer.Exit(Exit.CHECK_FAILED)
