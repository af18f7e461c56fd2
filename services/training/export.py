"""Models of scikit-learn as plain arrays.

The trees of a forest are read through its public attributes; those of HistGradientBoosting have
none, so `export` checks what it made against scikit-learn's own answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from dataflows.detection.model_kernel import LEAF, NODE
from dataflows.detection.models import Family, Model, ModelError, linear_model, trees_model

CLOSE = 1e-12
_EULER = 0.5772156649015329


def export(estimator: Any, features: tuple[str, ...], rows: NDArray[np.float64]) -> Model:
    """The served form of a fitted estimator of two classes.

    Raises ModelError for a kind that is not known, and if it scores `rows` otherwise than
    scikit-learn does by more than CLOSE.
    """
    if isinstance(estimator, RandomForestClassifier):
        model = _forest(estimator, features)
    elif isinstance(estimator, HistGradientBoostingClassifier):
        model = _boosting(estimator, features)
    elif isinstance(estimator, IsolationForest):
        model = _isolation(estimator, features)
    elif isinstance(estimator, Pipeline):
        model = _linear(estimator, features)
    else:
        raise ModelError(f"{type(estimator).__name__}: cannot be exported: train another kind")
    if isinstance(estimator, IsolationForest):
        wanted = -estimator.score_samples(rows)
    else:
        wanted = estimator.predict_proba(rows)[:, 1]
    apart = float(np.abs(model.score(rows) - wanted).max(initial=0.0))
    if not apart <= CLOSE:
        raise ModelError(
            f"{type(estimator).__name__}: the exported trees score {apart:.1e} otherwise than "
            "scikit-learn does: this version of it is not known, use the one of locks/"
        )
    return model


def _forest(estimator: RandomForestClassifier, features: tuple[str, ...]) -> Model:
    if len(estimator.classes_) != 2:
        raise ModelError("a model needs two classes: the training rows have only one")
    trees = [_nodes(t.tree_, t.tree_.value[:, 0, 1]) for t in estimator.estimators_]
    nodes, roots = _joined(trees)
    return trees_model(Family.FOREST, features, nodes, roots, 0.0, 1 / len(trees))


def _isolation(estimator: IsolationForest, features: tuple[str, ...]) -> Model:
    trees = []
    for tree, used in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
        depths = _depths(tree.tree_)
        adds = depths + _usual_depth(tree.tree_.n_node_samples)
        trees.append(_nodes(tree.tree_, adds, used))
    nodes, roots = _joined(trees)
    usual = float(_usual_depth(np.array([estimator.max_samples_]))[0])
    return trees_model(Family.ISOLATION, features, nodes, roots, 0.0, -1 / (len(trees) * usual))


def _boosting(estimator: HistGradientBoostingClassifier, features: tuple[str, ...]) -> Model:
    trees = []
    for (predictor,) in estimator._predictors:
        known = predictor.nodes
        if known["is_categorical"].any():
            raise ModelError("categorical features cannot be exported: train without them")
        made = _in_order(
            known["left"].astype(np.int64),
            known["right"].astype(np.int64),
            known["is_leaf"].astype(np.bool_),
            known["feature_idx"],
            known["num_threshold"],
            known["missing_go_to_left"].astype(np.bool_),
            known["value"],
        )
        trees.append(made)
    nodes, roots = _joined(trees)
    offset = float(np.ravel(estimator._baseline_prediction)[0])
    return trees_model(Family.BOOSTING, features, nodes, roots, offset, 1.0)


def _linear(estimator: Pipeline, features: tuple[str, ...]) -> Model:
    """Imputer, scaler and regression, folded into one weighted sum."""
    imputer, scaler, regression = (step for _, step in estimator.steps)
    known = (
        isinstance(imputer, SimpleImputer)
        and isinstance(scaler, StandardScaler)
        and isinstance(regression, LogisticRegression)
    )
    if not known:
        raise ModelError("only a pipeline of imputer, scaler and logistic regression is exported")
    weights = regression.coef_[0] / scaler.scale_
    offset = float(regression.intercept_[0] - weights @ scaler.mean_)
    return linear_model(features, weights, imputer.statistics_.astype(np.float64), offset)


def _nodes(tree: Any, adds: NDArray[np.float64], used: NDArray[np.int64] | None = None) -> Any:
    is_leaf = tree.children_left == -1
    split = np.where(is_leaf, 0, tree.feature)
    return _in_order(
        tree.children_left,
        tree.children_right,
        is_leaf,
        split if used is None else used[split],
        tree.threshold,
        np.asarray(tree.missing_go_to_left, np.bool_),
        adds,
    )


def _in_order(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    is_leaf: NDArray[np.bool_],
    feature: NDArray[np.int64],
    threshold: NDArray[np.float64],
    missing_left: NDArray[np.bool_],
    adds: NDArray[np.float64],
) -> NDArray[Any]:
    """A tree's nodes, each left child behind its parent; from the root at 0."""
    order, waiting = [], [0]
    while waiting:
        at = waiting.pop()
        order.append(at)
        if not is_leaf[at]:
            waiting += [int(right[at]), int(left[at])]
    place = np.zeros(len(left), np.int64)
    place[order] = np.arange(len(order))
    nodes = np.zeros(len(order), NODE)
    inner = ~is_leaf[order]
    nodes["threshold"] = np.where(inner, threshold[order], adds[order])
    nodes["split"] = np.where(inner, 2 * feature[order] + missing_left[order], LEAF)
    nodes["right"] = np.where(inner, place[np.where(is_leaf, 0, right)[order]], 0)
    return nodes


def _joined(trees: list[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Trees one after the other, and where each begins."""
    roots = np.cumsum([0, *map(len, trees[:-1])], dtype=np.int64)
    nodes = np.concatenate(trees)
    shift = np.repeat(roots, list(map(len, trees)))
    nodes["right"] += np.where(nodes["split"] != LEAF, shift, 0).astype(np.int32)
    return nodes, roots


def _depths(tree: Any) -> NDArray[np.float64]:
    """Edges from the root to each node."""
    depths = np.zeros(tree.node_count)
    for at in range(tree.node_count):  # a parent comes before its children
        for child in (tree.children_left[at], tree.children_right[at]):
            if child != -1:
                depths[child] = depths[at] + 1
    return depths


def _usual_depth(samples: NDArray[Any]) -> NDArray[np.float64]:
    """Mean depth of an unsuccessful search in a tree of so many rows."""
    n = np.maximum(samples.astype(np.float64), 2.0)
    usual = 2.0 * (np.log(n - 1.0) + _EULER) - 2.0 * (n - 1.0) / n
    return np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, usual))
