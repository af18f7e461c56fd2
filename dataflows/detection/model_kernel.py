"""The compiled kernel of :mod:`dataflows.detection.models`: trees as flat arrays."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

NODE = np.dtype([("threshold", "f8"), ("split", "i4"), ("right", "i4")])
"""A node as models are kept. `split` is 2 * feature, + 1 if a missing value goes left; LEAF for a
leaf, whose `threshold` is what it adds. The left child is the next node."""
PAIRED = np.dtype([("threshold", "f8"), ("split", "i4"), ("left", "i4")])
"""The same as models are run: the right child is the node behind `left`."""
LEAF = -1

ROWS = 256  # of a batch go down a tree together

kernel = njit(cache=True, nogil=True)


@kernel
def pair(nodes: NDArray[Any], roots: NDArray[np.int64], paired: NDArray[Any]) -> None:
    """Fill `paired` [N] with the nodes of each tree, level by level; roots stay where they are."""
    sources = np.empty(len(nodes), np.int64)
    for tree in range(len(roots)):
        end = roots[tree + 1] if tree + 1 < len(roots) else len(nodes)
        sources[roots[tree]] = roots[tree]
        free = roots[tree] + 1
        for place in range(roots[tree], end):
            node = nodes[sources[place]]
            paired[place].threshold = node.threshold
            paired[place].split = node.split
            paired[place].left = free
            if node.split != LEAF:
                sources[free] = sources[place] + 1
                sources[free + 1] = node.right
                free += 2


@kernel
def add_trees(
    paired: NDArray[Any],
    roots: NDArray[np.int64],
    rows: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add to sums[i] what the leaf of every tree holds that row i of [n, features] comes to.

    Rows go down a tree level by level, those on their way first, so that nothing depends on a
    branch that the processor would have to guess: of two children either is as likely.
    """
    at = np.empty(ROWS, np.int32)
    going = np.empty(ROWS, np.int32)
    for first in range(0, len(rows), ROWS):
        some = rows[first : first + ROWS]
        for root in roots:
            for i in range(len(some)):
                at[i] = root
                going[i] = i
            ahead = len(some) if paired[root].split != LEAF else 0
            while ahead:
                still = 0
                for k in range(ahead):
                    i = going[k]
                    node = paired[at[i]]
                    split = node.split
                    value = some[i, split >> 1]
                    goes_right = (value > node.threshold) | ((value != value) & (split & 1 == 0))
                    child = node.left + np.int32(goes_right)
                    at[i] = child
                    going[still] = i
                    still += paired[child].split != LEAF
                ahead = still
            for i in range(len(some)):
                sums[first + i] += paired[at[i]].threshold


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
