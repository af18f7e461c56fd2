"""status, health, peek, doctor, version: looking without touching."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dataflows.runtime.exits import Exit
from services.cli import context

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]


def register(app: typer.Typer) -> None:
    for command in (status, health, peek, doctor, version):
        app.command()(command)


def status(
    flow: Annotated[str | None, typer.Argument(help="Only this flow.")] = None,
    all_slots: Annotated[
        bool, typer.Option("--all", help="Also slots that have had nothing to do.")
    ] = False,
    json: Json = False,
) -> None:
    """Each slot's offset, lag, watermark and counts, whether they add up, and the workers' health.

    On Kafka also transactions that do not end, groups whose offsets somebody moved, and topics
    whose settings differ.

    Exits with 1 if the counts do not add up.

    Examples: `tidegate status`, `tidegate status ingest --json`
    """
    import msgspec

    from dataflows.flows.topology import FLOWS
    from services.status.bus import bus_findings
    from services.status.slots import flow_totals, slot_statuses
    from services.supervisor.readiness import worker_health

    if flow is not None and flow not in FLOWS:
        raise typer.BadParameter(f"{flow!r} is no flow; there are {', '.join(FLOWS)}")
    shop = context.shop()
    statuses = slot_statuses(shop, (flow,) if flow else FLOWS)
    totals, workers = flow_totals(statuses), worker_health(shop.config)
    findings = bus_findings(shop, statuses)
    if json:
        document = {"slots": statuses, "flows": totals, "workers": workers, "bus": findings}
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
    else:
        from services.status.table import print_slots

        print_slots([s for s in statuses if all_slots or s.records_in or s.lag_records])
        for total in totals:
            if total.records_in:
                print(total.line())
        for line in findings.lines():
            print(line)
        for worker in workers:
            print(f"worker {worker.name}: {worker.state}, process {worker.pid}, port {worker.port}")
    if any(total.difference for total in totals):
        raise typer.Exit(Exit.CHECK_FAILED)


def health(json: Json = False) -> None:
    """Whether the service on this data directory is ready, in one line; exits with 1 if it is not.

    For a container's health check: asks what runs here, not the log. A service is ready once every
    slot is running.

    Examples: `tidegate health`, `tidegate -d shop health --json`
    """
    from services.supervisor.readiness import service_health

    ready, text = service_health(context.config())
    if json:
        import msgspec

        print(msgspec.json.encode({"ready": ready, "detail": text}).decode())
    else:
        print(f"{'ready' if ready else 'not ready'}: {text}")
    if not ready:
        raise typer.Exit(Exit.CHECK_FAILED)


def peek(
    topic: Annotated[str, typer.Argument(help="A topic; `tidegate topics` lists them.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many records.")] = 10,
    partition: Annotated[int | None, typer.Option(help="Only this partition.")] = None,
    offset: Annotated[
        int | None, typer.Option(help="From this offset; else the last ones.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON line a record, as `replay --records` reads.")
    ] = False,
) -> None:
    """Show records of a topic: the last ones, or those from an offset.

    Examples: `tidegate peek alerts`, `tidegate peek dlq.clickstream -n 3`,
    `tidegate peek raw.clickstream --partition 0 --offset 0 -n 1000 --json > records.jsonl`.
    """
    from services.status.peek import peek_records, print_record, to_json_line

    record = None
    for record in peek_records(context.shop().log, topic, partition, offset, count):
        if json:
            sys.stdout.write(to_json_line(record) + "\n")
        else:
            print_record(record)
    if record is None and not json:
        print(
            f"{topic} holds no records yet; `tidegate status` tells who is at work", file=sys.stderr
        )


def doctor(json: Json = False) -> None:
    """Check this machine: Python, disk, log, contracts, compiled kernels, and say what is wrong.

    Example: `tidegate doctor`
    """
    import msgspec

    from services.status.doctor import examine

    findings = examine(context.config())
    if json:
        print(msgspec.json.encode(findings).decode())
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.good else 'BAD '} {finding.what}: {finding.detail}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(Exit.CHECK_FAILED)


def version(json: Json = False) -> None:
    """The versions of Tidegate and of what it stands on.

    Example: `tidegate version --json`
    """
    import platform
    from importlib.metadata import version as version_of

    import msgspec

    names = ("tidegate", "bytewax", "numba", "numpy", "msgspec", "pyarrow", "duckdb")
    versions = {name: version_of(name) for name in names} | {"python": platform.python_version()}
    if json:
        print(msgspec.json.encode(versions).decode())
        return
    print("\n".join(f"{name} {number}" for name, number in versions.items()))
