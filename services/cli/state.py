"""state: what slots remember, carried to another place and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import context

if TYPE_CHECKING:
    from dataflows.flows.shop import Shop
    from dataflows.runtime.slot import Slot
    from services.bundles.transfer import Transferred

app = typer.Typer(
    no_args_is_help=True,
    help="Export the state of stopped slots to a folder or bucket, restore it, look at it.\n\n"
    "Example: `tidegate state export --all backup`",
)

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]
Only = Annotated[
    list[str] | None, typer.Option("--slot", metavar="TOPIC/PARTITION", help="Only these slots.")
]


@app.command("export")
def export_state(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[FLOW...] TO", help="Flows, then a folder, gs://bucket/folder or s3://..."
        ),
    ],
    all_flows: Annotated[bool, typer.Option("--all", help="Every flow.")] = False,
    slot: Only = None,
    json: Json = False,
) -> None:
    """Write a bundle of each stopped slot to a folder or bucket; a slot that runs is refused.

    The last three bundles of a slot are kept. gs:// and s3:// need their drivers: `pip install
    gcsfs`, `pip install s3fs`.

    Examples: `tidegate state export sessionize backup`,
    `tidegate state export --all gs://shop-state/nightly`,
    `tidegate state export sessionize backup --slot events.clickstream/0 --json`.
    """
    from services.bundles.shelf import Shelf
    from services.bundles.transfer import export_slot

    *flows, to = words
    if bool(flows) == all_flows:
        raise typer.BadParameter("name flows and then a place, or say --all and a place")
    shop, shelf = context.shop(), Shelf(to)
    slots = _slots(shop, flows, slot)
    done = [made for each in slots if (made := export_slot(each, shelf)) is not None]
    _report(done, json, "exported", f"{len(slots) - len(done)} slots have no state yet")


@app.command("restore")
def restore_state(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="A folder or bucket, or one .bundle in it.")
    ],
    flows: Annotated[
        list[str] | None, typer.Argument(metavar="FLOW...", help="Only these flows.")
    ] = None,
    slot: Only = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Replace the state of stopped slots by the newest bundles there; refuse what does not fit.

    What was published after a bundle was made is read again at the next start, and not published
    again.

    Examples: `tidegate state restore backup --yes`,
    `tidegate state restore gs://shop-state/nightly sessionize`,
    `tidegate state restore backup/sessionize.events.clickstream.0.00000004.bundle`.
    """
    from dataflows.errors import TidegateError
    from services.bundles.shelf import Shelf
    from services.bundles.transfer import SUFFIX, newest_bundles, restore_slot

    folder, _, name = source.rpartition("/") if source.endswith(SUFFIX) else (source, "", "")
    shop, shelf = context.shop(), Shelf(folder or ".")
    bundles = {name.removesuffix(SUFFIX).rpartition(".")[0]: name} if name else None
    found = bundles or newest_bundles(shelf)
    slots = [each for each in _slots(shop, flows or [], slot) if each.name in found]
    if not slots:
        raise TidegateError(
            f"{source}: holds no bundle of these slots; `tidegate state show --in {folder}` lists "
            "what is there"
        )
    if not yes and not typer.confirm(f"Replace the state of {len(slots)} slots?"):
        raise typer.Exit(1)
    done = [restore_slot(each, shelf, found[each.name]) for each in slots]
    _report(done, json, "restored", "")


@app.command("show")
def show_state(
    flows: Annotated[
        list[str] | None, typer.Argument(metavar="FLOW...", help="Only these flows.")
    ] = None,
    shelf: Annotated[
        str | None, typer.Option("--in", metavar="FROM", help="The bundles there instead.")
    ] = None,
    json: Json = False,
) -> None:
    """Show each slot's state: up to which offset, what a start would replay, how it is kept.

    Examples: `tidegate state show`, `tidegate state show sessionize --json`,
    `tidegate state show --in gs://shop-state/nightly`.
    """
    import msgspec

    from services.bundles.show import bundles_in, local_states

    if shelf is not None:
        rows: Sequence[Any] = bundles_in(shelf)
    else:
        shop = context.shop()
        rows = local_states(_slots(shop, flows or [], None))
    if json:
        print(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return
    for row in rows:
        print(row.line())
    if not rows:
        print("nothing there yet")


def _slots(shop: Shop, flows: Sequence[str], wanted: list[str] | None) -> list[Slot]:
    from dataflows.flows.topology import FLOWS
    from services.cli.running import _chosen_slots, _known

    chosen = [_known(flow) for flow in flows] or list(FLOWS)
    found = _chosen_slots({flow: shop.slots(flow) for flow in chosen}, wanted)
    return [slot for own in found.values() for slot in own]


def _report(done: list[Transferred], json: bool, verb: str, rest: str) -> None:
    import msgspec

    if json:
        print(msgspec.json.format(msgspec.json.encode(done)).decode())
        return
    for each in done:
        replay = f", {each.replays:,} offsets to read again" if each.replays else ""
        print(f"{each.slot}: {verb} up to offset {each.offset:,}{replay} ({each.bundle})")
    print(f"{len(done)} slots {verb}" + (f"; {rest}" if rest and not rest.startswith("0") else ""))
