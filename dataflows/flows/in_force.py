"""What is in force, from which record on: for payments a rule set, and the models that score; for
sessions the model that scores.

`tidegate rules apply` and `tidegate models promote` put a control record into every partition of
scoring.requests, or of sessions, and what it stands for into control.rules or control.models, where
all of it is kept; in one transaction. Before the first, what the folders hold is in force for
payments, as a worker finds it when it starts, and nothing for sessions.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from dataflows.connectors.log import Log, Marker
from dataflows.connectors.records import Output, published
from dataflows.decodable import make_decodable
from dataflows.detection import payment_model as of_payments
from dataflows.detection import session_model as of_sessions
from dataflows.detection.models import Card, Model, ModelError, open_artifact
from dataflows.detection.payment_model import PaymentModel, payment_model
from dataflows.detection.registry import Registry
from dataflows.detection.rules import RuleSet, parse_rules
from dataflows.detection.session_model import SessionModel, session_model
from dataflows.errors import TidegateError
from dataflows.features.catalogue import CATALOGUE
from dataflows.features.columns import ColumnSpec
from dataflows.features.declared import NOTHING_DECLARED, DeclaredFeatures
from dataflows.flows.payments import REQUESTS
from dataflows.flows.shop import Shop
from dataflows.flows.topology import MODELS, RULE_SETS, SESSIONS
from dataflows.runtime.handover import control

SERVED: Final = {of_payments.NAME: REQUESTS, of_sessions.NAME: SESSIONS}
"""Of the models that score on the stream, by name, the topic whose records they score."""
_READ_RECORDS = 100
_PATIENCE_S = 5.0
_PAUSE_S = 0.001


class AppliedRules(msgspec.Struct, frozen=True, kw_only=True, tag="rules"):
    """A rule set that was applied: the texts of its files, by id; `number` counts from 1."""

    number: int
    version: str
    applied_at: str
    by: str
    files: dict[str, str]
    note: str = ""

    def rule_set(self, catalogue: Mapping[str, ColumnSpec] = CATALOGUE) -> RuleSet:
        """Raises RuleError: it names a column that is not in the catalogue, or a newer Tidegate
        wrote rules that this one cannot read."""
        return parse_rules(self.files, f"rule set {self.version}", catalogue)


class AppliedModels(msgspec.Struct, frozen=True, kw_only=True, tag="models"):
    """The versions that score from then on; `number` counts from 1, over models of all names."""

    number: int
    champion: str | None
    challengers: tuple[str, ...]
    applied_at: str
    by: str
    note: str = ""
    name: str = of_payments.NAME  # earlier versions knew no other models


Applied = AppliedRules | AppliedModels


class Artifact(msgspec.Struct, frozen=True):
    """A model as it is kept in the log."""

    card: bytes
    packed_arrays: bytes

    @classmethod
    def of(cls, card: bytes, arrays: bytes) -> Artifact:
        return cls(card, zlib.compress(arrays))

    def open(self, place: str) -> tuple[Card, Model]:
        """Raises ModelError: it is not as it was when it was applied."""
        try:
            arrays = zlib.decompress(self.packed_arrays)
        except zlib.error as error:
            raise ModelError(f"{place}: is damaged ({error}): promote it again") from error
        return open_artifact(self.card, arrays, place)


class _KeptModels(msgspec.Struct, frozen=True):
    """A record of control.models: what was applied, and the artifacts that were not there yet."""

    applied: AppliedModels
    artifacts: dict[str, Artifact]


class _OnlyApplied(msgspec.Struct, frozen=True):
    applied: AppliedModels


class _OnlyArtifacts(msgspec.Struct, frozen=True):
    artifacts: dict[str, Artifact]


class InForce(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was applied last; None is what the folders hold."""

    rules: AppliedRules | None = None
    models: AppliedModels | None = None

    def after(self, applied: Applied) -> InForce:
        if isinstance(applied, AppliedRules):
            return msgspec.structs.replace(self, rules=applied)
        return msgspec.structs.replace(self, models=applied)


