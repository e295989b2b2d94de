"""How normal are a layer's weights, how alike are the layers, how far have they come? Of one run's histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from dropdiag.analysis.compare.distances import PooledCounts
from dropdiag.analysis.compare.resampling import Floats, Sums
from dropdiag.histograms.histogram import Histogram

SHAPE_NUMBERS: Final = (
    "weight_excess_kurtosis",
    "weight_ks_normal",
    "weight_shape_distance",
    "weight_scale_distance",
)
LEVELS: Final = 512
"""Quantiles, at the middle of equal shares, by which two shapes are told apart."""


def shape_numbers(histograms: Sequence[Histogram], among: ArrayLike | None = None) -> Floats:
    """Numbers of the shape of each layer's weights.

    Parameters
    ----------
    histograms : sequence of Histogram
        One a layer, of one run.
    among : array_like of bool, shape (layers,), optional
        Layers that distances are taken between; all by default. The others have none.

    Returns
    -------
    ndarray of float64, shape (layers, 4)
        Columns as `SHAPE_NUMBERS`: `Histogram.excess_kurtosis`, `ks_normal`, `shape_distances`, `scale_distances`.
    """
    kurtosis = [histogram.excess_kurtosis() for histogram in histograms]
    normal = [ks_normal(histogram) for histogram in histograms]
    apart = np.full((len(histograms), 2), np.nan)
    places = np.flatnonzero(np.ones(len(histograms), np.bool_) if among is None else np.asarray(among, np.bool_))
    between = [histograms[place] for place in places.tolist()]
    apart[places] = np.column_stack([shape_distances(between), scale_distances(between)])
    return np.column_stack([kurtosis, normal, apart])


def ks_normal(histogram: Histogram) -> float:
    """Kolmogorov-Smirnov distance to the normal distribution of the same mean and standard deviation.

    Parameters
    ----------
    histogram : Histogram

    Returns
    -------
    float
        The greatest |F - Phi|, in [0, 1], taken at the bins' edges: at most the share of the fullest bin below
        that of the raw values. NaN where bins do not resolve the shape (`Histogram.resolves_shape`): of values that are
        all equal, or none of them finite.

    Notes
    -----
    A distance, not a test: the mean and standard deviation are fitted, and a layer's weights are no sample.
    """
    if not histogram.resolves_shape():
        return float("nan")
    low, high, counts = histogram.bounds()
    after = np.cumsum(counts) / counts.sum()
    before = np.concatenate([[0.0], after[:-1]])
    mean, sd = histogram.mean(), histogram.std()
    # the empirical function is a step in each bin: the greatest distance is just before or just after one
    apart = [np.abs(ndtr((edge - mean) / sd) - level).max() for edge, level in ((low, before), (high, after))]
    return float(max(apart))


def standardised(histogram: Histogram) -> Floats:
    """Quantiles of (x - mean) / sd at `LEVELS` levels: the distribution's shape without its place and width.

    Returns
    -------
    ndarray of float64, shape (LEVELS,)
        NaN where bins do not resolve the shape (`Histogram.resolves_shape`).
    """
    if not histogram.resolves_shape():
        return np.full(LEVELS, np.nan)
    values = histogram.quantile((np.arange(LEVELS) + 0.5) / LEVELS)
    return np.asarray((values - histogram.mean()) / histogram.std())


def shape_distances(histograms: Sequence[Histogram]) -> Floats:
    """How far each layer's shape is from those of the others, on average.

    Parameters
    ----------
    histograms : sequence of Histogram
        One a layer, of one run.

    Returns
    -------
    ndarray of float64, shape (layers,)
        Mean over the other layers of W1 between standardised values, in standard deviations; 0 for layers that
        differ by place and width alone. NaN without another layer.
    """
    if not histograms:
        return np.empty(0)
    shapes = np.array([standardised(histogram) for histogram in histograms])
    # W1 of two distributions is the mean distance of their quantiles at the same levels
    return _over_others(np.array([np.abs(shapes - one).mean(axis=1) for one in shapes]))


def scale_distances(histograms: Sequence[Histogram]) -> Floats:
    """How far each layer's standard deviation is from those of the others, on average, as a logarithm.

    Parameters
    ----------
    histograms : sequence of Histogram
        One a layer, of one run.

    Returns
    -------
    ndarray of float64, shape (layers,)
        Mean over the other layers of |ln(sd / sd')|: exp of it is a factor, 0 is one width. NaN without another layer,
        and for values that do not vary.
    """
    if not histograms:
        return np.empty(0)
    sd = np.array([histogram.std() if histogram.bounds()[2].size > 1 else np.nan for histogram in histograms])
    logs = np.log(sd)
    return _over_others(np.abs(logs[:, None] - logs))


def distance_from_start(start: Histogram, now: Histogram) -> float:
    """How far the distribution of weights has moved from where training began, in standard deviations at that time.

    Parameters
    ----------
    start, now : Histogram
        Of one layer's weights: at step 0, and later.

    Returns
    -------
    float
        W1 between the two over the standard deviation at step 0, at least 0. NaN where either holds no finite value or
        the first ones do not vary (a bias that begins at 0).

    Notes
    -----
    A layer whose weights have only changed places shows 0: the distance of the distributions is the least that weights
    have moved on average, not how far each has.
    """
    if start.bounds()[2].size < 2 or not now.n_finite:
        return float("nan")
    counts = PooledCounts([start, now])
    return float(counts.wasserstein(Sums(counts.counts[:1], counts.counts[1:]))[0]) / start.std()


def _over_others(apart: Floats) -> Floats:
    """Mean of each row without its diagonal; NaN where nothing is left."""
    np.fill_diagonal(apart, np.nan)
    known = ~np.isnan(apart)
    count = known.sum(axis=1)
    return np.asarray(np.where(known, apart, 0.0).sum(axis=1) / np.where(count > 0, count, np.nan))
