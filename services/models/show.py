"""Cards as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dataflows.detection.models import Card
from dataflows.detection.registry import Registry
from dataflows.flows.in_force import AppliedModels
from services.models.standing import Standing

_SHOWN = 10


def listed(registry: Registry, on_the_stream: Mapping[str, Standing]) -> list[str]:
    """A line for each version of each model, champions and challengers marked; of models that score
    on the stream, by name, those that do."""
    lines = []
    for name in registry.names():
        champions = registry.champions(name)
        in_folder = Standing(champions[-1].version if champions else None)
        stands = on_the_stream.get(name, in_folder)
        for version in registry.versions(name):
            card, _ = registry.open(name, version)
            mark = stands.mark(version)
            lines.append(f"{name}  {version}  {card.family}  {_worth(card)}  {mark}".rstrip())
    return lines or [f"no models in {registry.folder}: `tidegate train` makes one"]


def history_lines(name: str, applied: Sequence[AppliedModels]) -> list[str]:
    """Which models of that name scored, and since when."""
    if not applied:
        return [f"No model was put in force yet: `tidegate models promote {name} VERSION` does."]
    return [
        f"{each.number:>4}  {each.applied_at}  champion {each.champion or 'none'}"
        + "".join(f", challenger {version}" for version in each.challengers)
        + f"  {each.by}{f'  {each.note}' if each.note else ''}"
        for each in applied
    ]


def _worth(card: Card) -> str:
    if not card.is_judged:
        return f"finds {card.thresholds['by_share']['share']:.2%} unusual"
    found = card.metrics["average_precision"]
    return f"AP {found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def described(card: Card) -> list[str]:
    """The card, some ten lines and its most important features."""
    if not card.is_judged:
        return _described_without_labels(card)
    trained, figures = card.trained, card.metrics
    protocol = trained["protocol"]
    lines = [
        f"{card.name} {card.version}: {card.family} of {len(card.features)} features "
        f"({card.spec}, {card.spec_version})",
        f"  trained on {trained['events']:,} events, {trained['positive']:,} of them known to be "
        f"positive, {trained['from']} to {trained['to']}",
        f"  judged by {len(figures['folds'])} folds of the protocol {protocol['name']}: "
        + ", ".join(f"{f['test']} AP {f['average_precision']:.3f}" for f in figures["folds"]),
        f"  average precision {figures['average_precision']['value']:.3f}, 95 % interval "
        f"{figures['average_precision']['low']:.3f} to {figures['average_precision']['high']:.3f}",
    ]
    others = {k: v for k, v in figures.items() if k not in ("average_precision", "folds")}
    lines.append("  " + ", ".join(f"{k} {v['value']:.4g}" for k, v in others.items()))
    for name, found in card.thresholds.items():
        lines.append(
            f"  threshold {name}: score {found['score']:.4f}: {found['alerts_per_day']:.1f} alerts "
            f"a day, precision {found['precision']:.2f}, recall {found['recall']:.2f}"
        )
    best = list(card.importance.items())[:_SHOWN]
    lines.append("  most important: " + ", ".join(f"{name} {fall:.3f}" for name, fall in best))
    return lines


def _described_without_labels(card: Card) -> list[str]:
    trained, later = card.trained, card.metrics["share_of_later"]
    found = card.thresholds["by_share"]
    return [
        f"{card.name} {card.version}: {card.family} of {len(card.features)} features "
        f"({card.spec}, {card.spec_version})",
        f"  trained on {trained['sessions']:,} sessions, {trained['from']} to {trained['to']}, "
        "without labels",
        f"  threshold by_share: score {found['score']:.4f}: {found['share']:.2%} of them are "
        f"there, of {found['budget']:.2%} allowed",
        f"  a model of the earlier ones finds {later['value']:.2%} of the {later['sessions']:,} "
        "later ones unusual",
        "  usual: "
        + ", ".join(
            f"{name} {usual['low']:g} to {usual['high']:g}"
            for name, usual in trained["usual"].items()
        ),
    ]


def compared(one: Card, other: Card) -> list[str]:
    """Two models side by side."""
    lines = [f"{'':24} {one.version:>14} {other.version:>14}"]
    lines.append(f"{'family':24} {one.family.split('_')[-1]:>14} {other.family.split('_')[-1]:>14}")
    for name in one.metrics:
        if name != "folds" and name in other.metrics:
            values = [card.metrics[name]["value"] for card in (one, other)]
            lines.append(f"{name:24} {values[0]:>14.4f} {values[1]:>14.4f}")
    for name in one.thresholds:
        for figure in ("precision", "recall", "cost_per_day", "share"):
            if not all(figure in card.thresholds.get(name, {}) for card in (one, other)):
                continue
            values = [card.thresholds[name][figure] for card in (one, other)]
            lines.append(f"{f'{name} {figure}':24} {values[0]:>14.4f} {values[1]:>14.4f}")
    for which, names in (
        (one.version, set(one.features) - set(other.features)),
        (other.version, set(other.features) - set(one.features)),
    ):
        if names:
            lines.append(f"only {which} reads {', '.join(sorted(names))}")
    return lines
