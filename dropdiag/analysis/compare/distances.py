"""How far apart are two distributions? From counts in the shared bins; seeds are pooled by adding counts.

Values are taken to lie at their bin's centre, so the distance is exactly that of the centres, as
`scipy.stats` has it; a centre is within 1/128 of the value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dropdiag.analysis.compare.resampling import Floats, Sums
from dropdiag.errors import ArgumentError
from dropdiag.histograms.histogram import Histogram


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
        Cumulative: values of a run up to and including each bin.

    Raises
    ------
    ArgumentError
        If a run has no finite value.
    """

    def __init__(self, histograms: Sequence[Histogram]) -> None:
        parts = [histogram.bounds() for histogram in histograms]
        if any(counts.size == 0 for _, _, counts in parts):
            raise ArgumentError("a distribution without finite values has no distance to another")
        # values of a bin lie at its centre, so that bins of different runs are the same points or apart
        places = [0.5 * (low + high) for low, high, _ in parts]
        self.centres = np.unique(np.concatenate(places))
        self.counts = np.zeros((len(parts), self.centres.size))
        for row, place, (_, _, counts) in zip(self.counts, places, parts, strict=True):
            row[np.searchsorted(self.centres, place)] = counts
        # cumulative once for all: sums of cumulative counts are the cumulative counts of the sum
        np.cumsum(self.counts, axis=1, out=self.counts)

    def wasserstein(self, sums: Sums) -> Floats:
        """First Wasserstein distance W1 between the pooled distributions, in the values' unit.

        The integral of |F - G| over the line: how far a value has to move, on average.

        Parameters
        ----------
        sums : Sums
            Of ``counts``, over the runs of either side.
        """
        mine, theirs = sums
        # in place: of thousands of labellings these matrices are what memory and time go to
        apart = mine / mine[:, -1:]
        apart -= theirs / theirs[:, -1:]
        return np.asarray(np.abs(apart[:, :-1], out=apart[:, :-1]) @ np.diff(self.centres))
