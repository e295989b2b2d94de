"""The paper side's histogram: sparse counts on the universal bin grid, and what can be asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dropdiag.errors import ArgumentError
from dropdiag.histograms import grid
from dropdiag.histograms.extent import bulk
from dropdiag.histograms.grid import cumulative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dropdiag.histograms.kde import KDE

Floats = NDArray[np.float64]
ENDS: Final = (0.001, 0.999)
RESOLVED: Final = 0.02
"""Greatest part of the variance that may lie within bins: with more, the kurtosis would be off by more than a tenth."""

_PARTS: Final = np.array(
    [grid.ZERO + 1, grid.POSITIVE_INFINITY, grid.NEGATIVE_ZERO, grid.NEGATIVE_ZERO + 1, grid.NEGATIVE_INFINITY],
    np.uint16,
)
"""Bins before which the positive zero, positive values, those with NaN, the negative zero, and negative values end."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of values on the universal bin grid (see `dropdiag.histograms.grid`).

    Memory: 10 bytes an occupied bin, one or two thousand bins for a layer's values, whatever their number.
    Error: a bin is at most 1/64 of its values' size wide, so a value is known to that relative precision;
    counts are exact, and ``+`` is exactly the histogram of the union. What is computed from a histogram
    spreads a bin's values evenly over the bin; each method states what that costs. Exact zeros (with
    denormals below 2**-132) are a point mass at 0. NaN and infinities are counted, and take part in nothing
    else.

    Parameters
    ----------
    bins : array_like of int, shape (m,)
        Bin numbers, strictly increasing; stored as uint16.
    counts : array_like of int, shape (m,)
        Values in each bin, none negative; stored as int64. Bins that hold nothing are dropped.

    Raises
    ------
    ArgumentError
        If the two do not match, or a bin does not exist, or a count is negative.

    Examples
    --------
    >>> h = dd.Histogram.from_values([0.5, -1.0, 0.0]) + dd.Histogram.from_values([2.0])
    >>> h.n, h.zeros, h.share(-10, 0)
    (4, 1, 0.5)
    """

    bins: NDArray[np.uint16]
    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        bins, counts = _checked(self.bins, self.counts)
        bins.flags.writeable = counts.flags.writeable = False
        object.__setattr__(self, "bins", bins)
        object.__setattr__(self, "counts", counts)

    @classmethod
    def of_checked(cls, bins: NDArray[np.uint16], counts: NDArray[np.int64]) -> Histogram:
        """Histogram of bins that ascend and counts above 0 which nobody changes: neither checked nor copied."""
        found = cls.__new__(cls)
        found.__dict__.update(bins=bins, counts=counts)
        return found

    @classmethod
    def from_values(cls, values: ArrayLike, times: ArrayLike | None = None) -> Histogram:
        """Histogram of raw values.

        Parameters
        ----------
        values : array_like of floats, any shape
            Rounded to float32 first.
        times : array_like of int, same shape, optional
            How often each counts; by default once.

        Examples
        --------
        >>> dd.Histogram.from_values([1.0, 2.0], times=[3, 1]).n
        4
        """
        numbers = grid.bin_numbers(np.asarray(values, dtype=np.float64).ravel())
        bins, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
        if times is not None:
            counts = np.zeros(bins.size, dtype=np.int64)
            np.add.at(counts, place, np.asarray(times, dtype=np.int64).ravel())
        return cls(bins, counts)

    @property
    def n(self) -> int:
        """Number of all values, NaN and infinities too.

        Examples
        --------
        >>> dd.Histogram.from_values([1.0, float("nan")]).n
        2
        """
        return int(self.counts.sum())

    @property
    def n_finite(self) -> int:
        """Number of finite values, zeros too.

        Examples
        --------
        >>> dd.Histogram.from_values([1.0, float("nan")]).n_finite
        1
        """
        return int(self.counts[grid.is_finite_bin(self.bins)].sum())

    @property
    def zeros(self) -> int:
        """Number of exact zeros, of either sign, with denormals below 2**-132.

        Examples
        --------
        >>> dd.Histogram.from_values([0.0, -0.0, 1.0]).zeros
        2
        """
        return int(self.counts[(self.bins == grid.ZERO) | (self.bins == grid.NEGATIVE_ZERO)].sum())

    @property
    def nans(self) -> int:
        """Number of NaN.

        Examples
        --------
        >>> dd.Histogram.from_values([1.0, float("nan")]).nans
        1
        """
        return self.n - self.n_finite - self.positive_infinities - self.negative_infinities

    @property
    def positive_infinities(self) -> int:
        """Number of +Inf.

        Examples
        --------
        >>> dd.Histogram.from_values([1.0, float("inf")]).positive_infinities
        1
        """
        return int(self.counts[self.bins == grid.POSITIVE_INFINITY].sum())

    @property
    def negative_infinities(self) -> int:
        """Number of -Inf.

        Examples
        --------
        >>> dd.Histogram.from_values([1.0, float("-inf")]).negative_infinities
        1
        """
        return int(self.counts[self.bins == grid.NEGATIVE_INFINITY].sum())

    def __add__(self, other: object) -> Histogram:
        if isinstance(other, int) and other == 0:  # the start of sum()
            return self
        if not isinstance(other, Histogram):
            return NotImplemented
        bins, place = np.unique(np.concatenate([self.bins, other.bins]), return_inverse=True)
        counts = np.zeros(bins.size, dtype=np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Histogram(bins, counts)

    __radd__ = __add__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return np.array_equal(self.bins, other.bins) and np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        return hash((self.bins.tobytes(), self.counts.tobytes()))

    def __repr__(self) -> str:
        return f"Histogram(n={self.n:,}, bins={self.bins.size:,}, zeros={self.zeros:,}, nans={self.nans:,})"

    def bounds(self) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Finite bins in the order of the real line; the zeros are one bin with ``low == high == 0``.

        Returns
        -------
        low, high : ndarray of float64, shape (m,)
        counts : ndarray of int64, shape (m,)

        Examples
        --------
        >>> low, high, counts = dd.Histogram.from_values([1.0, 1.0, -2.0]).bounds()
        >>> low, high, counts
        (array([-2.03125,  1.     ]), array([-2.      ,  1.015625]), array([1, 2]))
        """
        low, high = grid.all_bounds()
        line, counts = self.line()
        return low[line], high[line], counts

    def line(self) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        """Numbers of the finite bins, in the order of `bounds`, and counts; the zeros of both signs are bin 0.

        Examples
        --------
        >>> bins, counts = dd.Histogram.from_values([1.0, 1.0, -2.0]).line()
        >>> counts
        array([1, 2])
        """
        # bins ascend: first what is positive, then what is negative, from the zero outwards
        first, last, minus_zero, below, least = self.bins.searchsorted(_PARTS).tolist()
        line, counts = ([one[below:least][::-1], one[first:last]] for one in (self.bins, self.counts))
        if first or minus_zero < below:  # few histograms hold zeros
            line.insert(1, np.array([grid.ZERO], np.uint16))
            counts.insert(1, np.array([self.zeros], np.int64))
        return np.concatenate(line), np.concatenate(counts)

    def rebin(self, edges: ArrayLike) -> Floats:
        """Values in each interval of a grid of one's own, a bin's values spread evenly over the bin.

        The error of an interval is at most the count of the two bins that its edges cut.

        Parameters
        ----------
        edges : array_like of float, shape (k + 1,)
            Strictly increasing and finite. Values outside are left out. Zeros go, as `numpy.histogram` has
            it, to the interval whose lower edge is 0 or that holds 0 inside (the last one also has its upper
            edge).

        Returns
        -------
        ndarray of float64, shape (k,)

        Examples
        --------
        >>> dd.Histogram.from_values([0.2, 0.4, 0.6]).rebin([0.0, 0.5, 1.0])
        array([2., 1.])
        """
        grid = _edges(edges)
        low, high, counts = self.bounds()
        point = low == high
        inside = np.diff(cumulative(low[~point], high[~point], counts[~point], grid))
        if point.any() and grid[0] <= 0.0 <= grid[-1]:
            cell = min(int(np.searchsorted(grid, 0.0, side="right")) - 1, inside.size - 1)
            inside[cell] += float(counts[point].sum())
        return inside

    def density(self, edges: ArrayLike) -> Floats:
        """Share of all finite values per unit of value, for each interval (bars of a normalised histogram).

        Parameters
        ----------
        edges : array_like of float, shape (k + 1,)
            As in `rebin`.

        Returns
        -------
        ndarray of float64, shape (k,)
            Density; its integral is the share of values between the first and the last edge, not always 1.
            NaN where there is no finite value. A bar that holds exact zeros shows them in its height.

        Examples
        --------
        >>> dd.Histogram.from_values([0.2, 0.4, 0.6, 0.7]).density([0.0, 0.5, 1.0])
        array([1., 1.])
        """
        grid, total = _edges(edges), self.n_finite
        if total == 0:
            return np.full(grid.size - 1, np.nan)
        return self.rebin(grid) / total / np.diff(grid)  # their product may be beyond float64

    def quantile(self, q: ArrayLike) -> Floats:
        """Quantiles of the finite values, within one bin (1/64 of the value) of the exact ones.

        Parameters
        ----------
        q : array_like of float
            Probabilities in [0, 1].

        Returns
        -------
        ndarray of float64, same shape
            NaN for a histogram without finite values.

        Examples
        --------
        >>> median = dd.Histogram.from_values(np.arange(1.0, 100.0)).quantile(0.5)
        >>> abs(float(median) - 50) < 50 / 64
        True
        """
        probability = np.asarray(q, dtype=np.float64)
        if not np.all((probability >= 0.0) & (probability <= 1.0)):
            raise ArgumentError(f"a quantile's probability must lie in [0, 1], got {q!r}")
        low, high, counts = self.bounds()
        if counts.size == 0:
            return np.full(probability.shape, np.nan)
        return _quantile(probability, low, high, counts)

    def extent(self) -> tuple[float, float]:
        """Return where nearly all finite values lie: their 0.1 % and 99.9 % quantiles, without values far out.

        Of a few hundred values these quantiles are the least and the greatest one; where such a one lies far from all
        others (`dropdiag.histograms.extent.bulk`), the next one takes its place. NaN without a finite value.

        Examples
        --------
        >>> low, high = dd.Histogram.from_values(np.linspace(-1, 1, 1_001)).extent()
        >>> round(low, 1), round(high, 1)
        (-1.0, 1.0)
        """
        low, high, counts = self.bounds()
        if counts.size == 0:
            return float("nan"), float("nan")
        first, last = bulk(low, high, counts)
        centre = 0.5 * (low + high)
        near = np.flatnonzero((centre >= first) & (centre <= last))
        ends = np.clip(_quantile(np.array(ENDS), low, high, counts), low[near[0]], high[near[-1]])
        return float(ends[0]), float(ends[1])

    def share(self, low: float, high: float) -> float:
        """Share of the finite values in (low, high]; outside it is 1 minus this.

        The error is at most `share_error`, the share of the bins that ``low`` and ``high`` cut.

        Parameters
        ----------
        low, high : float
            May be infinite.

        Returns
        -------
        float
            In [0, 1]; NaN for a histogram without finite values.

        Examples
        --------
        >>> dd.Histogram.from_values([-3.0, 0.0, 0.1, 3.0]).share(-1.818, 1.818)
        0.5
        """
        if not low <= high:
            raise ArgumentError(f"share(low, high) needs low <= high, got {low} and {high}")
        left, right, counts = self.bounds()
        if counts.size == 0:
            return float("nan")
        width = right - left
        part = np.clip(np.minimum(right, high) - np.maximum(left, low), 0.0, None)
        part = np.divide(part, width, out=np.zeros_like(part), where=width > 0.0)
        part[(width == 0.0) & (low < 0.0) & (high >= 0.0)] = 1.0
        return float(min(part @ counts / counts.sum(), 1.0))

    def share_error(self, low: float, high: float) -> float:
        """Largest possible error of ``share(low, high)``: the share of the bins that the two limits cut.

        Examples
        --------
        >>> dd.Histogram.from_values([-3.0, 0.0, 0.1, 3.0]).share_error(-1.818, 1.818)
        0.0
        """
        left, right, counts = self.bounds()
        if counts.size == 0:
            return float("nan")
        cut = np.zeros(counts.size, dtype=bool)
        for limit in (low, high):
            # values may sit on a bin's own bound (rounded data do), so a limit on a bound cuts both
            # neighbours
            cut |= (left <= limit) & (limit <= right) & (left < right)
        return float(counts[cut].sum() / counts.sum())

    def mean(self) -> float:
        """Mean of the finite values, each known to half a bin: the error is at most mean |x| / 128.

        Examples
        --------
        >>> round(dd.Histogram.from_values([1.0, 2.0, 3.0]).mean(), 1)
        2.0
        """
        return self._moments.mean

    def std(self) -> float:
        """Return the standard deviation (divisor n) of the finite values.

        For a density that is smooth over a bin the relative error is about 3e-5; it is exact (up to sampling)
        for one that is flat over a bin, and never above rms(x) / 128. Values in one bin are taken to be equal: 0.

        Examples
        --------
        >>> round(dd.Histogram.from_values([1.0, 2.0, 3.0]).std(), 1)
        0.8
        """
        return float(np.sqrt(self._moments.variance)) if self._moments.bins != 1 else 0.0

    def excess_kurtosis(self) -> float:
        """Fourth central moment over the squared variance, minus 3 (no bias correction).

        0 for a normal, -1.2 for a uniform density. The error is about 1e-3 of the kurtosis (fourth moment
        over squared variance) or less where bins are narrow beside the spread, and at most a tenth of it. NaN
        where bins do not resolve the shape (`resolves_shape`), so where all values are equal. A few outliers decide
        it: look at the curve too.

        Examples
        --------
        >>> round(dd.Histogram.from_values([-1.0, 1.0]).excess_kurtosis(), 1)
        -2.0
        """
        found = self._moments
        return found.fourth / found.variance**2 - 3.0 if self.resolves_shape() else float("nan")

    def resolves_shape(self) -> bool:
        """Whether bins are narrow beside the spread of the finite values, so that these have a shape at all.

        Not for values that are all equal, nor for those that differ by a few bins, whose standard deviation is below
        a fiftieth of their size or so (1 ± 0.01, as gains of normalisation layers after some steps): what is spread
        evenly over bins then says more of the bins than of the values.

        Examples
        --------
        >>> dd.Histogram.from_values(np.linspace(-1, 1, 100)).resolves_shape()
        True
        """
        found = self._moments
        return bool(found.within <= RESOLVED * found.variance and found.variance > 0.0)

    @cached_property  # what mean, sd and kurtosis each rest on
    def _moments(self) -> Moments:
        """Moments of the finite values, spread evenly over each bin."""
        low, high, counts = self.bounds()
        if counts.size == 0:
            return Moments(0, *(float("nan"),) * 4)
        p = counts / counts.sum()
        centre, width2 = 0.5 * (low + high), (high - low) ** 2
        mean = float(p @ centre)
        d2 = (centre - mean) ** 2
        within = float(p @ width2) / 12.0
        fourth = float(p @ (d2**2 + d2 * width2 / 2.0 + width2**2 / 80.0))
        return Moments(counts.size, mean, float(p @ d2) + within, fourth, within)

    def remember(self, moments: Moments) -> None:
        """Take moments that were computed of many histograms at once; see `dropdiag.histograms.many.Many`."""
        self.__dict__["_moments"] = moments  # where the cached property keeps them

    def by_itself(self) -> Histogram:
        """Return the same histogram in memory of its own: one of many that were read together keeps that of all."""
        found = self.of_checked(self.bins.copy(), self.counts.copy())
        found.remember(self._moments)
        return found

    def kde(
        self,
        bandwidth: str | float = "isj",
        *,
        points: int = 512,
        support: Sequence[float | None] = (None, None),
        x: ArrayLike | None = None,
        independent: float = 1.0,
    ) -> KDE:
        """Kernel density estimate of the finite values (see `dropdiag.histograms.kde.estimate`).

        Parameters
        ----------
        bandwidth : {"isj", "silverman", "scott"} or float
            Rule, or the Gaussian's standard deviation in the values' unit.
        points : int
            Length of the curve.
        support : (float or None, float or None)
            Hard bounds of the quantity, such as ``(-1, 1)`` for a correlation; the density is reflected
            there.
        x : array_like of float, optional
            Where to evaluate the curve, in place of ``points`` steps over all values but a few far out: equal ones,
            unless a peak would lie between two of them.
        independent : float
            How many independent values stand behind each value, at most 1.

        Returns
        -------
        KDE

        Examples
        --------
        >>> curve = dd.Histogram.from_values(np.linspace(-1, 1, 1_000)).kde(bandwidth=0.1)
        >>> curve.x.shape, curve.density.shape
        ((512,), (512,))
        """
        from dropdiag.histograms.kde import estimate  # noqa: PLC0415  (reading runs should not pay for scipy.fft)

        low, high, counts = self.bounds()
        return estimate(
            low, high, counts, bandwidth=bandwidth, points=points, support=support, x=x, independent=independent
        )

    def peak_density(self, bandwidth: str | float = "isj") -> float:
        """Return the greatest density of the finite values, per unit of value.

        NaN where there is none, or where all of them lie in one bin: of equal values it would be the bandwidth's.

        Examples
        --------
        >>> dd.Histogram.from_values(np.linspace(-1, 1, 1_000)).peak_density(bandwidth=0.05) > 0.4
        True
        """
        return self.kde(bandwidth, x=()).peak if self._moments.bins > 1 else float("nan")  # no curve is asked for


