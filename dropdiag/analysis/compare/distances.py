"""How far apart are two distributions? From counts in the shared bins; seeds are pooled by adding counts.

Values are taken to lie at their bin's centre, so the distance is exactly that of the centres, as
`scipy.stats` has it; a centre is within 1/128 of the value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dropdiag.analysis.compare.resampling import Floats, Sums
from dropdiag.errors import ArgumentError
from dropdiag.histograms import grid
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
        parts = [histogram.line() for histogram in histograms]
        if any(counts.size == 0 for _, counts in parts):
            raise ArgumentError("a distribution without finite values has no distance to another")
        used = np.zeros(grid.BINS, np.bool_)
        for bins, _ in parts:
            used[bins] = True
        line = grid.line_bins()
        line = line[used[line]]
        low, high = grid.all_bounds()
        # values of a bin lie at its centre, so that bins of different runs are the same points or apart
        self.centres = 0.5 * (low[line] + high[line])
        place = np.empty(grid.BINS, np.int64)
        place[line] = np.arange(line.size)
        self.counts = np.zeros((len(parts), line.size))
        for row, (bins, counts) in zip(self.counts, parts, strict=True):
            row[place[bins]] = counts
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
