"""Many histograms at once: what would be asked of each alone, in one pass over the bins of all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import ArgumentError
from dropdiag.histograms import grid
from dropdiag.histograms.extent import ENOUGH, FAR, TAIL
from dropdiag.histograms.histogram import ENDS, Histogram, Moments

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Many:
    """Several histograms: their numbers are those of `Histogram`, to rounding.

    For thousands of small histograms, of which each call would cost more than its arithmetic.

    Parameters
    ----------
    histograms : sequence of Histogram

    Attributes
    ----------
    n, n_finite : ndarray of int64, shape (m,)
        Number of all values, and of the finite ones.
    """

    def __init__(self, histograms: Sequence[Histogram]) -> None:
        self._histograms = histograms
        lines = [one.line() for one in histograms]
        sizes = np.array([bins.size for bins, _ in lines], np.int64)
        # one line behind the other
        self._bins = np.concatenate([np.empty(0, np.uint16), *(bins for bins, _ in lines)])
        self._counts = np.concatenate([np.empty(0, np.int64), *(counts for _, counts in lines)])
        self._owner = np.repeat(np.arange(sizes.size), sizes)
        self._places = grid.line_places()[self._bins] + self._owner * grid.BINS
        self._after = np.cumsum(self._counts)
        self._before = self._after - self._counts
        self._size, self._end = sizes, np.cumsum(sizes)
        self._begin = self._end - sizes
        self.n = np.array([one.n for one in histograms], np.int64)
        self.n_finite = np.diff(np.concatenate([[0], self._after])[np.concatenate([[0], self._end])])

    def densities(self, edges: Floats) -> Floats:
        """Return `Histogram.density` of each.

        Parameters
        ----------
        edges : ndarray of float64, shape (m, k + 1)
            Those of each, strictly increasing and finite.

        Returns
        -------
        ndarray of float64, shape (m, k)
            NaN where there is no finite value.

        Raises
        ------
        ArgumentError
            If edges are none.
        """
        widths = np.diff(edges, axis=1)
        if edges.shape[0] != self.n.size or edges.shape[1] < 2 or not (np.isfinite(edges).all() and (widths > 0).all()):
            raise ArgumentError("edges must be at least two finite, strictly increasing numbers for each histogram")
        inside = np.diff(self._below(edges), axis=1)
        at = np.flatnonzero(self._bins == grid.ZERO)
        at = at[(edges[self._owner[at], 0] <= 0.0) & (edges[self._owner[at], -1] >= 0.0)]
        holds = self._owner[at]
        cell = np.minimum((edges[holds] <= 0.0).sum(axis=1) - 1, inside.shape[1] - 1)
        inside[holds, cell] += self._counts[at]
        total = np.where(self.n_finite > 0, self.n_finite, np.nan)[:, None]
        return np.asarray(inside / total / widths)

    def extents(self) -> Floats:
        """Return `Histogram.extent` of each, shape (m, 2); NaN without a finite value."""
        found = np.full((self.n.size, 2), np.nan)
        if self._some.size:
            low, high = self._bounds
            first, last = self._near()
            for column, probability in enumerate(ENDS):
                found[self._some, column] = np.clip(self._quantile(probability), low[first], high[last])
        return found

    def remember_moments(self) -> None:
        """Let the histograms know what their mean, standard deviation and kurtosis rest on."""
        low, high = self._bounds
        n, begin = self.n_finite[self._some], self._begin[self._some]
        # what of each bin is summed over the bins of each histogram, in shares of its values
        share = self._counts / np.repeat(n, self._size[self._some])

        def mean_of(values: Floats) -> Floats:
            return np.add.reduceat(share * values, begin)

        def spread_out(values: Floats) -> Floats:
            return np.repeat(values, self._size[self._some])

        centre, squared_width = 0.5 * (low + high), (high - low) ** 2
        mean = mean_of(centre)
        squared = (centre - spread_out(mean)) ** 2
        within = mean_of(squared_width) / 12.0
        fourth = mean_of(squared**2 + squared * squared_width / 2.0 + squared_width**2 / 80.0)
        for place, *numbers in zip(self._some.tolist(), mean, mean_of(squared) + within, fourth, within, strict=True):
            self._histograms[place].remember(Moments(int(self._size[place]), *map(float, numbers)))

    def _below(self, edges: Floats) -> Floats:
        """Return how many values other than zeros lie below each edge, each bin's spread evenly."""
        low, high = self._bounds
        counts = np.where(self._bins == grid.ZERO, 0, self._counts)
        before = np.concatenate([[0], np.cumsum(counts)])
        place = np.searchsorted(grid.all_bounds()[0][grid.line_bins()], edges, side="right") - 1
        wanted = place + np.arange(len(edges))[:, None] * grid.BINS
        at = np.searchsorted(self._places, wanted)
        whole = before[at] - before[self._begin][:, None]
        at = at.clip(max=max(self._places.size - 1, 0))
        cut = (self._places[at] == wanted) & (high[at] > low[at]) if self._places.size else np.zeros_like(edges, bool)
        part = np.zeros(edges.shape)
        part[cut] = counts[at[cut]] * ((edges[cut] - low[at[cut]]) / (high - low)[at[cut]]).clip(max=1.0)
        return np.asarray(whole + part)

    def _near(self) -> tuple[Ints, Ints]:
        """Return the first and the last bin of each that is not far out, as `bulk` has it."""
        low, high = self._bounds
        n, base = self.n_finite[self._some], self._before[self._begin[self._some]]
        tail = np.maximum(TAIL * n, 1.0)
        ends = self._end[self._some] - 1
        least = low[np.searchsorted(self._after, base + tail, side="right").clip(max=ends)]
        most = high[np.searchsorted(self._after, base + (n - tail), side="left").clip(max=ends)]
        margin = np.where(n < ENOUGH, np.inf, FAR * (most - least))
        size = self._size[self._some]
        centre = 0.5 * (low + high)
        near = np.flatnonzero((centre >= np.repeat(least - margin, size)) & (centre <= np.repeat(most + margin, size)))
        begin, end = (np.searchsorted(self._owner[near], self._some, side=side) for side in ("left", "right"))
        return near[begin], near[end - 1]

    def _quantile(self, probability: float) -> Floats:
        """Return a quantile of each that has finite values."""
        low, high = self._bounds
        base, end = self._before[self._begin[self._some]], self._end[self._some]
        target = probability * self.n_finite[self._some]
        at = np.searchsorted(self._after, base + target, side="left").clip(max=end - 1)
        within = (target - (self._before[at] - base)) / self._counts[at]
        return np.asarray(low[at] + within.clip(0.0, 1.0) * (high - low)[at])

    @cached_property
    def _bounds(self) -> tuple[Floats, Floats]:
        low, high = grid.all_bounds()
        return low[self._bins], high[self._bins]

    @cached_property
    def _some(self) -> Ints:
        """Places of the histograms that hold finite values."""
        return np.flatnonzero(self._size)
