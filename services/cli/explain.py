"""explain: a decision taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli import context


def register(app: typer.Typer) -> None:
    app.command()(explain)


def explain(
    name: Annotated[str, typer.Argument(metavar="ID", help="Of an alert, payment or incident.")],
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Why a payment was decided as it was: rules, values, what each rule changes; and once more.

    The decision is made again from the lake's payments, with the rule set and the model that made
    it, as they are in rules/ and models/ or were applied: it must come out the same, bit for bit.
    Exits with 1 if it does not. Of an incident it tells the behaviour, and what its user or device
    did then.

    Example: `tidegate explain 3f0c9d5e1a2b4c6d8e7f90a1b2c3d4e5`
    """
    import msgspec

    from dataflows.detection.behaviours import load_behaviours
    from dataflows.detection.payment_model import PaymentModel
    from dataflows.detection.registry import Registry
    from dataflows.detection.rules import RuleSet, load_rules
    from dataflows.runtime.exits import Exit
    from services.explain.explain import explain as run
    from services.explain.incident import explain_incident
    from services.explain.incident import told as incident_told
    from services.explain.terminal import told
    from services.history.features import open_history
    from services.models.standing import find_model
    from services.rules.apply import find_rule_set

    def rule_set(version: str) -> RuleSet:
        catalogue = history.declared.catalogue
        rules = load_rules(Path(settings.rules), catalogue)
        if rules.version == version:
            return rules
        return find_rule_set(context.shop_as_it_is().log, version, catalogue) or rules

    def model(version: str) -> PaymentModel | None:
        registry = Registry(settings.models_path)
        return find_model(context.shop().log, registry, version, history.declared)

    settings = context.config()
    incident = explain_incident(settings, load_behaviours(Path(settings.behaviours)), name)
    if incident is not None:
        lines = [msgspec.json.encode(incident).decode()] if json else incident_told(incident)
        print("\n".join(lines))
        return
    context.kernels()
    history = open_history(settings)
    answer = run(settings, history, rule_set, model, name)
    if json:
        print(msgspec.json.encode(answer).decode())
    else:
        for line in told(answer):
            print(line)
    if answer.has_same_judges and not answer.is_repeated:
        raise typer.Exit(Exit.CHECK_FAILED)
