"""demo: see it all work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from dataflows.runtime.exits import Exit
from services.cli import context


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    days: Annotated[int, typer.Option(min=1, help="Simulated days.")] = 30,
    events: Annotated[int, typer.Option(min=10_000, help="Events of all sources.")] = 320_000,
    seed: Annotated[int, typer.Option(help="Another seed is another shop.")] = 7,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 8_000.0,
) -> None:
    """A month of a shop's life through every flow, checked against what was injected.

    Takes under two minutes, leaves an HTML report, exits with 1 if anything does not add up.
    Examples: `tidegate demo`, `tidegate demo --days 7 --events 80000 --seed 11`.
    """
    from dataflows.runtime.signals import install

    stop = install()
    from rich.console import Console

    from services.demo.demo import DemoSettings, run_demo
    from services.demo.progress import Progress
    from services.report.terminal import print_summary

    config = context.config()
    directory = config.data_path / "demo"
    context.choose_data_dir(directory)
    os.environ.update(TIDEGATE_SERVICE_PORT="0", TIDEGATE_BUS="")  # for its processes, too
    demo_config = context.config()
    context.kernels()
    console = Console()
    settings = DemoSettings(days=days, events=events, seed=seed, rate=rate)
    options = [*context.options()]
    with Progress(console, events) as progress:
        facts, page = run_demo(demo_config, settings, stop, options, progress)
    print_summary(facts, console)
    _what_next(console, page, directory)
    if not facts.adds_up:
        raise typer.Exit(Exit.CHECK_FAILED)


def _what_next(console: Console, page: Path, directory: Path) -> None:  # type: ignore[name-defined]  # noqa: F821
    console.print(f"\nReport: {page.absolute().as_uri()}", highlight=False, soft_wrap=True)
    command = "tidegate" if _on_path() else ".venv/bin/tidegate"
    console.print("Try next:")
    for line in (
        f"{command} -d {directory} peek alerts -n 1",
        f"{command} -d {directory} peek dlq.clickstream -n 3",
        f"{command} -d {directory} status",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


def _on_path() -> bool:
    import shutil

    return shutil.which("tidegate") is not None
