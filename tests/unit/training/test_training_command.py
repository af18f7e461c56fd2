"""`tidegate train` and `tidegate models`: a model that serves, its card, and no way to cheat."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
import pytest
from command_line import CommandLine

from dataflows.detection.predicates import compile_predicate
from dataflows.detection.registry import Registry
from dataflows.features.columns import Column, as_rows
from dataflows.features.engine import NEVER
from dataflows.features.spec import load_spec
from dataflows.runtime.config import HOUSE
from services.features.build import compute_features
from services.features.events import EventTable, load_events
from services.simulator.handbook import HandbookSettings, simulate_handbook
from services.training.errors import TrainingError
from services.training.leakage import check_against_the_past

SPEC = HOUSE / "features" / "handbook.yaml"
UNDELAYED = HOUSE / "features" / "card_fraud.yaml"
QUICK = ("--trees", "8", "--folds", "2", "--models", "models")


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("payments") / "payments.parquet"
    table = simulate_handbook(HandbookSettings(customers=80, terminals=150, days=45, seed=5))
    pa.parquet.write_table(table, path)
    return path


@pytest.fixture
def tidegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capfd)


def train(tidegate: CommandLine, payments: Path, *more: str | Path) -> tuple[int, str]:
    outcome = tidegate("train", "--spec", SPEC, "--in", payments, *QUICK, *more)
    return outcome.code, outcome.err.strip() if outcome.code else outcome.out


def versions(tidegate: CommandLine) -> list[str]:
    return Registry(tidegate.directory / "models").versions("fraud")


def test_a_model_is_trained_kept_and_the_same_again(tidegate: CommandLine, payments: Path) -> None:
    code, said = train(tidegate, payments)
    assert code == 0
    assert "judged by 2 folds of the protocol time" in said
    train(tidegate, payments)
    assert len(versions(tidegate)) == 1  # the same data, spec and seed give the same version
    card, model = Registry(tidegate.directory / "models").open("fraud")
    spec = load_spec(SPEC, compile_predicate)
    rows = as_rows(compute_features(spec, load_events(str(payments), spec, {})), spec.names)
    scores = model.score(rows)
    fraud = pa.parquet.read_table(payments)["tx_fraud"].to_numpy() > 0
    assert scores[fraud].mean() > 3 * scores[~fraud].mean()
    assert card.spec_version == spec.version
    assert 0 < card.metrics["average_precision"]["low"] < card.metrics["average_precision"]["high"]
    assert set(card.importance) == set(spec.names)
    kept = list((tidegate.directory / "models").rglob("*.*"))
    assert {file.suffix for file in kept} == {".json", ".npz"}


@pytest.mark.parametrize("family", ["gradient_boosting", "logistic_regression"])
def test_other_families(family: str, tidegate: CommandLine, payments: Path) -> None:
    code, said = train(tidegate, payments, "--model", family, "--protocol", "handbook")
    assert (code, f": {family} of 15 features" in said) == (0, True)


def test_models_are_listed_shown_promoted_and_rolled_back(
    tidegate: CommandLine, payments: Path
) -> None:
    def models(*words: str) -> str:
        outcome = tidegate("models", *words, "--models", "models")
        return outcome.out if outcome.code == 0 else outcome.err

    assert models("list").startswith("no models in models: `tidegate train` makes one")
    train(tidegate, payments)
    train(tidegate, payments, "--seed", "1")
    first, second = versions(tidegate)
    assert models("promote", "fraud", first[:6]) == f"fraud: {first} is the champion\n"
    assert models("rollback", "fraud") == (
        "tidegate: fraud: there was no champion before: promote a version instead\n"
    )
    assert models("promote", "fraud", second, "--force").startswith("fraud: ")
    assert models("list").splitlines()[1].endswith("champion")
    assert models("rollback", "fraud") == f"fraud: {first} is the champion again\n"
    assert "average_precision" in models("compare", "fraud", first, second)
    assert json.loads(models("show", "fraud", "--json"))["version"] == first
    assert models("show", "fraud").startswith(f"fraud {first}: random_forest of 15 features")
    assert "no version begins with 'zz'" in models("show", "fraud", "zz")
    assert "there is no model 'other'" in models("show", "other")
    arrays = tidegate.directory / "models" / "fraud" / second / "model.npz"
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"x")
    assert "the arrays are not those of the card" in models("promote", "fraud", second)
    assert models("show", "fraud").startswith(f"fraud {first}")  # the last good one serves on


def test_a_worse_model_is_not_promoted(tidegate: CommandLine, payments: Path) -> None:
    train(tidegate, payments)
    registry = Registry(tidegate.directory / "models")
    card, model = registry.open("fraud")
    poor = {**card.metrics, "average_precision": {"value": 0.01, "low": 0.0, "high": 0.02}}
    worse = msgspec.structs.replace(card, metrics=poor).sealed()
    registry.add(worse, model.arrays())
    tidegate("models", "promote", "fraud", card.version, "--models", "models")
    refused = tidegate("models", "promote", "fraud", worse.version, "--models", "models")
    assert refused.code == 78
    assert "its average precision is 0.010 (0.000 to 0.020), the champion's" in refused.err
    assert "say --force" in refused.err


def peeking(events: EventTable) -> dict[str, Column]:
    """How many payments the customer makes in all: some of them later."""
    _, place, count = np.unique(
        events.fields["customer_id"].values.astype(str), return_inverse=True, return_counts=True
    )
    return {"payments_of_the_customer": Column(count[place], np.ones(len(place), np.bool_))}


def honest(events: EventTable) -> dict[str, Column]:
    return compute_features(load_spec(UNDELAYED, compile_predicate), events)


def labels_at_once(events: EventTable) -> dict[str, Column]:
    """The honest features, of labels that are known with the event."""
    known = np.where(events.known_us == NEVER, NEVER, events.times_us)
    return honest(replace(events, known_us=known))


def test_a_feature_that_peeks_is_caught(payments: Path) -> None:
    events = load_events(str(payments), load_spec(UNDELAYED, compile_predicate), {})
    check_against_the_past(honest, events, honest(events))
    for compute in (peeking, labels_at_once):
        with pytest.raises(TrainingError, match="knows the future"):
            check_against_the_past(compute, events, compute(events))


def test_a_column_that_was_filled_in_afterwards_is_caught(
    tidegate: CommandLine, payments: Path
) -> None:
    table = pa.parquet.read_table(payments)
    refunded = np.where(table["tx_fraud"].to_numpy() > 0, table["tx_amount"].to_numpy(), np.nan)
    path = tidegate.directory / "leaking.parquet"
    pa.parquet.write_table(
        table.append_column("refunded", pa.array(refunded, from_pandas=True)), path
    )
    spec = tidegate.directory / "leaking.yaml"
    text = SPEC.read_text().replace(
        "  tx_amount: number\n", "  tx_amount: number\n  refunded: number\n"
    )
    spec.write_text(text + "  - {name: refunded, value: refunded}\n")
    outcome = tidegate("train", "--spec", spec, "--in", path, *QUICK)
    assert outcome.code == 78
    assert outcome.err.startswith(
        "tidegate: refunded: tells the label all alone (average precision 1.00)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "oracle"], "--model 'oracle': there are random_forest, gradient_boosting"),
        (["--protocol", "magic"], "--protocol 'magic': write time or handbook"),
        (["--card", "card"], "--card card: "),
        (["--test-days", "60"], "the events span 45 days, the protocol time needs 68"),
    ],
)
def test_what_cannot_be_trained_is_named(
    arguments: list[str], message: str, tidegate: CommandLine, payments: Path
) -> None:
    code, said = train(tidegate, payments, *arguments)
    assert code in (2, 78)
    assert message in said
    assert "\n" not in said


def test_events_without_frauds_are_refused(tidegate: CommandLine, payments: Path) -> None:
    table = pa.parquet.read_table(payments)
    honest_ones = table.filter(pa.compute.equal(table["tx_fraud"], 0))
    path = tidegate.directory / "honest.parquet"
    pa.parquet.write_table(honest_ones, path)
    outcome = tidegate("train", "--spec", SPEC, "--in", path, *QUICK)
    assert outcome.code == 78
    assert "there is no positive event among" in outcome.err