class Moments(NamedTuple):
    """Number of occupied bins, mean, variance, fourth central moment, and the part of the variance within bins."""

    bins: int
    mean: float
    variance: float
    fourth: float
    within: float


def _checked(bins: Any, counts: Any) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Bins and counts as read-only arrays of the right type, empty bins dropped."""
    number, count = np.asarray(bins), np.asarray(counts)
    if number.ndim != 1 or number.shape != count.shape:
        raise ArgumentError(
            f"bins and counts must be two vectors of one length, got shapes {number.shape} and {count.shape}"
        )
    # compared, not subtracted: the difference of two unsigned numbers is never below 0
    if number.size and not (number[0] >= 0 and number[-1] < grid.BINS and (number[1:] > number[:-1]).all()):
        raise ArgumentError(f"bins must be strictly increasing numbers from 0 to {grid.BINS - 1}")
    if (least := count.min(initial=1)) < 0:
        raise ArgumentError(f"counts must not be negative, got {least}")
    keep = slice(None) if least > 0 else count > 0
    return number[keep].astype(np.uint16), count[keep].astype(np.int64)


def _quantile(probability: Floats, low: Floats, high: Floats, counts: NDArray[np.int64]) -> Floats:
    """Quantiles of values that are spread evenly over bins in order."""
    after = np.cumsum(counts)
    target = probability * after[-1]
    i = np.minimum(np.searchsorted(after, target, side="left"), counts.size - 1)
    within = (target - (after[i] - counts[i])) / counts[i]
    return np.asarray(low[i] + np.clip(within, 0.0, 1.0) * (high[i] - low[i]))


def _edges(edges: ArrayLike) -> Floats:
    """Edges of a grid, checked."""
    grid = np.asarray(edges, dtype=np.float64)
    if grid.ndim != 1 or grid.size < 2 or not np.isfinite(grid).all() or not (np.diff(grid) > 0).all():
        raise ArgumentError("edges must be at least two finite, strictly increasing numbers")
    return grid
