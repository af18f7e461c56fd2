"""replay: how anyone audits the engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from dataflows.runtime.exits import Exit
from services.cli import context


def register(app: typer.Typer) -> None:
    app.command()(replay)


def replay(
    flow: Annotated[str, typer.Argument(help="ingest, sessionize, features, score or late.")],
    file: Annotated[
        Path,
        typer.Option("--in", metavar="FILE", help="JSON lines in arrival order; .gz or - too."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="One <topic>.jsonl each.")],
    final: Annotated[
        bool, typer.Option("--final", help="Afterwards, let time go on so that everything closes.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="gap, bound, lateness, horizon, ..."),
    ] = None,
    source: Annotated[
        str, typer.Option(help="For ingest and late: whose events the file holds.")
    ] = "clickstream",
    records: Annotated[
        bool, typer.Option("--records", help="Lines are records from `tidegate peek --json`.")
    ] = False,
    arrival: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When plain events arrived (RFC 3339); default now."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Run one flow over a file: the live code, and so the live answers.

    Lines are events as the flow's input topic holds them; a session needs `user_id` and
    `event_timestamp`. Without `--final` only what is already decided is written.

    Example: `tidegate replay sessionize --in events.jsonl --out DIR --final --set gap=10ms
    --set bound=30s --set lateness=1h`
    """
    import msgspec

    from dataflows.flows.topology import FLOWS
    from dataflows.runtime.config import ConfigError, event_time_keys
    from services.replay import replay as run

    if flow not in FLOWS:
        raise typer.BadParameter(f"{flow!r} is no flow; there are {', '.join(FLOWS)}")
    overrides: dict[str, object] = {}
    for setting in settings or ():
        key, sign, value = setting.partition("=")
        if not sign or key not in event_time_keys():
            raise ConfigError(
                f"--set {setting}: write KEY=VALUE with one of {', '.join(event_time_keys())}"
            )
        overrides[f"event_time.{key}"] = int(value) if value.isdecimal() else value
    config = context.config(overrides)
    context.kernels()
    report = run(
        flow,
        source,
        file,
        out,
        config,
        final=final,
        as_records=records,
        arrival_us=_instant(arrival),
    )
    if json:
        print(msgspec.json.encode(report).decode())
    else:
        print(report.totals.line())
        for topic, lines in report.written.items():
            print(f"  {lines:>9,} lines  {out / topic}.jsonl")
    if report.totals.difference:
        raise typer.Exit(Exit.CHECK_FAILED)


def _instant(text: str | None) -> int:
    from dataflows.contracts.timestamps import parse_timestamps

    if text is None:
        return time.time_ns() // 1_000
    times, ok = parse_timestamps([text])
    if not ok[0]:
        raise typer.BadParameter(f"{text!r} is no RFC 3339 time such as 2026-05-01T12:00:00Z")
    return int(times[0])
