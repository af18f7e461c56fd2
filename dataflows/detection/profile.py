"""What values looked like once, and how far others have moved from it.

The measure is the population stability index: the sum over bins of (q - p) ln(q / p), where p and q
are the shares then and now (Siddiqi, Credit Risk Scorecards, 2006). Below 0.1 nothing much has
changed, from 0.25 on something has.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

BINS: Final = 10
CHANGED, MUCH_CHANGED = 0.1, 0.25
_LEAST_SHARE = 1e-4  # of a bin that nothing is in, so that the index stays finite


class Profile(msgspec.Struct, frozen=True):
    """Of n values: what lies between deciles, and what is missing.

    A value belongs to the first bin whose edge is not below it, else to the last. The last of
    `shares` is that of missing values.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def missing(self) -> float:
        return self.shares[-1]


class Shift(msgspec.Struct, frozen=True):
    """How far values have moved, and how many are missing now."""

    index: float
    missing_then: float
    missing_now: float


def profile(values: NDArray[np.float64]) -> Profile:
    """Of float64[n], n > 0, NaN for missing."""
    present = values[~np.isnan(values)]
    edges = np.zeros(0)
    if len(present):
        inner = np.linspace(0, 1, BINS + 1)[1:-1]
        edges = np.unique(np.quantile(present, inner, method="inverted_cdf"))
    return Profile(tuple(edges.tolist()), tuple(_shares(edges, values).tolist()))


def shift(then: Profile, values: NDArray[np.float64]) -> Shift:
    """Of float64[n], n > 0, against what they were."""
    p, q = np.array(then.shares), _shares(np.array(then.edges), values)
    p, q = np.maximum(p, _LEAST_SHARE), np.maximum(q, _LEAST_SHARE)
    index = float(((q - p) * np.log(q / p)).sum())
    return Shift(index, then.missing, float(np.isnan(values).mean()))


def _shares(edges: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    is_missing = np.isnan(values)
    bins = np.searchsorted(edges, values[~is_missing])
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return np.append(counts, is_missing.sum()) / len(values)
