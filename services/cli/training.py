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
    from services.training.train import Trained

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
Note = Annotated[str, typer.Option(help="Why, for the history.")]
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
    sessions: Annotated[
        bool, typer.Option("--sessions", help="Instead: the lake's sessions, without labels.")
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What it is called: fraud, with --past payments, with --sessions sessions.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FAMILY",
            help="random_forest (the default), gradient_boosting or logistic_regression; with "
            "--sessions isolation_forest alone.",
        ),
    ] = None,
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
    share: Annotated[
        float,
        typer.Option(
            min=0, max=0.5, metavar="SHARE", help="Of sessions at most so many are unusual."
        ),
    ] = 0.002,
    trees: Annotated[int, typer.Option(min=1, help="Of a forest.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 0,
    folder: Folder = None,
) -> None:
    """Train a model, judge it on later days than it has seen, and keep it with its card.

    Features are computed as the stream does. Labels count only once they were known. A feature
    that knows the future is refused. The champion of the models called `payments`, made by --past,
    scores payments on the stream; that of those called `sessions`, made by --sessions, says which
    sessions are unlike the others.

    Examples: `tidegate train --spec features/card_fraud.yaml --in payments.parquet`, `tidegate
    train --past --folds 1`, `tidegate train --sessions --share 0.001`
    """
    if sessions:
        if past or spec or file:
            raise typer.BadParameter("say either --spec and --in, or --past, or --sessions")
        _of_sessions(name, model, share, trees, seed, folder)
        return
    from dataflows.detection.models import Family
    from dataflows.detection.payment_model import NAME
    from services.training.protocol import HANDBOOK, general
    from services.training.train import TrainSettings
    from services.training.train import train as make

    families = [family.value for family in Family if family is not Family.ISOLATION]
    model = model or Family.FOREST.value
    if model not in families:
        raise typer.BadParameter(f"--model {model!r}: there are {', '.join(families)}")
    if protocol not in ("time", "handbook"):
        raise typer.BadParameter(f"--protocol {protocol!r}: write time or handbook")
    name = _named(name or (NAME if past else "fraud"))
    if past == bool(spec or file) or (not past and not (spec and file)):
        raise typer.BadParameter("say either --spec and --in, or --past, or --sessions")
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
    _keep(make(examples, settings, _say), folder)


def _of_sessions(
    name: str | None, model: str | None, share: float, trees: int, seed: int, folder: Path | None
) -> None:
    from dataflows.detection.models import Family
    from dataflows.detection.session_model import NAME
    from services.history.sessions import last_sessions
    from services.training.sessions import ForestSettings
    from services.training.sessions import train as make

    if model not in (None, Family.ISOLATION.value):
        raise typer.BadParameter(f"--model {model!r}: of sessions there is isolation_forest alone")
    settings = ForestSettings(_named(name or NAME), share, trees, seed)
    context.kernels()
    _say("sessions of the past")
    _keep(make(last_sessions(context.config()), settings), folder)


def _named(name: str) -> str:
    if not name.replace("_", "").replace("-", "").isalnum():
        raise typer.BadParameter(f"--name {name!r}: letters, digits, - and _")
    return name


def _keep(made: Trained, folder: Path | None) -> None:
    from services.models.show import described

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
    """All models with their versions, oldest first, champions and challengers marked.

    Who scores on the stream stands in the log; with --models only the folder is read.

    Example: `tidegate models list`
    """
    from dataflows.flows.in_force import SERVED
    from services.models.show import listed
    from services.models.standing import standing

    registry = _registry(folder)
    names = [name for name in registry.names() if name in SERVED and folder is None]
    stands = {name: standing(context.shop().log, registry, name) for name in names}
    for line in listed(registry, stands):
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
    note: Note = "",
    folder: Folder = None,
) -> None:
    """Make a version the champion, unless it is worse than the present one.

    That of `payments` scores on the stream from the next payment of each partition on, that of
    `sessions` from the next session on: a control record says so in the log, which keeps the model,
    too. Of models without labels none is worse. With --models only the folder is changed.

    Examples: `tidegate models promote fraud 3f2a`, `tidegate models promote payments 91bc --note
    "trained on October"`
    """
    from dataflows.detection.models import ModelError
    from dataflows.detection.registry import is_worse

    registry = _registry(folder)
    full = registry.resolve(name, version)
    card, _ = registry.open(name, full)
    stream = _stream(name, registry, folder)
    champion = stream.stands.champion if stream else _champion(registry, name)
    if champion is not None and not force:
        worse = is_worse(card, registry.open(name, champion)[0])
        if worse:
            raise ModelError(f"{name} {full}: {worse}: say --force to promote it all the same")
    _promote(registry, stream, name, full, note or ("forced" if force else "promoted"))
    print(f"{name}: {full} is the champion{_since(stream)}")


@models_app.command()
def rollback(name: Name, note: Note = "", folder: Folder = None) -> None:
    """Make the version champion that was it before.

    Example: `tidegate models rollback payments --note "too many alerts"`
    """
    from services.models.standing import champion_before

    registry = _registry(folder)
    stream = _stream(name, registry, folder)
    before = champion_before(stream.shop.log, registry, name) if stream else None
    version = before or registry.before(name)
    _promote(registry, stream, name, version, note or "rolled back")
    print(f"{name}: {version} is the champion again{_since(stream)}")


