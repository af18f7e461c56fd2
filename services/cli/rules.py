"""rules: what they are, and what they would have done."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataflows.runtime.exits import Exit
from services.cli import context

if TYPE_CHECKING:
    from dataflows.detection.rules import CompiledRule, RuleSet
    from dataflows.features.columns import ColumnSpec

app = typer.Typer(
    no_args_is_help=True,
    help="Fraud rules: SQL predicates in YAML, the same text on the stream and on the past.\n\n"
    "Example: `tidegate rules backtest card_burst`",
)


@app.command("list")
def list_rules(
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Every rule with its state, weight, owner and condition; a file that is no rule is named.

    Example: `tidegate rules list`
    """
    import msgspec

    rules = _rules()
    if json:
        print(msgspec.json.encode([compiled.rule for compiled in rules.rules]).decode())
        return
    for rule in (compiled.rule for compiled in rules.rules):
        print(f"{rule.id:24} {rule.state:7} {rule.weight:<5g} {rule.owner:16} {rule.when}")
    for each in rules.lists:
        print(
            f"{each.id:24} {each.effect:7} {'':5} {each.owner:16} {len(each.entries)} of {each.of}"
        )
    lists = f", {len(rules.lists)} lists" if rules.lists else ""
    print(f"{len(rules.rules)} rules{lists}, version {rules.version}")


@app.command()
def backtest(
    rule: Annotated[str, typer.Argument(help="Its id, or a YAML file that is not in rules/ yet.")],
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="First day; 30 days by default.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Last day; the newest by default.")
    ] = None,
    cases: Annotated[int, typer.Option(min=0, help="How many hits to show.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """What a rule would have done: hits, precision and recall from labels, overlap, alerts a day.

    Over the payments of the lake, with the features that the stream saw. Nothing is changed. Days
    are of event time, UTC, both included.

    Examples: `tidegate rules backtest card_burst`, `tidegate rules backtest draft.yaml --from
    2026-05-01 --to 2026-05-31`
    """
    import msgspec

    from services.backtest.backtest import backtest as run
    from services.backtest.terminal import told
    from services.history.features import open_history

    days = _day("--from", first), _day("--to", last)
    rules = _rules()
    chosen = _chosen(rule, rules)
    context.kernels()
    history = open_history(context.config(), _show_progress)
    answer = run(history, chosen, rules.live, *days, cases)
    if json:
        print(msgspec.json.encode(answer).decode())
        return
    for line in told(answer):
        print(line)


@app.command()
def plan(
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """What separates rules/ from the rule set in force on the stream; changes nothing.

    Exits with 0 if there is no difference, with 1 if there is one.

    Examples: `tidegate rules plan`, `tidegate rules plan --json`
    """
    import msgspec

    from services.rules.apply import plan as planned
    from services.rules.terminal import plan_lines

    found, _ = planned(context.shop())
    if json:
        print(msgspec.json.encode(found).decode())
    else:
        print("\n".join(plan_lines(found)))
    if not found.changes_nothing:
        raise typer.Exit(Exit.CHECK_FAILED)


@app.command(name="apply")
def apply_(
    note: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Show the plan, then put the rules of rules/ in force, for all payments from now on.

    Nothing restarts: a control record in the log says from which payment on they hold, so that
    a replay decides alike. The first apply makes the log the only place that counts.

    Examples: `tidegate rules apply`, `tidegate rules apply --note "card testing since Monday"`
    """
    import msgspec

    from services.rules.apply import apply, plan
    from services.rules.terminal import plan_lines

    shop = context.shop()
    found, texts = plan(shop)
    applied = None if found.changes_nothing else apply(shop, texts, note)
    if json:
        answer = {"plan": found, "applied": applied.number if applied else None}
        print(msgspec.json.encode(answer).decode())
        return
    print("\n".join(plan_lines(found)))
    if applied:
        print(f"Applied as number {applied.number}: rule set {applied.version} is in force.")


@app.command()
def history(
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Every rule set that was applied: when, by whom and why.

    With --json each has the texts of its files.

    Example: `tidegate rules history`
    """
    import msgspec

    from dataflows.flows.in_force import applied_rules
    from services.rules.terminal import history_lines

    applied = applied_rules(context.shop().log)
    if json:
        print(msgspec.json.encode(applied).decode())
        return
    print("\n".join(history_lines(applied)))


def _rules() -> RuleSet:
    from dataflows.detection.rules import load_rules

    return load_rules(Path(context.config().rules), _catalogue())


def _catalogue() -> Mapping[str, ColumnSpec]:
    from dataflows.flows.feature_files import declared_features

    return declared_features(context.config()).catalogue


def _chosen(name: str, rules: RuleSet) -> CompiledRule:
    import difflib

    from dataflows.detection.rules import RuleError, read_rule

    by_id = {compiled.rule.id: compiled for compiled in rules.rules}
    if name in by_id:
        return by_id[name]
    if Path(name).suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(name, by_id, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(by_id)}"
        raise RuleError(f"{name}: there is no such rule, and it is no .yaml file: {hint}")
    return read_rule(Path(name), _catalogue())


def _day(option: str, text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write a day as 2026-05-31") from None


def _show_progress(done: int) -> None:
    if sys.stderr.isatty():
        print(f"\rfeatures of {done:,} payments\r", end="", file=sys.stderr, flush=True)
