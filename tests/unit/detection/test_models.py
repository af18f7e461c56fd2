"""Served models give what scikit-learn gives, and nothing that is not as it was written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dataflows.detection.models import (
    Card,
    Family,
    ModelError,
    check_features,
    digest_of,
    open_artifact,
    read_arrays,
)
from services.training.export import export

F = 6
NAMES = tuple(f"feature_{k}" for k in range(F))


def rows_and_labels(seed: int, n: int = 500) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows of all sizes, with missing values, ties and infinite-looking ones."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, F)) * 10.0 ** rng.integers(-6, 7, F)
    rows[:, 1] = np.round(rows[:, 1] / np.abs(rows[:, 1]).max() * 3)
    labels = (rng.random(n) < 0.1 + 0.6 * (rows[:, 0] > 0)).astype(np.int64)
    rows[rng.random(rows.shape) < rng.choice([0.0, 0.2])] = np.nan
    return rows, labels


def boosting(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return HistGradientBoostingClassifier(
        max_iter=int(rng.integers(1, 25)),
        max_leaf_nodes=int(rng.integers(2, 31)),
        random_state=seed,
    )


def forest(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return RandomForestClassifier(
        int(rng.integers(1, 15)),
        min_samples_leaf=int(rng.integers(1, 9)),
        random_state=seed,
        n_jobs=1,
        class_weight="balanced" if seed % 2 else None,
    )


def regression(seed: int) -> Any:
    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression())


def proba(estimator: Any, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(estimator, IsolationForest):
        return -np.asarray(estimator.score_samples(rows))
    return np.asarray(estimator.predict_proba(rows)[:, 1])


@pytest.mark.parametrize("make", [forest, boosting, regression])
@pytest.mark.parametrize("seed", range(6))
def test_scores_are_those_of_scikit_learn(make: Any, seed: int) -> None:
    rows, labels = rows_and_labels(seed)
    estimator = make(seed).fit(rows, labels)
    model = export(estimator, NAMES, rows)
    others, _ = rows_and_labels(100 + seed, 2_000)
    np.testing.assert_allclose(model.score(others), proba(estimator, others), rtol=0, atol=1e-12)
    again = read_arrays(model.arrays(), "it")
    assert np.array_equal(again.score(others), model.score(others))
    one_by_one = [float(model.score(row[None])[0]) for row in others[:50]]
    assert one_by_one == model.score(others)[:50].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_isolation_is_that_of_scikit_learn(seed: int) -> None:
    rows = np.nan_to_num(rows_and_labels(seed)[0])
    estimator = IsolationForest(
        n_estimators=20, max_samples=64 + seed, max_features=1.0 - seed / 8, random_state=seed
    ).fit(rows)
    model = export(estimator, NAMES, rows)
    others = np.nan_to_num(rows_and_labels(50 + seed, 1_000)[0])
    np.testing.assert_allclose(model.score(others), proba(estimator, others), rtol=0, atol=1e-12)


def test_a_value_at_a_threshold_goes_the_same_way() -> None:
    """Where a single-precision feature meets the threshold itself, and its neighbours."""
    rows, labels = rows_and_labels(1)
    for estimator in (forest(1), boosting(1)):
        model = export(estimator.fit(rows, labels), NAMES, rows)
        inner = model.nodes[model.nodes["split"] >= 0]
        for towards in (-np.inf, np.inf):
            cut = np.repeat(rows[:1], len(inner), axis=0)
            places = inner["split"] >> 1
            cut[np.arange(len(inner)), places] = np.nextafter(inner["threshold"], towards)
            np.testing.assert_allclose(model.score(cut), proba(estimator, cut), rtol=0, atol=1e-12)


def artifact() -> tuple[bytes, bytes]:
    rows, labels = rows_and_labels(2)
    model = export(forest(2).fit(rows, labels), NAMES, rows)
    arrays = model.arrays()
    card = Card(
        name="cards",
        family=Family.FOREST,
        features=NAMES,
        spec="spec.yaml",
        spec_version="0123",
        arrays=digest_of(arrays),
        trained={},
        metrics={"average_precision": {"value": 0.5}},
        thresholds={},
        calibration=[],
        importance={},
    )
    return msgspec.json.encode(card.sealed()), arrays


def test_an_artifact_opens_as_it_was_written() -> None:
    card, model = open_artifact(*artifact(), "it")
    assert model.features == card.features == NAMES


def test_a_changed_artifact_is_refused() -> None:
    card, arrays = artifact()
    other = export(forest(4).fit(*rows_and_labels(4)), NAMES, rows_and_labels(4)[0]).arrays()
    better = card.replace(b'"value":0.5', b'"value":0.9')
    flipped = bytearray(arrays)
    flipped[len(flipped) // 2] ^= 1
    for changed_card, changed_arrays, message in (
        (better, arrays, "it: the card was changed since it was written"),
        (card[:-9], arrays, "it: the card is damaged"),
        (card, other, "it: the arrays are not those of the card"),
        (card, bytes(flipped), "it: the arrays are not those of the card"),
        (card, arrays[:-40], "it: the arrays are not those of the card"),
    ):
        with pytest.raises(ModelError, match=message):
            open_artifact(changed_card, changed_arrays, "it")


def test_arrays_that_are_no_model_are_refused() -> None:
    rows, labels = rows_and_labels(3)
    model = export(forest(3).fit(rows, labels), NAMES, rows)
    loops = model.nodes.copy()
    loops["right"][0] = 0
    shared = model.nodes.copy()
    shared["right"][0] += 1
    beyond = model.nodes.copy()
    beyond["split"][0] = 2 * F
    for data, message in (
        (b"", "is no model, or is damaged"),
        (model.arrays()[:200], "is no model, or is damaged"),
        (replace(model, nodes=loops).arrays(), "its trees lead nowhere"),
        (replace(model, nodes=shared).arrays(), "its trees lead nowhere"),
        (replace(model, nodes=beyond).arrays(), "its trees lead nowhere"),
    ):
        with pytest.raises(ModelError, match=message):
            read_arrays(data, "it")


def test_a_pickle_is_not_opened(tmp_path: Any) -> None:
    file = tmp_path / "model.npz"
    np.savez(file, format=np.array([object()], dtype=object))
    with pytest.raises(ModelError, match="is no model"):
        read_arrays(file.read_bytes(), "it")


def test_what_cannot_be_exported_is_refused() -> None:
    rows, labels = rows_and_labels(0)
    with pytest.raises(ModelError, match="ExtraTreesClassifier: cannot be exported"):
        export(ExtraTreesClassifier(2).fit(rows, labels), NAMES, rows)
    with pytest.raises(ModelError, match="two classes"):
        export(RandomForestClassifier(2).fit(rows, labels * 0), NAMES, rows)


def test_a_spec_that_lacks_features_is_refused() -> None:
    card, _ = open_artifact(*artifact(), "it")
    with pytest.raises(ModelError, match=r"the model needs feature_5, which .*\(spec.yaml, 0123\)"):
        check_features(card, dict.fromkeys(NAMES[:-1]), "cards")
