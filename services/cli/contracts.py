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


Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]


@app.command("list")
def list_contracts(json: Json = False) -> None:
    """Every source with its version, topic, key and owner.

    Example: `tidegate contracts list`
    """
    import msgspec

    from dataflows.contracts import load_contracts

    found = [
        {
            "source": contract.source,
            "version": contract.version,
            "topic": contract.topic,
            "key": contract.key,
            "owner": contract.owner,
            "description": contract.description,
        }
        for contract in load_contracts(_schemas()).values()
    ]
    if json:
        print(msgspec.json.encode(found).decode())
        return
    for contract in found:
        print(f"{contract['source']}/{contract['version']}  {contract['description']}")


@app.command()
def check(json: Json = False) -> None:
    """Refuse a breaking change against the committed history; exits with 1 if there is one.

    What was only added is fine, and named: `contracts accept` makes it part of the promise.

    Example: `tidegate contracts check`
    """
    import msgspec

    from dataflows.contracts import compare_with_history

    changes = compare_with_history(_schemas())
    if json:
        print(msgspec.json.encode(changes).decode())
    else:
        for addition in changes.additions:
            print(f"added  {addition}")
        for breaking in changes.breaking:
            print(f"BREAKS {breaking}")
        if changes.breaking:
            print("Keep what was promised, or make it a new source.")
        else:
            print("contracts: nothing breaks what was promised")
    if changes.breaking:
        raise typer.Exit(Exit.CHECK_FAILED)


@app.command()
def accept() -> None:
    """Make the contracts as they are part of the promise: writes schemas/history, to be committed.

    Refuses while something breaks what was promised before. Example: `tidegate contracts accept`
    """
    from datetime import UTC, datetime

    from dataflows.contracts import accept as write_history

    for file in write_history(_schemas(), datetime.now(UTC).date()):
        print(f"wrote {file}")


def _schemas() -> Path:
    return Path(context.config().schemas)
