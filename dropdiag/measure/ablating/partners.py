"""Which nodes of a layer are ablated together: partners that vary together, and partners drawn by lot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Nodes: TypeAlias = NDArray[np.intp]
Pair: TypeAlias = tuple[Nodes, Nodes]
Rise: TypeAlias = Callable[[Nodes], float]
"""By how much the loss rises when these nodes are ablated."""


def by_association(correlation: NDArray[np.float64]) -> Nodes:
    """Return the nodes in an order in which those that vary together stand beside each other.

    Parameters
    ----------
    correlation : ndarray of float64, shape (m, m)
        Pearson's r, NaN for constant nodes: these are taken for unrelated to any other.

    Returns
    -------
    ndarray of int, shape (m,)
        The leaves of average linkage by the distance ``1 - |r|``.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage  # noqa: PLC0415 - who only records need not wait for scipy

    nodes = len(correlation)
    if nodes < 3:
        return np.arange(nodes)
    distances = 1.0 - np.abs(np.nan_to_num(correlation, nan=0.0))
    order: Nodes = leaves_list(linkage(distances[np.triu_indices(nodes, 1)], "average")).astype(np.intp)
    return order


def partners(order: Nodes, groups: int) -> list[Pair]:
    """Cut an order of nodes into blocks, and deal each block's nodes to two groups in turn.

    Parameters
    ----------
    order : ndarray of int
    groups : int
        Even; of fewer nodes than that fewer groups are made.

    Returns
    -------
    list of (nodes, nodes)
        The two groups of each block. Blocks differ by one node at most, and so do the groups of a block.
    """
    blocks = min(groups // 2, len(order) // 2)
    return [(block[0::2], block[1::2]) for block in np.array_split(order, blocks)] if blocks else []


def interaction(rise: Rise, pairs: Sequence[Pair], least: float = 0.0) -> float | None:
    """Return ``sum(d_AB - d_A - d_B) / sum(|d_A| + |d_B|)`` over pairs of groups of nodes.

    Parameters
    ----------
    rise : callable
        Of the loss, when nodes are ablated.
    pairs : sequence of (nodes, nodes)
    least : float
        The denominator must be greater: what rounding gives.

    Returns
    -------
    float or None
        None where no group alone changes the loss.
    """
    surplus = scale = 0.0
    for a, b in pairs:
        alone, other = rise(a), rise(b)
        surplus += rise(np.concatenate([a, b])) - alone - other
        scale += abs(alone) + abs(other)
    return None if scale <= least else surplus / scale


def ablated_sets(nodes: int, shares: Sequence[float], generator: np.random.Generator) -> list[Nodes]:
    """Return which nodes are ablated at each share, in one random order: each set holds those of lower shares."""
    order = generator.permutation(nodes)
    return [order[: round(share * nodes)] for share in shares]
