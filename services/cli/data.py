"""publish, simulate: events in."""

from __future__ import annotations

import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataflows.runtime.exits import Exit
from services.cli import context

if TYPE_CHECKING:
    from dataflows.contracts import Contract
    from dataflows.flows.shop import Shop
    from services.publisher.report import Progress, PublishReport


def register(app: typer.Typer) -> None:
    app.command()(publish)
    app.command()(simulate)
    app.command()(simulate_handbook)


def publish(
    source: Annotated[str, typer.Argument(help="A source: a folder of schemas/.")],
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=".gz and - (stdin) too.")],
    format: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="jsonl, csv or combined-log; else by the file's name."),
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="A field's column; dots for nesting."),
    ] = None,
    constants: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="The same value in every record."),
    ] = None,
    timestamp_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="As strptime, e.g. %Y%m%d; %s for seconds.")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(metavar="ORDER", help="file or time; tables and logs go by time."),
    ] = None,
    whole_file: Annotated[
        bool, typer.Option("--whole-file", help="Each file is one record, byte for byte.")
    ] = False,
    complete: Annotated[
        bool,
        typer.Option("--complete", help="Nothing follows: move time on so that sessions close."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check only, publish nothing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Bring your own data in. Malformed lines are named by line and column, the rest is published.

    Exits with 65 if some lines were refused. Examples:

    `tidegate publish clickstream events.jsonl`

    `tidegate publish clickstream access.log.gz --format combined-log --complete`

    `tidegate publish transactions sales.csv --map user_id=customer --map total_amount=dollars
    --map event_timestamp=day --timestamp-format %Y%m%d --set currency=USD`
    """
    import msgspec

    from dataflows.connectors.records import heartbeat
    from services.publisher.heartbeats import completion_time
    from services.publisher.options import parse_options
    from services.publisher.publish import publish_files

    shop = context.shop()
    contract = _contract(shop, source)
    settings = shop.config.event_time
    options = parse_options(
        format=format,
        mapping=mapping or (),
        constants=constants or (),
        timestamp_format=timestamp_format,
        whole_file=whole_file,
        dry_run=dry_run,
        order=order,
        not_after_us=time.time_ns() // 1_000 + settings.max_future,
        late_after_us=settings.bound + settings.lateness,
    )
    report = publish_files(contract, files, options, shop.log.append, _show_progress)
    if report.last_us is not None and not dry_run:
        reached = report.last_us
        if complete:
            reached = completion_time(reached, settings.gap, settings.lateness, settings.bound)
        partitions = shop.topology.topics[contract.topic]
        shop.log.append([heartbeat(contract.topic, p, reached) for p in range(partitions)])
    _report(report, json, lambda document: msgspec.json.encode(document).decode())


def simulate(
    rate: Annotated[
        float | None,
        typer.Option(min=1, metavar="N", help="Events a second; default: all at once."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Simulated days.")] = 30,
    events: Annotated[int, typer.Option(min=1_000, help="Events of all sources.")] = 320_000,
    customers: Annotated[int | None, typer.Option(min=20, help="How many there are.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 7,
    start: Annotated[
        str | None, typer.Option(metavar="DATE", help="First day; default: so that it ends today.")
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE=SHARE", help="Share of a source, e.g. transactions=0.2."),
    ] = None,
    fraud: Annotated[float, typer.Option(min=0, max=0.1, help="Share of payments.")] = 0.006,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write what was injected.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="The ground truth on standard output.")
    ] = False,
) -> None:
    """Write a believable shop's events, with faults and frauds whose counts are known.

    Examples: `tidegate simulate --rate 500`, `tidegate simulate --days 7 --events 80000 --seed 11
    --mix transactions=0.2 --truth truth.json`.
    """
    from dataflows.runtime.signals import install
    from services.simulator.driver import publish_chunks
    from services.simulator.settings import DEFAULT_MIX, SimulationSettings
    from services.simulator.simulate import simulate as make
    from services.simulator.truth import write_truth

    stop = install()
    shop = context.shop()
    first = _date(start) if start else (datetime.now(UTC) - timedelta(days=days)).date()
    _warn_if_late(shop, first)
    simulation = make(
        SimulationSettings(
            start=first,
            days=days,
            customers=customers or max(20, min(4_000, events // 80)),
            target_events=events,
            seed=seed,
            mix=_shares(mix or (), DEFAULT_MIX),
            fraud_share=fraud,
            partitions={name: shop.topology.topics[f"raw.{name}"] for name in DEFAULT_MIX},
        )
    )
    if truth is not None:
        write_truth(simulation.truth, truth)
    records = publish_chunks(shop.log, simulation.chunks(), rate, stop)
    if json:
        import msgspec

        print(msgspec.json.encode(simulation.truth).decode())
    else:
        print(f"{records:,} events from {first}, {days} days; `tidegate status` shows the flows")


def simulate_handbook(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help=".parquet or .csv.")],
    days: Annotated[int, typer.Option(min=1, help="Simulated days.")] = 183,
    customers: Annotated[int, typer.Option(min=1, help="How many there are.")] = 5_000,
    terminals: Annotated[int, typer.Option(min=1, help="How many there are.")] = 10_000,
    start: Annotated[str, typer.Option(metavar="DATE", help="First day.")] = "2018-04-01",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same payments.")] = 0,
) -> None:
    """Write card payments as the Fraud Detection Handbook describes them, three kinds of fraud too.

    For training without data of your own, and for comparing with the book. The defaults are the
    size of the book's draw: 1.7 million payments. Nothing goes into the log.

    Example: `tidegate simulate-handbook --out payments.parquet --days 60 --customers 500
    --terminals 1000`
    """
    import pyarrow.csv
    import pyarrow.parquet

    from services.simulator.handbook import HandbookSettings, simulate_handbook

    writers = {".parquet": pyarrow.parquet.write_table, ".csv": pyarrow.csv.write_csv}
    if out.suffix not in writers:
        raise typer.BadParameter(f"{out}: write it as .parquet or .csv")
    table = simulate_handbook(HandbookSettings(customers, terminals, days, _date(start), seed))
    writers[out.suffix](table, out)
    scenarios = table["tx_fraud_scenario"].to_numpy()
    large, terminal, customer = (int((scenarios == kind).sum()) for kind in (1, 2, 3))
    print(
        f"{len(table):,} payments of {days} days in {out}; frauds: {large:,} too large, "
        f"{terminal:,} at compromised terminals, {customer:,} by compromised customers"
    )


def _contract(shop: Shop, source: str) -> Contract:
    if source not in shop.contracts:
        raise typer.BadParameter(f"{source!r} is no source; there are {', '.join(shop.contracts)}")
    return shop.contracts[source]


def _show_progress(progress: Progress) -> None:
    if not sys.stderr.isatty():
        return
    share = f" {progress.position / progress.size:.0%}" if progress.size else ""
    print(f"\r{progress.file}{share} {progress.accepted:,} records", end="", file=sys.stderr)


def _report(report: PublishReport, json: bool, encode) -> None:  # type: ignore[no-untyped-def]
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if json:
        print(encode(report.to_json()))
    else:
        print("\n".join(report.summary()))
    if report.rejected:
        raise typer.Exit(Exit.BAD_DATA)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date such as 2026-05-01") from None


def _shares(texts: list[str] | tuple[()], default: object) -> dict[str, float]:
    shares = dict(default)  # type: ignore[call-overload]
    for text in texts:
        source, _, share = text.partition("=")
        try:
            shares[source] = float(share)
        except ValueError:
            raise typer.BadParameter(f"--mix {text!r}: write SOURCE=SHARE, share in 0..1") from None
    others = sum(share for source, share in shares.items() if source != "clickstream")
    return shares | {"clickstream": max(0.0, 1.0 - others)}


def _warn_if_late(shop: Shop, first: date) -> None:
    """Time in the log does not go back: what was simulated before makes the same days late."""
    starts_us = (
        int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) * 1_000_000
    )
    reached = max((m.watermark_us for m in shop.log.markers().values()), default=0)
    if reached > starts_us:
        until = datetime.fromtimestamp(min(reached, 2**52) / 1e6, UTC).isoformat(timespec="seconds")
        print(
            f"tidegate: this log has reached {until}, so events from {first} on come late; "
            "another --data-dir starts afresh",
            file=sys.stderr,
        )
