"""The compiled kernel of :mod:`dataflows.detection.models`: trees as flat arrays."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

NODE = np.dtype([("threshold", "f8"), ("split", "i4"), ("right", "i4")])
"""A node. `split` is 2 * feature, + 1 if a missing value goes left; LEAF for a leaf, whose
`threshold` is what it adds. The left child is the next node."""
LEAF = -1

ROWS = 64  # of a batch go down a tree together, while it is in the cache

kernel = njit(cache=True, nogil=True)


@kernel
def add_trees(
    nodes: NDArray[Any],
    roots: NDArray[np.int64],
    rows: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add to sums[i] what the leaf of every tree holds that row i of [n, features] comes to."""
    for first in range(0, len(rows), ROWS):
        last = min(first + ROWS, len(rows))
        for root in roots:
            for i in range(first, last):
                at = root
                split = nodes[at].split
                while split != LEAF:
                    value = rows[i, split >> 1]
                    left = (split & 1) != 0 if np.isnan(value) else value <= nodes[at].threshold
                    at = at + 1 if left else np.int64(nodes[at].right)
                    split = nodes[at].split
                sums[i] += nodes[at].threshold


@kernel
def add_weighted(
    weights: NDArray[np.float64],
    fills: NDArray[np.float64],
    rows: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add to sums[i] the weighted sum of row i, in which a missing value is its fill."""
    for i in range(len(rows)):
        for k in range(len(weights)):
            value = rows[i, k]
            sums[i] += weights[k] * (fills[k] if np.isnan(value) else value)
