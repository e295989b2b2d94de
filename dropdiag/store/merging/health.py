"""Norms of health of several ranks: nodes over the samples of all, weights of which each has a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DEAD: Final = ("dead_share", "always_saturated_share")
INSIDE, UNKNOWN = 0.0, 1.0
"""As in `dropdiag.sketches.always_inside`; above them: a value is outside."""


class NodeCodes(NamedTuple):
    """What is known of each node.

    Attributes
    ----------
    codes : ndarray of float64, shape (2, nodes)
        Whether all its values are dead, and saturated.
    """

    codes: Floats

    @classmethod
    def of(cls, _n: int, nodes: int, state: Floats) -> NodeCodes:
        """Return what a state holds."""
        return cls(state.reshape(len(DEAD), nodes))


def shares(shards: Mapping[int, Sequence[NodeCodes]]) -> list[float | None]:
    """Return the shares `DEAD` of all nodes of all shards; NaN where a node is not known."""
    found = [np.maximum.reduce([part.codes for part in parts]) for parts in shards.values()]
    codes = np.concatenate(found, axis=1)
    unknown = (codes == UNKNOWN).any(1)
    return [float(share) for share in np.where(unknown, np.nan, (codes == INSIDE).mean(1))]


def ratios(squares: Floats, starts: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the ratio of the norms of neighbouring parts together, and whether there is one: not where all was 0.

    Parameters
    ----------
    squares : ndarray of float64, shape (parts, 2)
        Sums of squares of the change, and of what was before.
    starts : ndarray of int64
        Where each weight's parts begin.
    """
    changed, size = np.add.reduceat(squares, starts, axis=0).T
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.sqrt(changed / size), size != 0.0
