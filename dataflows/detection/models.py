"""Models as they are served: plain arrays and a card, no code and no pickle.

A model takes rows of features in the order of its card, NaN for null, and gives each a score in
0..1. What it gives is what scikit-learn gives, to rounding (tests/unit/detection/test_models.py).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.detection import model_kernel as kernel
from dataflows.detection.profile import Profile
from dataflows.errors import TidegateError

FORMAT: Final = 1


class ModelError(TidegateError):
    """An artifact that cannot be served: unknown, damaged, or changed since it was written."""


class Family(StrEnum):
    """How the sums over a model's parts become a score."""

    FOREST = "random_forest"  # mean of the trees
    BOOSTING = "gradient_boosting"  # logistic function of the sum
    LINEAR = "logistic_regression"
    ISOLATION = "isolation_forest"  # 2^-(mean depth / usual depth)


_TREES: Final = frozenset({Family.FOREST, Family.BOOSTING, Family.ISOLATION})
_NARROW: Final = frozenset({Family.FOREST, Family.ISOLATION})
"""The families whose features scikit-learn rounds to single precision first."""


@dataclass(frozen=True)
class Model:
    """A model of f features.

    Trees: `nodes` [N] of NODE, `roots` int64[T]. Linear: `weights` and `fills` float64[f].
    A score comes from `offset` plus `scale` times the sum.
    """

    family: Family
    features: tuple[str, ...]
    offset: float
    scale: float
    nodes: NDArray[Any]
    roots: NDArray[np.int64]
    weights: NDArray[np.float64]
    fills: NDArray[np.float64]

    def score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores in 0..1 of float64[n, f]; the higher, the more suspicious."""
        if rows.ndim != 2 or rows.shape[1] != len(self.features):
            raise ValueError(f"rows of {len(self.features)} features, not {rows.shape}")
        rows = np.ascontiguousarray(rows, np.float64)
        sums = np.zeros(len(rows))
        if self.family in _NARROW:
            rows = rows.astype(np.float32).astype(np.float64)
        if self.family in _TREES:
            kernel.add_trees(self._paired, self.roots, rows, sums)
        else:
            kernel.add_weighted(self.weights, self.fills, rows, sums)
        raw = self.offset + self.scale * sums
        if self.family is Family.FOREST:
            return raw
        if self.family is Family.ISOLATION:
            return np.exp2(raw)
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-raw))

    @cached_property
    def _paired(self) -> NDArray[Any]:
        paired = np.empty(len(self.nodes), kernel.PAIRED)
        kernel.pair(self.nodes, self.roots, paired)
        return paired

    def arrays(self) -> bytes:
        """The model as an .npz file; the same model gives the same bytes."""
        stream = io.BytesIO()
        np.savez(
            stream,
            format=np.array(FORMAT),
            family=np.array(self.family.value),
            features=np.array(self.features),
            offset=np.array(self.offset),
            scale=np.array(self.scale),
            nodes=self.nodes,
            roots=self.roots,
            weights=self.weights,
            fills=self.fills,
        )
        return stream.getvalue()


def trees_model(
    family: Family,
    features: tuple[str, ...],
    nodes: NDArray[Any],
    roots: NDArray[np.int64],
    offset: float,
    scale: float,
) -> Model:
    """A model of trees."""
    none = np.zeros(0)
    return Model(family, features, offset, scale, nodes, roots, none, none)


def linear_model(
    features: tuple[str, ...],
    weights: NDArray[np.float64],
    fills: NDArray[np.float64],
    offset: float,
) -> Model:
    """A logistic regression."""
    nodes, roots = np.zeros(0, kernel.NODE), np.zeros(0, np.int64)
    return Model(Family.LINEAR, features, offset, 1.0, nodes, roots, weights, fills)


def read_arrays(data: bytes, name: str) -> Model:
    """The model of an .npz file; `name` says where it comes from.

    Raises ModelError if it is damaged, of another format, or could make the kernel read beyond it.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            parts: dict[str, Any] = {key: file[key] for key in file.files}
        if int(parts["format"]) != FORMAT:
            raise ModelError(
                f"{name}: has format {int(parts['format'])}, this code reads {FORMAT}: "
                "train it again, or start the code that wrote it"
            )
        model = Model(
            family=Family(str(parts["family"])),
            features=tuple(parts["features"].tolist()),
            offset=float(parts["offset"]),
            scale=float(parts["scale"]),
            nodes=np.ascontiguousarray(parts["nodes"], kernel.NODE),
            roots=np.ascontiguousarray(parts["roots"], np.int64),
            weights=np.ascontiguousarray(parts["weights"], np.float64),
            fills=np.ascontiguousarray(parts["fills"], np.float64),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{name}: is no model, or is damaged ({error}): train it again") from error
    if not _is_sound(model):
        raise ModelError(f"{name}: its trees lead nowhere: it is damaged, train it again")
    return model


def _is_sound(model: Model) -> bool:
    """Whether every row comes to a leaf, whatever it holds, and every node has one parent."""
    if model.family not in _TREES:
        return model.weights.shape == model.fills.shape == (len(model.features),)
    nodes, roots = model.nodes, model.roots
    if not len(roots) or roots[0] != 0 or (np.diff(roots) < 1).any() or roots[-1] >= len(nodes):
        return False
    ends = np.append(roots[1:], len(nodes))
    end_of = np.repeat(ends, np.diff(np.append(roots, len(nodes))))
    inner = np.flatnonzero(nodes["split"] != kernel.LEAF)
    features, right = nodes["split"][inner] >> 1, nodes["right"][inner]
    children = np.sort(np.concatenate([inner + 1, right]))
    return bool(
        ((features >= 0) & (features < len(model.features))).all()
        and ((right > inner + 1) & (right < end_of[inner])).all()
        and np.array_equal(children, np.delete(np.arange(len(nodes)), roots))
    )


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model: how it came about, how good it is, how to use it.

    `arrays` is the SHA-256 of the .npz file, `version` that of the rest of the card, shortened: so
    a card that was changed does not fit its version, nor arrays their card.
    """

    name: str
    family: Family
    features: tuple[str, ...]
    spec: str
    spec_version: str
    arrays: str
    trained: dict[str, Any]
    metrics: dict[str, Any]
    thresholds: dict[str, Any]
    calibration: list[dict[str, float]]
    importance: dict[str, float]
    version: str = ""
    profile: dict[str, Profile] | msgspec.UnsetType = msgspec.UNSET  # of features and scores

    @property
    def is_judged(self) -> bool:
        """Whether there were labels to judge it by."""
        return "average_precision" in self.metrics

    def sealed(self) -> Card:
        """The card with its version, as it is when read back."""
        read = _decode_card(msgspec.json.encode(self))
        return msgspec.structs.replace(read, version=read._digest())

    def _digest(self) -> str:
        blank = msgspec.structs.replace(self, version="")
        return sha256(msgspec.json.encode(blank, order="sorted")).hexdigest()[:12]

    def is_intact(self) -> bool:
        return self.version == self._digest()


_decode_card = msgspec.json.Decoder(Card).decode


def digest_of(data: bytes) -> str:
    """How a card names its arrays."""
    return sha256(data).hexdigest()


def open_artifact(card: bytes, arrays: bytes, name: str) -> tuple[Card, Model]:
    """A card and its model, checked against each other; `name` says where they come from.

    Raises ModelError, one line, for anything that is not as it was written.
    """
    try:
        known = _decode_card(card)
    except msgspec.MsgspecError as error:
        raise ModelError(f"{name}: the card is damaged ({error}): train the model again") from error
    if not known.is_intact():
        raise ModelError(f"{name}: the card was changed since it was written: restore it")
    if digest_of(arrays) != known.arrays:
        raise ModelError(f"{name}: the arrays are not those of the card: restore them")
    model = read_arrays(arrays, name)
    if model.features != known.features or model.family is not known.family:
        raise ModelError(f"{name}: the arrays are of another model than the card: restore them")
    return known, model


def check_features(card: Card, available: Mapping[str, Any], name: str) -> None:
    """Raise ModelError unless every feature of the model is there."""
    missing = [feature for feature in card.features if feature not in available]
    if missing:
        raise ModelError(
            f"{name}: the model needs {', '.join(missing)}, which the spec does not make: "
            f"use the spec it was trained with ({card.spec}, {card.spec_version})"
        )
