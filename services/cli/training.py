"""train, models: from events to a model with its card, and which one serves."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import context
from services.cli.features import FieldMap, TimestampFormat, read_events, read_spec

if TYPE_CHECKING:
    from dataflows.detection.registry import Registry
    from services.training.examples import Examples

models_app = typer.Typer(
    no_args_is_help=True,
    help="The models that were trained, and which of them is the champion.\n\n"
    "Example: `tidegate models list`",
)
_FOLDER = typer.Option(
    "--models", metavar="DIR", help="Where models are kept; default: models/ in the data directory."
)
Folder = Annotated[Path | None, _FOLDER]
Name = Annotated[str, typer.Argument(help="The model's name.")]
Version = Annotated[str, typer.Argument(help="A version, or how it begins.")]


def register(app: typer.Typer) -> None:
    app.command()(train)
    app.add_typer(models_app, name="models")


def train(
    spec: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The feature spec, YAML; with --in.")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--in", metavar="FILE", help="Events: .parquet, .csv or .jsonl.")
    ] = None,
    past: Annotated[
        bool, typer.Option("--past", help="Instead: the lake's payments, as the stream saw them.")
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What it is called: fraud, with --past payments."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="FAMILY", help="random_forest, gradient_boosting or logistic_regression."
        ),
    ] = "random_forest",
    protocol: Annotated[
        str, typer.Option(metavar="PROTOCOL", help="time, or handbook: train, delay, test 7 days.")
    ] = "time",
    train_days: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Days to train on, instead of its own.")
    ] = None,
    delay_days: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Days between training and test.")
    ] = None,
    test_days: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Days of each test.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most so many.")] = None,
    mapping: FieldMap = None,
    timestamp_format: TimestampFormat = None,
    card: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Who pays; default: the first entity of the spec."),
    ] = None,
    cost_missed: Annotated[
        float, typer.Option(min=0, metavar="MONEY", help="Of a fraud without an alert.")
    ] = 100.0,
    cost_alert: Annotated[
        float, typer.Option(min=0, metavar="MONEY", help="Of looking at an alert.")
    ] = 5.0,
    alerts_per_day: Annotated[
        float, typer.Option(min=1, metavar="N", help="How many can be looked at.")
    ] = 100.0,
    trees: Annotated[int, typer.Option(min=1, help="Of a random forest.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 0,
    folder: Folder = None,
) -> None:
    """Train a model, judge it on later days than it has seen, and keep it with its card.

    Features are computed as the stream does. Labels count only once they were known. A feature
    that knows the future is refused. The champion of the models called `payments`, made by --past,
    scores payments on the stream.

    Examples: `tidegate train --spec features/card_fraud.yaml --in payments.parquet`, `tidegate
    train --past --folds 1`
    """
    from dataflows.detection.champion import NAME
    from dataflows.detection.models import Family
    from services.models.show import described
    from services.training.protocol import HANDBOOK, general
    from services.training.train import TrainSettings
    from services.training.train import train as make

    families = [family.value for family in Family if family is not Family.ISOLATION]
    if model not in families:
        raise typer.BadParameter(f"--model {model!r}: there are {', '.join(families)}")
    if protocol not in ("time", "handbook"):
        raise typer.BadParameter(f"--protocol {protocol!r}: write time or handbook")
    name = name or (NAME if past else "fraud")
    if not name.replace("_", "").replace("-", "").isalnum():
        raise typer.BadParameter(f"--name {name!r}: letters, digits, - and _")
    if past == bool(spec or file) or (not past and not (spec and file)):
        raise typer.BadParameter("say either --spec and --in, or --past")
    examples, usual_delay = (
        _of_past(delay_days) if past else _of_file(spec, file, mapping, timestamp_format, card)
    )
    chosen = HANDBOOK if protocol == "handbook" else general(usual_delay)
    settings = TrainSettings(
        name=name,
        family=Family(model),
        protocol=replace(
            chosen,
            train_days=chosen.train_days if train_days is None else train_days,
            delay_days=chosen.delay_days if delay_days is None else delay_days,
            test_days=test_days or chosen.test_days,
            folds=folds or chosen.folds,
        ),
        missed=cost_missed,
        alert=cost_alert,
        budget=alerts_per_day,
        cards=100,
        trees=trees,
        seed=seed,
    )
    made = make(examples, settings, _say)
    place = _registry(folder).add(made.card, made.arrays)
    for line in described(made.card):
        print(line)
    print(f"kept in {place}")


def _of_file(
    spec: Path | None,
    file: str | None,
    mapping: list[str] | None,
    timestamp_format: str | None,
    card: str | None,
) -> tuple[Examples, int]:
    """Examples, and the days that their labels take."""
    from dataflows.features.catalogue import DAY_US
    from services.training.examples import examples_of, labels_of

    assert spec is not None
    assert file is not None
    loaded = read_spec(spec)
    delay_us = labels_of(loaded).delay_us
    events = read_events(file, loaded, mapping, timestamp_format)
    context.kernels()
    _say("features, and whether they know the future")
    return examples_of(loaded, events, card), -(-delay_us // DAY_US)


def _of_past(delay_days: int | None) -> tuple[Examples, int]:
    from services.history.features import open_history
    from services.training.examples import LABELS_TAKE_DAYS, examples_of_past

    context.kernels()
    _say("features of the past")
    delay = LABELS_TAKE_DAYS if delay_days is None else delay_days
    return examples_of_past(open_history(context.config()), delay), delay


def _say(line: str) -> None:
    if sys.stderr.isatty():
        print(f"tidegate: {line}", file=sys.stderr, flush=True)


@models_app.command("list")
def list_(folder: Folder = None) -> None:
    """All models with their versions, oldest first, and the champions.

    Example: `tidegate models list`
    """
    from services.models.show import listed

    for line in listed(_registry(folder)):
        print(line)


@models_app.command()
def show(
    name: Name,
    version: Annotated[
        str | None, typer.Argument(help="Default: the champion, or the newest.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The whole card as JSON.")] = False,
    folder: Folder = None,
) -> None:
    """A model's card. Artifacts that were changed are refused.

    Example: `tidegate models show fraud`
    """
    import msgspec

    from services.models.show import described

    card, _ = _registry(folder).open(name, version)
    if json:
        print(msgspec.json.format(msgspec.json.encode(card)).decode())
        return
    for line in described(card):
        print(line)


@models_app.command()
def promote(
    name: Name,
    version: Version,
    force: Annotated[bool, typer.Option("--force", help="Although it is worse.")] = False,
    folder: Folder = None,
) -> None:
    """Make a version the champion, unless it is worse than the present one.

    Example: `tidegate models promote fraud 3f2a`
    """
    from dataflows.detection.models import ModelError
    from dataflows.detection.registry import is_worse

    registry = _registry(folder)
    full = registry.resolve(name, version)
    card, _ = registry.open(name, full)
    if registry.champions(name):
        champion, _ = registry.open(name)
        worse = is_worse(card, champion)
        if worse and not force:
            raise ModelError(f"{name} {full}: {worse}: say --force to promote it all the same")
    registry.promote(name, full, _now(), "forced" if force else "promoted")
    print(f"{name}: {full} is the champion")


@models_app.command()
def rollback(name: Name, folder: Folder = None) -> None:
    """Make the version champion that was it before.

    Example: `tidegate models rollback fraud`
    """
    registry = _registry(folder)
    version = registry.before(name)
    registry.promote(name, version, _now(), "rolled back")
    print(f"{name}: {version} is the champion again")


@models_app.command()
def compare(name: Name, one: Version, other: Version, folder: Folder = None) -> None:
    """Two versions' figures side by side, each as its own card has them.

    Example: `tidegate models compare fraud 3f2a 91bc`
    """
    from services.models.show import compared

    registry = _registry(folder)
    cards = [registry.open(name, registry.resolve(name, each))[0] for each in (one, other)]
    for line in compared(*cards):
        print(line)


def _registry(folder: Path | None) -> Registry:
    from dataflows.detection.registry import Registry

    return Registry(folder or context.config().models_path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
