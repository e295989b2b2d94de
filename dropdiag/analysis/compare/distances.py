"""How far apart are two distributions? From counts in the shared bins; seeds are pooled by adding counts.

Values are taken to lie at their bin's centre, so each distance is exactly that of the centres, as
`scipy.stats` has it; a centre is within 1/128 of the value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from dropdiag.analysis.compare.resampling import Design, Floats, Statistic, Weights
from dropdiag.errors import ArgumentError
from dropdiag.histograms.histogram import Histogram

CELLS: Final = 64
"""Cells of equal share of all values, in which the Jensen-Shannon divergence is taken."""
_BLOCK: Final = 2**21  # numbers of a block of cases times bins: 16 MB


class PooledCounts:
    """Counts of several runs on the bins that any of them uses.

    Parameters
    ----------
    histograms : sequence of Histogram
        One a run. NaN and infinite values are left out.

    Attributes
    ----------
    centres : ndarray of float64, shape (bins,)
        Ascending; exact zeros lie at 0.
    counts : ndarray of float64, shape (runs, bins)

    Raises
    ------
    ArgumentError
        If a run has no finite value.
    """

    def __init__(self, histograms: Sequence[Histogram]) -> None:
        parts = [histogram.bounds() for histogram in histograms]
        if any(counts.size == 0 for _, _, counts in parts):
            raise ArgumentError("a distribution without finite values has no distance to another")
        places = [0.5 * (low + high) for low, high, _ in parts]
        self.centres = np.unique(np.concatenate(places))
        self.counts = np.zeros((len(parts), self.centres.size))
        for row, place, (_, _, counts) in zip(self.counts, places, parts, strict=True):
            row[np.searchsorted(self.centres, place)] = counts

    def wasserstein(self, weights: Weights) -> Floats:
        """First Wasserstein distance W1 between the pooled distributions, in the values' unit.

        The integral of |F - G| over the line: how far a value has to move, on average.
        """
        widths = np.diff(self.centres)
        return self._blockwise(weights, lambda apart: np.abs(apart) @ widths)

    def energy(self, weights: Weights) -> Floats:
        """Energy distance, sqrt(2 int (F - G)^2): in the square root of the values' unit (Szekely and Rizzo)."""
        widths = np.diff(self.centres)
        return self._blockwise(weights, lambda apart: np.sqrt(2.0 * (apart**2 @ widths)))

    def jensen_shannon(self, weights: Weights) -> Floats:
        """Jensen-Shannon divergence in bits, in [0, 1], over cells of equal share of all the runs' values.

        The fine bins are joined to about `CELLS` cells, because the divergence of two samples of one distribution
        grows with the number of cells, by about cells / (8 ln 2) (1/n + 1/m).
        """
        joined = self._cells()
        mine, theirs = (side @ joined for side in weights)
        p, q = (side / side.sum(axis=1, keepdims=True) for side in (mine, theirs))
        middle = 0.5 * (p + q)
        return np.asarray(_entropy(middle) - 0.5 * (_entropy(p) + _entropy(q)))

    def _cells(self) -> Floats:
        shares = (self.counts / self.counts.sum(axis=1, keepdims=True)).mean(axis=0)
        before = np.cumsum(shares) - 0.5 * shares
        cell = np.minimum((before * CELLS).astype(np.int64), CELLS - 1)
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        return np.asarray(np.add.reduceat(self.counts, starts, axis=1))

    def _blockwise(self, weights: Weights, measure: Callable[[Floats], Floats]) -> Floats:
        """Measure the differences F - G between bins, a block of cases at a time."""
        summed = np.cumsum(self.counts, axis=1)
        step = max(_BLOCK // summed.shape[1], 1)
        parts = []
        for start in range(0, len(weights.condition), step):
            mine, theirs = (side[start : start + step] @ summed for side in weights)
            apart = mine / mine[:, -1:] - theirs / theirs[:, -1:]
            parts.append(measure(apart[:, :-1]))
        return np.concatenate(parts)


def wasserstein(one: Histogram, other: Histogram) -> float:
    """First Wasserstein distance of two histograms, in the values' unit; see `PooledCounts.wasserstein`."""
    return _of_two(PooledCounts([one, other]).wasserstein)


def energy(one: Histogram, other: Histogram) -> float:
    """Energy distance of two histograms; see `PooledCounts.energy`."""
    return _of_two(PooledCounts([one, other]).energy)


def jensen_shannon(one: Histogram, other: Histogram) -> float:
    """Jensen-Shannon divergence of two histograms in bits; see `PooledCounts.jensen_shannon`."""
    return _of_two(PooledCounts([one, other]).jensen_shannon)


def _of_two(statistic: Statistic) -> float:
    return float(statistic(Design(1, 1, paired=False).observed())[0])


def _entropy(shares: Floats) -> Floats:
    """Entropy of each row, in bits."""
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0.0)
    return np.asarray(-(shares * logs).sum(axis=1))
