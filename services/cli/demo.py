"""demo: see it all work; broker: a Kafka to try it on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataflows.errors import TidegateError
from dataflows.runtime.exits import Exit
from services.cli import context
from services.demo.bus import Bus

if TYPE_CHECKING:
    from rich.console import Console


WAREHOUSE_QUERY = "warehouse query 'FROM gold.fct_daily_summary'"


def register(app: typer.Typer) -> None:
    app.command()(demo)
    app.command()(broker)


def demo(
    days: Annotated[int, typer.Option(min=1, help="Simulated days.")] = 30,
    events: Annotated[int, typer.Option(min=10_000, help="Events of all sources.")] = 320_000,
    seed: Annotated[int, typer.Option(help="Another seed is another shop.")] = 7,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 8_000.0,
    bus: Annotated[
        Bus, typer.Option(help="kafka starts a broker for the demo; that needs java and mvn.")
    ] = Bus.EMBEDDED,
) -> None:
    """A month of a shop's life through every flow, checked against what was injected.

    Takes about two minutes, leaves an HTML report and a warehouse, exits with 1 if anything does
    not add up. Examples: `tidegate demo`, `tidegate demo --bus kafka`,
    `tidegate demo --days 7 --events 80000 --seed 11`.
    """
    from dataflows.runtime.signals import install

    stop = install()
    from rich.console import Console

    from services.demo.bus import own_bus
    from services.demo.demo import DemoSettings, empty, run_demo
    from services.demo.progress import Progress
    from services.report.terminal import print_summary

    directory = context.config().data_path / "demo"
    context.choose_data_dir(directory)
    os.environ["TIDEGATE_SERVICE_PORT"] = "0"  # for its processes, too
    context.kernels()
    console = Console()
    settings = DemoSettings(days=days, events=events, seed=seed, rate=rate)
    empty(directory)
    with Progress(console, events) as progress:
        if bus is Bus.KAFKA:
            progress.step("starting Kafka")
        with own_bus(bus, directory) as url:
            facts, page = run_demo(context.config(), settings, stop, context.options(), progress)
    print_summary(facts, console)
    first = f"explain {facts.alerts.top[0].alert_id}" if facts.alerts.top else "peek alerts -n 1"
    _what_next(console, page, directory, url if bus is Bus.KAFKA else None, first)
    if not facts.adds_up:
        raise typer.Exit(Exit.CHECK_FAILED)


def _what_next(
    console: Console, page: Path, directory: Path, kafka: str | None, first: str
) -> None:
    console.print(f"\nReport: {page.absolute().as_uri()}", highlight=False, soft_wrap=True)
    command = "tidegate" if _on_path() else ".venv/bin/tidegate"
    asking = f"{command} -d {directory}"
    if kafka:
        port = kafka.rpartition(":")[2]
        console.print("Try next, while the demo's Kafka runs in another terminal")
        console.print(
            f"({command} broker {directory / 'kafka'} --port {port}):",
            highlight=False,
            soft_wrap=True,
        )
        asking = f"TIDEGATE_BUS={kafka} {asking}"
    else:
        console.print("Try next:")
    for line in (first, "rules backtest card_burst", WAREHOUSE_QUERY):
        console.print(f"  {asking} {line}", highlight=False, soft_wrap=True)


def broker(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Its data, kept when it ends.")],
    port: Annotated[int, typer.Option(min=1, max=65_535, help="On 127.0.0.1.")] = 9092,
) -> None:
    """Run a Kafka of one node on this machine, to try things on, until Ctrl-C. Needs java and mvn.

    Example: `tidegate broker .tidegate/kafka`, and in another terminal
    `TIDEGATE_BUS=kafka://127.0.0.1:9092 tidegate up`.
    """
    from dataflows.runtime.signals import install

    stop = install()
    import sys

    from services.broker.broker import Broker

    started = Broker(directory.absolute(), port=port)
    print(f"{started.url} is ready; its data are in {directory}", file=sys.stderr, flush=True)
    while not stop.wait(0.2):
        if started.process.poll() is not None:
            raise TidegateError(f"Kafka ended by itself; see {directory / 'kafka.log'}")
    started.stop()


def _on_path() -> bool:
    import shutil

    return shutil.which("tidegate") is not None
