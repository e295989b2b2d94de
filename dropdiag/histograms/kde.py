"""Kernel density estimates from a histogram: pure functions of (low, high, counts).

The mass of each bin is spread evenly over a fine linear grid and smoothed with a Gaussian by a discrete
cosine transform, which reflects at both ends of the grid: at a hard bound of the quantity that is what is
wanted, elsewhere the grid ends too far out to matter. Bandwidths come from the true number of values, not
from the number of bins. About 2 to 5 ms a curve, whatever the number of values; 3 MB of temporary arrays.

A handful of values very far out would stretch the grid until the bulk falls into one cell of it, and decide
the standard deviation in the rules of thumb. They are therefore set aside (see `bulk`): the bandwidth and the
grid come from the rest, and their share is missing below the curve, told as ``outside``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from dropdiag.errors import ArgumentError
from dropdiag.histograms.bandwidth import improved_sheather_jones
from dropdiag.histograms.extent import bulk
from dropdiag.histograms.grid import cumulative
from dropdiag.histograms.points import points_between

Floats = NDArray[np.float64]
RULES: Final = ("isj", "silverman", "scott")

PAD: Final = 6.0  # bandwidths between the outermost value and the end of the grid
FINEST: Final = 12  # log2 of the smallest grid
LARGEST: Final = 16  # log2 of the largest grid
WIDEST: Final = 1e100  # values are float32, so that no wider one has a meaning; the square of this one is a float64
NOTHING: Final = 80.0  # exp(-80) is 1e-35
CELLS_PER_BANDWIDTH: Final = 48.0  # of Silverman's, so that one 48 times narrower is still resolved


@dataclass(frozen=True, eq=False)
class KDE:
    """A density curve and how it was made.

    Attributes
    ----------
    x : ndarray of float64, shape (points,)
        In the values' unit: equally spaced, or where heavy tails would hide the peak between two equal steps, denser
        where the values are and where the curve bends (`dropdiag.histograms.points`).
    density : ndarray of float64, shape (points,)
        Share of the values per unit of x; over the whole line it integrates to ``1 - point_mass - outside``.
    bandwidth : float
        Standard deviation of the Gaussian, in the values' unit; NaN if there is no curve to smooth.
    point_mass : float
        Share of exact zeros, which are not smoothed: a spike at 0 with this mass, to be drawn or told apart.
    n : int
        Number of finite values.
    rule : str
        What gave the bandwidth: ``"isj"``, ``"silverman"``, ``"scott"`` or ``"given"``.
    fallback : bool
        True if ``"isj"`` was asked for and had no fixed point, so that Silverman's rule stands in.
    floored : bool
        True if the bandwidth was raised to what the bins (or the grid) can resolve.
    outside : float
        Share of the values that are set aside because they lie far out, and beyond x.
    peak : float
        The greatest density of the curve, at x or between. 0 where there are only exact zeros.
    """

    x: Floats
    density: Floats
    bandwidth: float
    point_mass: float
    n: int
    rule: str
    fallback: bool = False
    floored: bool = False
    outside: float = 0.0
    peak: float = 0.0
    _curve: _Curve | None = field(default=None, repr=False)
    _share: float = 1.0

    def at(self, x: ArrayLike) -> KDE:
        """Return the same estimate at other points; beyond those of `estimate` and far-out values it is 0."""
        where = np.asarray(x, dtype=np.float64)
        density = np.zeros(where.shape) if self._curve is None else self._share * self._curve(where)
        return replace(self, x=where, density=density)

    def curve(self) -> tuple[Floats, Floats]:
        """Return the estimate as it was made: all points on the grid, and the density there."""
        if self._curve is None:
            return self.x, self.density
        return self._curve.centres(), self._share * self._curve.density


def estimate(
    low: Floats,
    high: Floats,
    counts: NDArray[np.int64],
    *,
    bandwidth: str | float = "isj",
    points: int = 512,
    support: Sequence[float | None] = (None, None),
    x: ArrayLike | None = None,
    independent: float = 1.0,
) -> KDE:
    """Kernel density estimate of binned values.

    Parameters
    ----------
    low, high : ndarray of float64, shape (m,)
        Bounds of the bins, in order; ``low == high == 0`` for the exact zeros.
    counts : ndarray of int64, shape (m,)
        Values in each bin; their sum is the N of the bandwidth rules.
    bandwidth : {"isj", "silverman", "scott"} or float
        Improved Sheather-Jones (Botev, Grotowski & Kroese 2010) follows several modes and sharp edges;
        Silverman's and Scott's rules (`scipy.stats.gaussian_kde`'s factors times the standard deviation)
        assume one normal mode and smooth two modes together. Or the Gaussian's standard deviation.
    points : int
        Length of the curve.
    support : (float or None, float or None)
        Hard bounds, at which the density is reflected; None is an open end. Bins that reach over a bound
        are cut there.
    x : array_like of float, optional
        Where to evaluate the curve, in place of ``points`` steps over all values but those far out, equal ones
        where these follow the curve.
    independent : float
        How many independent values stand behind each value, at most 1: with fewer than there are values, the rules take
        that part of them for their N. Behind m (m - 1) / 2 pairs of nodes stand about m.

    Returns
    -------
    KDE

    Raises
    ------
    ArgumentError
        If there is no value, a value lies outside the support, or an argument makes no sense.

    Notes
    -----
    The bandwidth is at least half the width of the bins that hold the bulk of the values (the 0.9 quantile of
    the width over the values): below that the bins' own stairs would show. ``floored`` says when that was
    done. All rules take the values as independent, but for ``independent``; net values of one layer are not:
    ``isj`` may then show ripples that another seed would not have.

    One bandwidth serves the whole curve. A peak that is narrower than it, as beside a wide part whose bins are wide or
    in a density over many octaves (lognormal with sigma 3), is drawn with the right area but as wide as the bandwidth,
    and so too low: ``floored`` is True there.

    Values very far out (see `bulk`; none in a normal, a Laplace or a bounded sample of any size) take no part
    in the bandwidth. Those that lie within ``x`` are drawn all the same, on a grid that is then as coarse as
    they are far (``floored`` says when it is too coarse for the bandwidth); those beyond it, or beyond the
    bulk without ``x``, are in ``outside``.
    """
    lower, upper = _support(support)
    _check(counts, bandwidth, points, independent)
    total = int(counts.sum())
    point = (low == high) & (low == 0.0)
    zeros = int(counts[point].sum())
    if zeros == total:
        at = np.linspace(max(lower, -1.0), min(upper, 1.0), points) if x is None else np.asarray(x, np.float64)
        rule = bandwidth if isinstance(bandwidth, str) else "given"
        return KDE(at, np.zeros(at.shape), float("nan"), 1.0, total, rule)
    left, right = _clipped(low[~point], high[~point], lower, upper)
    curve = _curve(left, right, counts[~point], bandwidth, (lower, upper), window=_window(x), independent=independent)
    at = curve.points(points) if x is None else np.asarray(x, dtype=np.float64)
    outside = (total - zeros - curve.n) / total
    share = curve.n / total
    return KDE(at, share * curve(at), curve.bandwidth, zeros / total, total, curve.rule, curve.fallback, curve.floored,
               outside, share * float(curve.density.max()), curve, share)  # fmt: skip


def silverman(sd: float, n: int) -> float:
    """Silverman's rule of thumb: ``sd * (3 n / 4) ** (-1/5)``, as `scipy.stats.gaussian_kde` has it."""
    return float(sd * (0.75 * n) ** -0.2)


def standard_deviation(low: Floats, high: Floats, counts: NDArray[np.int64]) -> float:
    """Sample standard deviation (divisor N - 1) of values spread evenly over their bins."""
    n = int(counts.sum())
    centre = 0.5 * (low + high)
    mean = counts @ centre / n
    squares = counts @ ((centre - mean) ** 2 + (high - low) ** 2 / 12.0)
    return float(np.sqrt(squares / max(n - 1, 1)))


def resolution(low: Floats, high: Floats, counts: NDArray[np.int64]) -> float:
    """Return the least useful bandwidth: half the 0.9 quantile, over the values, of their bin's width."""
    width = high - low
    order = np.argsort(width)
    after = np.cumsum(counts[order])
    return 0.5 * float(width[order][np.searchsorted(after, 0.9 * after[-1])])


def spread(low: Floats, high: Floats, counts: NDArray[np.int64], edges: Floats) -> Floats:
    """Share of the values in each cell of a grid that covers them, each bin spread evenly.

    Parameters
    ----------
    low, high, counts : ndarray, shape (m,)
        Bins in order, not overlapping; one of no width is a point mass.
    edges : ndarray of float64, shape (k + 1,)
        Equally spaced.

    Returns
    -------
    ndarray of float64, shape (k,)
        Sums to 1.
    """
    wide = high > low
    cells = np.diff(cumulative(low[wide], high[wide], counts[wide], edges))
    place = ((low[~wide] - edges[0]) / (edges[1] - edges[0])).astype(np.int64)
    np.add.at(cells, np.clip(place, 0, cells.size - 1), counts[~wide])
    return np.asarray(cells / counts.sum())


@dataclass(frozen=True, eq=False)
class _Curve:
    """Density of the continuous part on the fine grid (cell centres), and the range of its n values."""

    start: float
    stop: float
    density: Floats
    bandwidth: float
    rule: str
    fallback: bool
    floored: bool
    n: int
    first: float
    last: float

    def __call__(self, x: Floats) -> Floats:
        """Density at x, 0 off the grid."""
        inside = (x >= self.start) & (x <= self.stop)
        return np.where(inside, np.interp(x, self.centres(), self.density), 0.0)

    def centres(self) -> Floats:
        """Where the density is known."""
        step = (self.stop - self.start) / self.density.size
        return np.asarray(self.start + (np.arange(self.density.size) + 0.5) * step)

    def points(self, count: int) -> Floats:
        """Points over the values and four bandwidths more."""
        margin = 4.0 * self.bandwidth
        low, high = max(self.start, self.first - margin), min(self.stop, self.last + margin)
        return points_between(low, high, count, [(self.centres(), self.density)])


def _curve(
    low: Floats,
    high: Floats,
    counts: NDArray[np.int64],
    bandwidth: str | float,
    support: tuple[float, float],
    *,
    window: tuple[float, float],
    independent: float,
) -> _Curve:
    limits = bulk(low, high, counts)
    guess, floor = _guess(*_between(low, high, counts, limits), bandwidth, independent)
    margin = PAD * max(guess, floor)
    seen = (min(limits[0], window[0] - margin), max(limits[1], window[1] + margin))
    low, high, counts = _between(low, high, counts, seen)
    n, first, last = int(counts.sum()), float(low[0]), float(high[-1])
    start, stop = max(support[0], first - margin), min(support[1], last + margin)
    cells = _cells((stop - start) / max(guess, floor))
    mass = spread(low, high, counts, np.linspace(start, stop, cells + 1))
    wave = scipy.fft.dct(mass, type=2)
    least = max(floor, (stop - start) / cells)
    effective = _effective(n, independent)
    found, rule, fallback = _bandwidth(bandwidth, wave, effective, stop - start, guess=guess, least=least)
    h = max(found, least)
    density = _smoothed(wave, h, stop - start)
    return _Curve(start, stop, density, h, rule, fallback, bool(h > found), n, first, last)


def _effective(n: int, independent: float) -> int:
    """Independent values behind n values."""
    return max(round(independent * n), min(n, 2))


def _guess(
    low: Floats, high: Floats, counts: NDArray[np.int64], bandwidth: str | float, independent: float
) -> tuple[float, float]:
    """Silverman's bandwidth (or the one given) and the least useful one."""
    sd = standard_deviation(low, high, counts)
    floor = resolution(low, high, counts)
    # a single point mass on a bound has neither spread nor bin width: any positive width will do
    floor = max(floor, 1e-3 * max(abs(float(high[-1])), abs(float(low[0])))) if sd == 0.0 else floor
    n = _effective(int(counts.sum()), independent)
    return (float(bandwidth) if not isinstance(bandwidth, str) else silverman(sd, n)), floor


def _between(
    low: Floats, high: Floats, counts: NDArray[np.int64], limits: tuple[float, float]
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Bins whose centre lies within the limits."""
    centre = 0.5 * (low + high)
    keep = (centre >= limits[0]) & (centre <= limits[1])
    return low[keep], high[keep], counts[keep]


def _window(x: ArrayLike | None) -> tuple[float, float]:
    """Range of x; none where nothing was asked for."""
    return (float(np.min(x)), float(np.max(x))) if x is not None and np.size(x) else (np.inf, -np.inf)


def _bandwidth(
    bandwidth: str | float, wave: Floats, n: int, width: float, *, guess: float, least: float
) -> tuple[float, str, bool]:
    """Bandwidth before the floor, the rule that gave it, and whether that rule is a stand-in."""
    if not isinstance(bandwidth, str):
        return float(bandwidth), "given", False
    if bandwidth == "scott":
        return guess * 0.75**0.2, "scott", False  # sd * n ** (-1/5), as `scipy.stats.gaussian_kde` has it
    if bandwidth == "silverman":
        return guess, "silverman", False
    h = improved_sheather_jones(wave, n, width, smallest=0.25 * least, largest=2.0 * max(guess, least))
    return (guess, "silverman", True) if h is None else (h, "isj", False)


def _smoothed(wave: Floats, h: float, width: float) -> Floats:
    """Density at the cells' centres: the cosine series damped by the Gaussian's transform."""
    # in units of the grid's width, whose square may be beyond float64; a cell has already smoothed by its own width
    variance = max((h / width) ** 2 - 1.0 / (12.0 * wave.size**2), 0.0)
    exponent = 0.5 * variance * (np.pi * np.arange(wave.size)) ** 2
    used = int(np.searchsorted(exponent, NOTHING))  # beyond, nothing is left that float64 could add
    damped = np.zeros(wave.size)
    damped[:used] = wave[:used] * np.exp(-exponent[:used])
    return np.asarray(np.clip(scipy.fft.idct(damped, type=2), 0.0, None) / (width / wave.size))


def _cells(bandwidths: float) -> int:
    """Cells of the fine grid, a power of two."""
    wanted = int(np.ceil(np.log2(max(CELLS_PER_BANDWIDTH * bandwidths, 1.0))))
    return 1 << min(max(wanted, FINEST), LARGEST)


def _clipped(low: Floats, high: Floats, lower: float, upper: float) -> tuple[Floats, Floats]:
    """Bins cut at the support."""
    if float(high[0]) < lower or float(low[-1]) > upper:
        raise ArgumentError(
            f"values from about {low[0]:.6g} to {high[-1]:.6g} reach outside [{lower:g}, {upper:g}]; "
            "widen the support or leave it open with None"
        )
    return np.clip(low, lower, upper), np.clip(high, lower, upper)


def _support(support: Sequence[float | None]) -> tuple[float, float]:
    """Both bounds as numbers, infinite where open."""
    if len(support) != 2:
        raise ArgumentError(f"support must be a pair (low, high), None for an open end, got {support!r}")
    lower = -np.inf if support[0] is None else float(support[0])
    upper = np.inf if support[1] is None else float(support[1])
    if not lower < upper:
        raise ArgumentError(f"support must be a pair with low < high, got {support!r}")
    return float(lower), float(upper)


def _check(counts: NDArray[Any], bandwidth: str | float, points: int, independent: float) -> None:
    if counts.size == 0:
        raise ArgumentError("no density can be estimated: the histogram holds no finite value")
    if isinstance(bandwidth, str):
        if bandwidth not in RULES:
            raise ArgumentError(f"bandwidth must be one of {', '.join(RULES)} or a number, got {bandwidth!r}")
    elif not 0.0 < bandwidth <= WIDEST:
        raise ArgumentError(f"a bandwidth must be a finite positive number, got {bandwidth!r}; at most {WIDEST:g}")
    if not 0.0 < independent <= 1.0:
        raise ArgumentError(f"independent must be more than 0 and at most 1, got {independent!r}")
    if points < 2:
        raise ArgumentError(f"a curve needs at least 2 points, got {points}")