class AppliedAt(msgspec.Struct, frozen=True):
    """What was applied, and when it arrived in the log, in microseconds."""

    arrival_us: int
    applied: Applied


for _kind in (AppliedRules, AppliedModels, InForce, _OnlyApplied, _OnlyArtifacts):
    make_decodable(_kind)
_decode_any = msgspec.json.Decoder(Applied).decode
_decode_rules = msgspec.json.Decoder(AppliedRules).decode
_decode_applied = msgspec.json.Decoder(_OnlyApplied).decode
_decode_artifacts = msgspec.json.Decoder(_OnlyArtifacts).decode
_decode_in_force = msgspec.json.Decoder(InForce).decode


def decode_control(content: bytes) -> Applied:
    """What a control record says. Raises TidegateError."""
    try:
        try:
            return _decode_any(content)
        except msgspec.ValidationError:
            return _decode_rules(content)  # before there were models, rules were not named as such
    except msgspec.MsgspecError as error:
        raise _of_another_version(REQUESTS, error) from error


def decode_in_force(saved: bytes) -> InForce:
    """What a state says; nothing is saved before the first record. Raises TidegateError."""
    if not saved:
        return InForce()
    try:
        try:
            return _decode_in_force(saved)
        except msgspec.ValidationError:
            return InForce(_decode_rules(saved))  # likewise
    except msgspec.MsgspecError as error:
        raise _of_another_version("the state of score", error) from error


def _of_another_version(place: str, error: msgspec.MsgspecError) -> TidegateError:
    return TidegateError(
        f"{place}: what was put in force cannot be read ({error}); start the version of Tidegate "
        "that wrote it"
    )


def rule_outputs(applied: AppliedRules, partitions: int) -> list[Output]:
    """The records that put a rule set in force in each partition of scoring.requests."""
    content = msgspec.json.encode(applied)
    return _outputs(RULE_SETS, applied.version, content, content, partitions)


def model_outputs(
    applied: AppliedModels, artifacts: dict[str, Artifact], partitions: int
) -> list[Output]:
    """The same of models, of the topic that those of this name serve. `artifacts` are those that
    control.models does not hold yet."""
    kept = msgspec.json.encode(_KeptModels(applied, artifacts))
    content = msgspec.json.encode(applied)
    key, serves = applied.champion or "none", SERVED[applied.name]
    return _outputs(MODELS, key, kept, content, partitions, serves)


@contextmanager
def sole_writer(shop: Shop, topic: str) -> Iterator[Callable[[list[Output], int], None]]:
    """Gives the function that commits the outputs of number n, all of them or none.

    Whoever writes to the topic at the same time is fenced: of two, one succeeds.

    Raises:
        Fenced: somebody else did.
        LogError: the log does not take it.
    """
    shop.log.prepare([topic], list(shop.topology.topics))
    writer = shop.log.writer(topic)

    def commit(outputs: list[Output], number: int) -> None:
        seq = writer.marker.seq + 1 if writer.marker else 1
        writer.commit(outputs, Marker(seq=seq, next_offset=number))

    try:
        yield commit
    finally:
        writer.close()


def _outputs(
    topic: str, key: str, kept: bytes, content: bytes, partitions: int, serves: str = REQUESTS
) -> list[Output]:
    everywhere = [control(serves, partition, content) for partition in range(partitions)]
    return [published(topic, [key.encode()], [kept], partition=0), *everywhere]


def applied_before(shop: Shop) -> list[AppliedAt]:
    """All that was applied before a worker starts, in order of arrival.

    Raises:
        RuleError: there are no rules among it, so that the folder's are in force, and they cannot
            be used.
        ModelError: the same of models.
        LogError: the log cannot be read.
    """
    rules = [AppliedAt(*each) for each in _applied_rules(shop.log)]
    models = models_applied_before(shop, of_payments.NAME)
    # Said now, not when the first payment comes.
    if not rules:
        _ = shop.rules
    if not models:
        _ = shop.champion
    return sorted(rules + models, key=lambda each: each.arrival_us)


