"""up, run, reset: the long-lived service and its parts."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from dataflows.runtime.exits import Exit
from services.cli import context

if TYPE_CHECKING:
    from dataflows.runtime.slot import Slot


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(run)
    app.command()(reset)
    app.command()(reshard)


def up(
    for_seconds: Annotated[
        float | None,
        typer.Option("--for", min=0, metavar="SECONDS", help="Stop by itself after so long."),
    ] = None,
) -> None:
    """Run every flow as a long-lived service, until Ctrl-C or SIGTERM.

    Example: `tidegate up`, and in another terminal `tidegate simulate --rate 500`.
    """
    from dataflows.runtime.signals import install

    stop = install()
    from services.supervisor.service import run_service

    if for_seconds is not None:
        import threading

        timer = threading.Timer(for_seconds, stop.set)
        timer.daemon = True  # does not outlive a service that fails
        timer.start()
    run_service(context.shop(), stop, context.options(), say=_say)


def run(
    flows: Annotated[
        list[str], typer.Argument(metavar="FLOW...", help="ingest, sessionize, features, ...")
    ],
    slot: Annotated[
        list[str] | None,
        typer.Option("--slot", metavar="TOPIC/PARTITION", help="Only these slots."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The worker's name in `status`.")] = None,
    port: Annotated[int, typer.Option(help="For /metrics, /livez, /readyz; 0 takes any.")] = 0,
) -> None:
    """Run one flow (or a few) in this process, until Ctrl-C or SIGTERM.

    Examples: `tidegate run ingest`, `tidegate run ingest --slot raw.clickstream/0`,
    `tidegate run sessionize load --slot events.clickstream/1`
    """
    from dataflows.runtime.signals import install

    stop = install()
    from dataflows.flows.opening import builder
    from dataflows.runtime.worker import run_worker
    from services.reshard.reshard import refuse_unfinished

    shop = context.shop()
    refuse_unfinished(shop.log)
    slots = _chosen_slots({flow: shop.slots(_known(flow)) for flow in flows}, slot)
    for hosted in slots.values():
        for each in hosted:
            each.stop = stop
    names = [each.name for hosted in slots.values() for each in hosted]
    shop.log.prepare(names, list(shop.topology.topics))
    run_worker(
        name or "-".join(flows),
        slots,
        {flow: builder(shop, flow) for flow in flows},
        shop.log,
        shop.config,
        port,
    )
    # All is drained. Tearing the interpreter down under the threads of probes and of native
    # libraries could only crash it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(Exit.OK)


def reset(
    flows: Annotated[
        list[str] | None,
        typer.Argument(metavar="FLOW...", help="The flows whose state is thrown away."),
    ] = None,
    all_flows: Annotated[bool, typer.Option("--all", help="Every flow.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Throw away the state of flows; it is rebuilt from the log, and nothing is published twice.

    What retention has already removed is missing from the new state.

    Examples: `tidegate reset sessionize`, `tidegate reset --all --yes`
    """
    from dataflows.flows.topology import FLOWS
    from dataflows.runtime.recovery import Lease, reset_recovery

    if bool(flows) == all_flows:
        raise typer.BadParameter(f"name flows, or say --all; there are {', '.join(FLOWS)}")
    shop = context.shop()
    chosen = [_known(flow) for flow in flows or FLOWS]
    slots = [slot for flow in chosen for slot in shop.slots(flow)]
    what = f"{len(slots)} slots of {', '.join(chosen)}"
    if not yes and not typer.confirm(f"Throw away the state of {what}?"):
        raise typer.Exit(1)
    for slot in slots:
        lease = Lease(slot.directory, f"slot {slot.name}", shop.config.slots.lease_wait)
        reset_recovery(slot.directory)
        lease.release()
    print(f"{what} will rebuild their state from the log at the next start.")


def reshard(
    name: Annotated[
        str, typer.Argument(metavar="FLOW", help="sessionize, features, score, or a source.")
    ],
    partitions: Annotated[int, typer.Option(min=1, help="A multiple of the present number.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give a flow more slots: more partitions for its source, on any log, exactly once.

    Stop the service and whoever writes to the source first. What is left is drained, each new
    slot's state is rebuilt from the log and handed over in it, partitions are added. Then
    configure the new number and start again. The time it took is printed.

    Examples: `tidegate reshard sessionize --partitions 4`,
    `tidegate reshard customer_support --partitions 2 --yes`
    """
    from services.reshard.reshard import reshard as multiply
    from services.reshard.reshard import source_of

    shop = context.shop_as_it_is()
    source = source_of(name, shop)
    question = f"Give {source} {partitions} partitions? There is no way back."
    if not yes and not typer.confirm(question):
        raise typer.Exit(1)
    started = time.monotonic()
    multiply(shop, source, partitions, say=_say)
    took_s = time.monotonic() - started
    print(
        f"{source} has {partitions} partitions; downtime so far {took_s:.1f} s. Configure "
        f"them ([partitions] {source} = {partitions}) wherever flows run or events are published, "
        "then start again."
    )


def _known(flow: str) -> str:
    from dataflows.flows.topology import FLOWS

    if flow not in FLOWS:
        raise typer.BadParameter(f"{flow!r} is no flow; there are {', '.join(FLOWS)}")
    return flow


def _chosen_slots(slots: dict[str, list[Slot]], wanted: list[str] | None) -> dict[str, list[Slot]]:
    """The slots of each flow that are wanted; every wanted one belongs to some flow."""
    if not wanted:
        return slots
    named = {flow: {f"{s.topic}/{s.partition}": s for s in own} for flow, own in slots.items()}
    known = list(dict.fromkeys(name for own in named.values() for name in own))
    for name in wanted:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is no slot; there are {', '.join(known)}")
    return {flow: [own[name] for name in wanted if name in own] for flow, own in named.items()}


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
