"""Which models score on the stream, and how that is changed: by control records."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from dataflows.connectors.log import Log
from dataflows.detection import session_model as of_sessions
from dataflows.detection.models import ModelError
from dataflows.detection.payment_model import NAME, PaymentModel, payment_model
from dataflows.detection.registry import Registry
from dataflows.detection.session_model import session_model
from dataflows.features.declared import NOTHING_DECLARED, DeclaredFeatures
from dataflows.flows.in_force import (
    SERVED,
    AppliedModels,
    Artifact,
    applied_models,
    kept_artifacts,
    model_outputs,
    next_number,
    open_applied,
    sole_writer,
)
from dataflows.flows.shop import Shop
from dataflows.flows.topology import MODELS

MAX_ARTIFACT_BYTES = 8 * 2**20
"""Of one model in the log, packed; in base64 it stays below the longest record there."""


class Standing(msgspec.Struct, frozen=True):
    """Who scores: as it was applied, or else for payments the champion of the folder."""

    champion: str | None
    challengers: tuple[str, ...] = ()
    is_applied: bool = False

    def mark(self, version: str) -> str:
        if version == self.champion:
            return "champion"
        return "challenger" if version in self.challengers else ""


def standing(log: Log, registry: Registry, name: str = NAME) -> Standing:
    """Raises LogError, ModelError."""
    applied = applied_models(log, name)
    if applied:
        return Standing(applied[-1].champion, applied[-1].challengers, is_applied=True)
    champions = registry.champions(name) if name == NAME else []
    return Standing(champions[-1].version if champions else None)


def champion_before(log: Log, registry: Registry, name: str = NAME) -> str:
    """The champion before the present one. Raises ModelError if there was none."""
    champions = [each.version for each in registry.champions(name)]
    champions += [each.champion for each in applied_models(log, name) if each.champion]
    others = [each for each in champions if each != champions[-1]]
    if not others:
        raise ModelError(f"{name}: there was no champion before: promote a version instead")
    return others[-1]


def find_model(
    log: Log, registry: Registry, version: str, declared: DeclaredFeatures = NOTHING_DECLARED
) -> PaymentModel | None:
    """A model of payments, from the folder or from the log. Raises LogError, ModelError."""
    if registry.holds(NAME, version):
        card, model = registry.open(NAME, version)
        return payment_model(card, model, f"{registry.folder / NAME / version}", declared)
    if version not in kept_artifacts(log):
        return None
    return open_applied(log, registry.folder, version, declared)


def put_in_force(
    shop: Shop,
    registry: Registry,
    champion: str | None,
    challengers: Sequence[str],
    note: str,
    name: str = NAME,
) -> AppliedModels:
    """From the next payment, or session, of each partition on, these score, in one transaction over
    all.

    Each is opened first, so what cannot serve never comes into the log. Whoever applies at the same
    time is fenced: of two, one succeeds.

    Raises:
        ModelError: one of them cannot serve.
        Fenced: somebody else put models in force at the same time.
        LogError: the log does not take it.
    """
    with sole_writer(shop, MODELS) as commit:
        there = kept_artifacts(shop.log)
        wanted = [version for version in (champion, *challengers) if version is not None]
        artifacts = {
            version: _artifact(shop, registry, name, version)
            for version in wanted
            if version not in there
        }
        applied = AppliedModels(
            number=next_number(shop.log),
            champion=champion,
            challengers=tuple(challengers),
            applied_at=datetime.now(UTC).isoformat(timespec="seconds"),
            by=f"{getpass.getuser()}@{socket.gethostname()}",
            note=note,
            name=name,
        )
        outputs = model_outputs(applied, artifacts, shop.topology.topics[SERVED[name]])
        commit(outputs, applied.number)
    return applied


def _artifact(shop: Shop, registry: Registry, name: str, version: str) -> Artifact:
    artifact = Artifact.of(*registry.read(name, version))
    place = f"{registry.folder / name / version}"
    card, model = artifact.open(place)
    if name == of_sessions.NAME:
        session_model(card, model, place)
    else:
        payment_model(card, model, place, shop.declared)
    if len(artifact.packed_arrays) > MAX_ARTIFACT_BYTES:
        raise ModelError(
            f"{place}: {len(artifact.packed_arrays):,} bytes packed, of at most "
            f"{MAX_ARTIFACT_BYTES:,}: train it with fewer --trees"
        )
    return artifact