@models_app.command()
def challenge(name: Name, version: Version, note: Note = "") -> None:
    """Let a version score payments in shadow, beside the champion: its scores are only published.

    `tidegate models trial` compares them once labels have come.

    Example: `tidegate models challenge payments 91bc`
    """
    registry, stream = _challenged(name)
    full, stands = registry.resolve(name, version), stream.stands
    if full == stands.champion:
        raise typer.BadParameter(f"{full} is the champion")
    others = [each for each in stands.challengers if each != full]
    stream.put_in_force(stands.champion, [*others, full], note)
    print(f"{name}: {full} is a challenger{_since(stream)}")


@models_app.command()
def withdraw(name: Name, version: Version, note: Note = "") -> None:
    """Let a challenger score no longer.

    Example: `tidegate models withdraw payments 91bc`
    """
    _, stream = _challenged(name)
    fitting = [each for each in stream.stands.challengers if each.startswith(version)]
    if len(fitting) != 1:
        known = ", ".join(stream.stands.challengers) or "none"
        raise typer.BadParameter(f"{version}: is not one of the challengers: there are {known}")
    others = [each for each in stream.stands.challengers if each not in fitting]
    stream.put_in_force(stream.stands.champion, others, note)
    print(f"{name}: {fitting[0]} is no challenger{_since(stream)}")


@models_app.command()
def drift(
    version: Annotated[
        str | None, typer.Argument(help="A version of `payments`; default: the champion.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, metavar="N", help="How many, up to the newest.")] = 7,
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Whether payments still look as they did when the model of `payments` was trained.

    By feature and score: the population stability index, and what is missing; and whether the
    stream's scores come out again. Exits with 1 if an index is 0.25 or more, or a score differs.

    Examples: `tidegate models drift`, `tidegate models drift 91bc --days 1 --json`
    """
    import msgspec

    from dataflows.detection.payment_model import NAME
    from dataflows.runtime.exits import Exit
    from services.history.features import open_history
    from services.models.drift import drift as measure
    from services.models.drift import drift_lines

    registry, settings = _registry(None), context.config()
    card, model = registry.open(NAME, version)
    context.kernels()
    found = measure(settings, open_history(settings), card, model, days)
    if json:
        print(msgspec.json.encode(found).decode())
    else:
        print("\n".join(drift_lines(found)))
    if not found.is_sound:
        raise typer.Exit(Exit.CHECK_FAILED)


@models_app.command()
def trial(
    delay_days: Annotated[
        int, typer.Option(min=0, metavar="N", help="Latest days to leave out: labels may come.")
    ] = 7,
    alerts_per_day: Annotated[
        float, typer.Option(min=1, metavar="N", help="How many can be looked at.")
    ] = 100.0,
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Challengers of `payments` beside the champion, on the payments that both scored.

    Over the scores of the lake and the labels that have come.

    Example: `tidegate models trial --alerts-per-day 20`
    """
    import msgspec

    from services.models.trial import trial_lines, trials

    found = trials(context.config(), delay_days, alerts_per_day)
    if json:
        print(msgspec.json.encode(found).decode())
        return
    print("\n\n".join("\n".join(trial_lines(each)) for each in found))


@models_app.command()
def history(
    name: Annotated[str, typer.Argument(help="`payments` or `sessions`.")] = "payments",
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Who scored on the stream: champions and challengers, since when, by whom and why.

    Examples: `tidegate models history`, `tidegate models history sessions`
    """
    import msgspec

    from dataflows.flows.in_force import SERVED, applied_models
    from services.models.show import history_lines

    if name not in SERVED:
        raise typer.BadParameter(f"{name}: only {' and '.join(SERVED)} score on the stream")
    applied = applied_models(context.shop().log, name)
    if json:
        print(msgspec.json.encode(applied).decode())
        return
    print("\n".join(history_lines(name, applied)))


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


class _Stream:
    """Where the models of a name serve."""

    def __init__(self, registry: Registry, name: str):
        from services.models.standing import standing

        self.shop, self.name, self._registry = context.shop(), name, registry
        self.stands = standing(self.shop.log, registry, name)

    def put_in_force(self, champion: str | None, challengers: list[str], note: str) -> None:
        from services.models.standing import put_in_force

        put_in_force(self.shop, self._registry, champion, challengers, note, self.name)


def _stream(name: str, registry: Registry, folder: Path | None) -> _Stream | None:
    from dataflows.flows.in_force import SERVED

    return _Stream(registry, name) if name in SERVED and folder is None else None


def _challenged(name: str) -> tuple[Registry, _Stream]:
    from dataflows.detection.payment_model import NAME

    registry = _registry(None)
    if name != NAME:
        raise typer.BadParameter(f"{name}: only models called payments have challengers")
    return registry, _Stream(registry, name)


def _promote(
    registry: Registry, stream: _Stream | None, name: str, version: str, note: str
) -> None:
    if stream is not None:
        others = [each for each in stream.stands.challengers if each != version]
        stream.put_in_force(version, others, note)
    registry.promote(name, version, _now(), note)


def _champion(registry: Registry, name: str) -> str | None:
    champions = registry.champions(name)
    return champions[-1].version if champions else None


def _since(stream: _Stream | None) -> str:
    return f", from the next {stream.name.removesuffix('s')} on" if stream else ""


def _registry(folder: Path | None) -> Registry:
    from dataflows.detection.registry import Registry

    return Registry(folder or context.config().models_path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