def models_applied_before(shop: Shop, name: str) -> list[AppliedAt]:
    """The models of that name that were applied before a worker starts, in order of arrival.

    Raises LogError.
    """
    return [AppliedAt(*each) for each in _applied_models(shop.log) if each[1].name == name]


def applied_rules(log: Log) -> list[AppliedRules]:
    """Every rule set that was applied, in order. Raises LogError."""
    return [applied for _, applied in _applied_rules(log)]


def applied_models(log: Log, name: str = of_payments.NAME) -> list[AppliedModels]:
    """Which models of that name scored, in order. Raises LogError."""
    return [applied for _, applied in _applied_models(log) if applied.name == name]


def next_number(log: Log) -> int:
    """Of what is applied next, whatever the name. Raises LogError."""
    return max((applied.number for _, applied in _applied_models(log)), default=0) + 1


def kept_artifacts(log: Log) -> set[str]:
    """The versions of models that the log holds. Raises LogError."""
    return {version for _, value in _kept(log, MODELS) for version in _artifacts(value)}


def open_applied(
    log: Log, folder: Path, version: str, declared: DeclaredFeatures = NOTHING_DECLARED
) -> PaymentModel:
    """A model of payments that was applied at some time, of the log or of the folder of models.

    Raises ModelError if neither holds it, or it cannot be served.
    """
    return payment_model(*_opened(log, folder, of_payments.NAME, version), declared)


def open_applied_to_sessions(log: Log, folder: Path, version: str) -> SessionModel:
    """The same of sessions."""
    return session_model(*_opened(log, folder, of_sessions.NAME, version))


def _opened(log: Log, folder: Path, name: str, version: str) -> tuple[Card, Model, str]:
    """A model and where it is. A log that a replay has filled holds none: what the folder has under
    the version is the same, for versions are hashes."""
    registry, place = Registry(folder), f"{MODELS}: model {version}"
    # What one transaction wrote becomes visible in one partition before the other.
    give_up = time.monotonic() + _PATIENCE_S
    while (artifact := _kept_artifact(log, version)) is None:
        if registry.holds(name, version):
            return *registry.open(name, version), str(folder / name / version)
        if time.monotonic() > give_up:
            raise ModelError(f"{MODELS}: does not hold model {version}: promote it again")
        time.sleep(_PAUSE_S)
    return *artifact.open(place), place


def _kept_artifact(log: Log, version: str) -> Artifact | None:
    for _, value in _kept(log, MODELS):
        if (artifact := _artifacts(value).get(version)) is not None:
            return artifact
    return None


def _applied_rules(log: Log) -> Iterator[tuple[int, AppliedRules]]:
    for arrival_us, value in _kept(log, RULE_SETS):
        applied = decode_control(value)
        assert isinstance(applied, AppliedRules)
        yield arrival_us, applied


def _applied_models(log: Log) -> Iterator[tuple[int, AppliedModels]]:
    for arrival_us, value in _kept(log, MODELS):
        try:
            yield arrival_us, _decode_applied(value).applied
        except msgspec.MsgspecError as error:
            raise _of_another_version(MODELS, error) from error


def _artifacts(value: bytes) -> dict[str, Artifact]:
    try:
        return _decode_artifacts(value).artifacts
    except msgspec.MsgspecError as error:
        raise _of_another_version(MODELS, error) from error


def _kept(log: Log, topic: str) -> Iterator[tuple[int, bytes]]:
    """Arrival (microseconds) and value of every record of a topic's one partition, in order."""
    low, high = log.offsets(topic, 0)
    if low == high:
        return
    reader = log.reader(topic, 0, low)
    give_up = time.monotonic() + _PATIENCE_S  # offsets at the end may hold no record
    try:
        while reader.position < high and time.monotonic() < give_up:
            records = reader.read(_READ_RECORDS)
            for arrival_us, value in zip(records.arrival_us.tolist(), records.values, strict=True):
                yield arrival_us, value or b""
            if not len(records):
                time.sleep(_PAUSE_S)
    finally:
        reader.close()
