"""cost: what a day of this traffic costs on Google Cloud."""

from __future__ import annotations

from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from services.cli import context


def register(app: typer.Typer) -> None:
    app.command()(cost)


def cost(
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="The first event date.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="The last event date.")
    ] = None,
    scale: Annotated[
        str, typer.Option(metavar="FACTOR", help="So many times this traffic: 10, 0.5.")
    ] = "1",
    prices: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A price file (YAML); else that of [cost] prices."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT", help="What a day may cost, in the price file's currency; 0: any."
        ),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also as metrics, for node exporter: NAME.prom."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="For programs: JSON on standard output.")
    ] = False,
) -> None:
    """What a day of this traffic costs on Google Cloud, by part, and where each amount is from.

    Volumes are measured, in lake, log and warehouse; prices are those of a file that were valid on
    the day. By default of the last complete week there is. Exits with 1 if a day costs more than a
    share of the budget that [cost] alert_at watches.

    Examples: `tidegate cost`, `tidegate cost --scale 10 --budget 50`,
    `tidegate cost --from 2026-05-01 --to 2026-05-31 --json`
    """
    begin, end = _date(first), _date(last)
    if begin and end and end < begin:
        raise typer.BadParameter(f"--to {end} is before --from {begin}")
    factor = _amount("--scale", scale)
    if not factor:
        raise typer.BadParameter("--scale 0 is no traffic; write a factor such as 10 or 0.5")
    asked = None if budget is None else _amount("--budget", budget)

    from dataflows.runtime.exits import Exit
    from services.cost.measure import chosen_days, measure
    from services.cost.metrics import write_metrics
    from services.cost.prices import read_prices
    from services.cost.report import cost_report
    from services.cost.terminal import lines

    config = context.config()
    listed = read_prices(prices or config.prices_path, config.cost.region)
    traffic = measure(config)
    report = cost_report(
        traffic.measured,
        chosen_days(traffic.dates, begin, end, config.lake_path),
        listed,
        config.cost,
        factor,
        config.cost.budget_a_day if asked is None else asked,
    )
    if metrics is not None:
        write_metrics(report, metrics)
    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print("\n".join(lines(report)))
    if report.budget and report.budget.alerts:
        raise typer.Exit(Exit.CHECK_FAILED)


def _date(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date such as 2026-05-01") from None


def _amount(option: str, text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"{option} {text!r} is no number, 0 or more, such as 10 or 0.5")
    return amount
