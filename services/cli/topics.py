"""topics: which there are, and how they should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dataflows.runtime.exits import Exit
from services.cli import context

if TYPE_CHECKING:
    from dataflows.connectors.log import TopicStep
    from dataflows.flows.shop import Shop

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]
Shorten = Annotated[
    bool, typer.Option("--shorten", help="Also keep records for a shorter time than now.")
]


@app.callback(invoke_without_command=True)
def topics(called: typer.Context, json: Json = False) -> None:
    """Every topic: partitions, records, size. `plan` and `apply` see to their settings.

    Examples: `tidegate topics`, `tidegate topics plan`, `tidegate topics apply`
    """
    if called.invoked_subcommand is not None:
        return
    import msgspec

    held = context.shop_as_it_is().log.topics()
    if json:
        print(msgspec.json.encode({name: info._asdict() for name, info in held.items()}).decode())
        return
    from services.status.table import print_topics

    print_topics(held)


@app.command()
def plan(shorten: Shorten = False, json: Json = False) -> None:
    """Show what separates the topics from what contracts, configuration and flows ask for.

    Changes nothing. Exits with 0 if there is nothing to do, with 1 if there is a difference.

    Examples: `tidegate topics plan`, `tidegate topics plan --json`
    """
    _, steps = _planned(shorten)
    _show(steps, json)
    if steps:
        raise typer.Exit(Exit.CHECK_FAILED)


@app.command(name="apply")
def apply_(shorten: Shorten = False, json: Json = False) -> None:
    """Show the plan, then make the topics that are missing and change the settings that differ.

    Never deletes a topic, and never changes a number of partitions. Where `plan` says refuse,
    nothing is done; what it holds back stays as it is, and the exit code is 1.

    Examples: `tidegate topics apply`, `tidegate topics apply --shorten`
    """
    shop, steps = _planned(shorten)
    _show(steps, json)
    shop.log.apply_topics(steps, shop.topology.topics, shop.topology.keep_s)
    if any(step.do == "hold" for step in steps):
        raise typer.Exit(Exit.CHECK_FAILED)


def _planned(shorten: bool) -> tuple[Shop, list[TopicStep]]:
    shop = context.shop_as_it_is()
    wiring = shop.topology
    steps = shop.log.plan_topics(wiring.topics, wiring.keep_s, wiring.writer_names(), shorten)
    return shop, steps


def _show(steps: Sequence[TopicStep], json: bool) -> None:
    if json:
        import msgspec

        document = {"steps": [step._asdict() for step in steps]}
        print(msgspec.json.encode(document).decode())
        return
    for step in steps:
        print(_line(step))
    if not steps:
        print("Every topic is as contracts, configuration and flows ask for.")


def _line(step: TopicStep) -> str:
    if step.do == "create":
        settings = f" ({step.advice})" if step.advice else ""
        return f"create  {step.topic}: {step.wanted} partition(s){settings}"
    advice = f"; {step.advice}" if step.advice else ""
    return f"{step.do:<7} {step.topic}: {step.setting} {step.now} -> {step.wanted}{advice}"
