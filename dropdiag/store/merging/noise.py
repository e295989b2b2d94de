"""Noise that the masks of several ranks put on each node, beside its variance over the data of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class NodeNoise(NamedTuple):
    """Noise beside signal of d nodes over n samples.

    Attributes
    ----------
    n : int
    mean, m2 : ndarray of float64, shape (d,)
        M2 = sum (h - mean)**2.
    noise : ndarray of float64, shape (d,)
        Sum over the samples of the variance over masks.
    """

    n: int
    mean: Floats
    m2: Floats
    noise: Floats

    @classmethod
    def of(cls, n: int, nodes: int, state: Floats) -> NodeNoise:
        """Return what a state holds: mean, M2 and noise of each node."""
        return cls(n, *np.split(state, [nodes, 2 * nodes]))


def merged(parts: Sequence[NodeNoise]) -> NodeNoise:
    """Return what is known over the samples of all parts."""
    n, first = sum(part.n for part in parts), parts[0].mean
    with np.errstate(invalid="ignore", over="ignore"):
        mean = first + sum(part.n / n * (part.mean - first) for part in parts)
        m2 = sum(part.m2 + part.n * (part.mean - mean) ** 2 for part in parts)
    return NodeNoise(n, mean, np.asarray(m2), np.sum([part.noise for part in parts], axis=0))


def ratio(shards: Mapping[int, Sequence[NodeNoise]]) -> float | None:
    """Return noise over variance, averaged over the nodes that vary, of all shards; None where none does."""
    found = [merged(parts) for parts in shards.values()]
    m2, noise = (np.concatenate([getattr(one, name) for one in found]) for name in ("m2", "noise"))
    varies = m2 != 0.0  # NaN does: a diverged node is not left out
    with np.errstate(invalid="ignore", over="ignore"):
        return float((noise[varies] / m2[varies]).mean()) if varies.any() else None
