"""A folder of models: `<name>/<version>/` with card and arrays, and who was champion when.

A version is never changed. Champions are a list that only grows; the last one serves.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dataflows.detection.models import Card, Model, ModelError, open_artifact

CARD, ARRAYS, CHAMPIONS = "card.json", "model.npz", "champions.json"


class Promotion(msgspec.Struct, frozen=True):
    """A version that serves from then on, and why."""

    version: str
    since: str
    reason: str


_decode_promotions = msgspec.json.Decoder(list[Promotion]).decode


@dataclass(frozen=True)
class Registry:
    """Models under one folder, which need not be there yet."""

    folder: Path

    def names(self) -> list[str]:
        """Of all models, sorted."""
        if not self.folder.is_dir():
            return []
        return sorted(each.name for each in self.folder.iterdir() if each.is_dir())

    def versions(self, name: str) -> list[str]:
        """Of a model, oldest first. Raises ModelError if there is no such model."""
        if name not in self.names():
            known = ", ".join(self.names()) or "none yet: `tidegate train` makes one"
            raise ModelError(f"{self.folder}: there is no model {name!r}: there are {known}")
        folders = [each for each in (self.folder / name).iterdir() if (each / CARD).is_file()]
        folders.sort(key=lambda each: ((each / CARD).stat().st_mtime_ns, each.name))
        return [each.name for each in folders]

    def holds(self, name: str, version: str) -> bool:
        return name in self.names() and version in self.versions(name)

    def add(self, card: Card, arrays: bytes) -> Path:
        """Keep a model: its folder is there whole, or not at all. Raises ModelError."""
        place = self.folder / card.name / card.version
        if place.exists():
            return place
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(dir=place.parent, prefix=".new-"))
            try:
                (made / ARRAYS).write_bytes(arrays)
                (made / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card)))
                made.chmod(0o755)
                os.replace(made, place)
            except BaseException:
                shutil.rmtree(made, ignore_errors=True)
                raise
        except OSError as error:
            raise ModelError(f"{place}: cannot be written: {error.strerror or error}") from error
        return place

    def open(self, name: str, version: str | None = None) -> tuple[Card, Model]:
        """A version, else the champion, else the newest, checked. Raises ModelError."""
        version = self.resolve(name, version)
        place = self.folder / name / version
        known, model = open_artifact(*self.read(name, version), str(place))
        if (known.name, known.version) != (name, version):
            raise ModelError(f"{place}: holds {known.name} {known.version}: move it there")
        return known, model

    def read(self, name: str, version: str) -> tuple[bytes, bytes]:
        """Card and arrays of a version, as they are in the folder. Raises ModelError."""
        place = self.folder / name / version
        try:
            return (place / CARD).read_bytes(), (place / ARRAYS).read_bytes()
        except OSError as error:
            raise ModelError(f"{place}: cannot be read: {error.strerror or error}") from error

    def resolve(self, name: str, version: str | None) -> str:
        """The full version of a beginning of one. Raises ModelError if none or several fit."""
        versions = self.versions(name)
        if version is None:
            champions = self.champions(name)
            return champions[-1].version if champions else versions[-1]
        fitting = [each for each in versions if each.startswith(version)]
        if len(fitting) != 1:
            which = "several versions begin" if fitting else "no version begins"
            raise ModelError(
                f"{name}: {which} with {version!r}: the versions are {', '.join(versions)}"
            )
        return fitting[0]

    def champions(self, name: str) -> list[Promotion]:
        """Who has been champion, in order. Raises ModelError if the list is damaged."""
        file = self.folder / name / CHAMPIONS
        try:
            return _decode_promotions(file.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            raise ModelError(f"{file}: cannot be read ({error}): restore it") from error

    def promote(self, name: str, version: str, since: str, reason: str) -> None:
        """Make a version the champion; it is opened first, so a damaged one never is."""
        self.open(name, version)
        file = self.folder / name / CHAMPIONS
        champions = [*self.champions(name), Promotion(version, since, reason)]
        made = file.with_suffix(".new")
        try:
            made.write_bytes(msgspec.json.format(msgspec.json.encode(champions)))
            os.replace(made, file)
        except OSError as error:
            raise ModelError(f"{file}: cannot be written: {error.strerror or error}") from error

    def before(self, name: str) -> str:
        """The version that was champion before the present one. Raises ModelError if none was."""
        champions = self.champions(name)
        others = [each.version for each in champions if each.version != champions[-1].version]
        if not others:
            raise ModelError(f"{name}: there was no champion before: promote a version instead")
        return others[-1]


def is_worse(card: Card, champion: Card) -> str:
    """Why a model should not follow the champion, or nothing: the gate of a promotion.

    Of two of which one has learned without labels, nothing says which is better.
    """
    if card.features != champion.features and card.spec_version == champion.spec_version:
        return "its features are not those of the spec"
    if not card.is_judged or not champion.is_judged:
        return ""
    new, old = (each.metrics["average_precision"] for each in (card, champion))
    if new["high"] < old["value"]:
        return (
            f"its average precision is {new['value']:.3f} ({new['low']:.3f} to {new['high']:.3f}), "
            f"the champion's {old['value']:.3f}"
        )
    return ""
