"""How normal are a layer's weights, and how alike are the layers? Numbers of one run's histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import ndtr

from dropdiag.analysis.compare.resampling import Floats
from dropdiag.histograms.histogram import Histogram

SHAPE_NUMBERS: Final = ("weight_excess_kurtosis", "weight_ks_normal", "weight_shape_distance")
LEVELS: Final = 512
"""Quantiles, at the middle of equal shares, by which two shapes are told apart."""


def shape_numbers(histograms: Sequence[Histogram]) -> Floats:
    """Numbers of the shape of each layer's weights.

    Parameters
    ----------
    histograms : sequence of Histogram
        One a layer, of one run.

    Returns
    -------
    ndarray of float64, shape (layers, 3)
        Columns as `SHAPE_NUMBERS`: `Histogram.excess_kurtosis`, `ks_normal`, `shape_distances`.
    """
    kurtosis = [histogram.excess_kurtosis() for histogram in histograms]
    return np.column_stack([kurtosis, [ks_normal(histogram) for histogram in histograms], shape_distances(histograms)])


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
    apart = np.array([np.abs(shapes - one).mean(axis=1) for one in shapes])
    np.fill_diagonal(apart, np.nan)
    # pandas leaves NaN out and gives NaN for a row of nothing else, without numpy's warning
    return pd.DataFrame(apart).mean(axis=1).to_numpy()
