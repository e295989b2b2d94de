"""The one bin grid, cut from the bits of a float32 and fixed for all time.

A value belongs to bin ``bits >> 17``, where ``bits`` is its IEEE-754 pattern as an unsigned 32-bit number. The sign,
the 8 exponent bits and the first 6 bits of the fraction remain: 64 bins of equal width an octave and sign, hence a
relative width between 1/64 and 1/128, 32,768 bins in all. The grid never changes, so the sum of two histograms is the
histogram of the union.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

SHIFT: Final = 17
BINS: Final = 1 << (32 - SHIFT)
"""Number of bins (32,768)."""

ZERO: Final = 0x0000
"""Bin of +0 and of positive values below 2**-132 (the smallest denormals)."""
NEGATIVE_ZERO: Final = 0x4000
"""Bin of -0 and of negative values above -2**-132."""
POSITIVE_INFINITY: Final = 0x3FC0
"""Bin of +Inf; the bins above it, up to ``NEGATIVE_ZERO``, are those of NaN."""
NEGATIVE_INFINITY: Final = 0x7FC0
"""Bin of -Inf; the bins above it are those of NaN."""


@cache
def bin_magnitude_edges() -> NDArray[np.float64]:
    """Edges of the positive finite bins, ascending.

    Returns
    -------
    ndarray of float64, shape (POSITIVE_INFINITY + 1,)
        Edge ``k`` is the least float32 in bin ``k``; the last edge is 2**128, the first value past float32.
    """
    edges = (np.arange(POSITIVE_INFINITY, dtype=np.uint32) << SHIFT).view(np.float32).astype(np.float64)
    edges = np.append(edges, 2.0**128)
    edges.flags.writeable = False
    return edges


def bin_numbers(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Bin of each value, by numpy.

    Parameters
    ----------
    values : ndarray of floats, any shape
        Rounded to float32 first; beyond its range they become infinite, or zero.

    Returns
    -------
    ndarray of uint16, same shape
    """
    with np.errstate(over="ignore", under="ignore"):  # rounding is what is wanted
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return (bits >> SHIFT).astype(np.uint16)


def is_finite_bin(bins: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Whether a bin holds finite values (neither ±Inf nor NaN)."""
    return (bins & np.uint16(0x3FFF)) < POSITIVE_INFINITY


def bin_bounds(bins: NDArray[np.uint16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bound of finite bins on the real line.

    Parameters
    ----------
    bins : ndarray of uint16, shape (m,)
        Finite bins alone.

    Returns
    -------
    low, high : ndarray of float64, shape (m,)
        A positive bin is [low, high), a negative one (low, high].
    """
    edges = bin_magnitude_edges()
    magnitude = (bins & np.uint16(0x3FFF)).astype(np.int64)
    inner, outer = edges[magnitude], edges[magnitude + 1]
    negative = bins >= NEGATIVE_ZERO
    return np.where(negative, -outer, inner), np.where(negative, -inner, outer)


@cache
def all_bounds() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bound of each bin by its number: of the two bins of zero 0 and 0, of NaN and infinities NaN.

    Returns
    -------
    low, high : ndarray of float64, shape (BINS,)
    """
    low, high = np.full(BINS, np.nan), np.full(BINS, np.nan)
    bins = line_bins()
    low[bins], high[bins] = bin_bounds(bins)
    zeros = [ZERO, NEGATIVE_ZERO]
    low[zeros] = high[zeros] = 0.0
    low.flags.writeable = high.flags.writeable = False
    return low, high


def line_bins() -> NDArray[np.uint16]:
    """All finite bins in order of the real line.

    Returns
    -------
    ndarray of uint16, shape (32640,)
        From the most negative bin over the two bins of zero to the most positive bin.
    """
    magnitudes = np.arange(POSITIVE_INFINITY, dtype=np.uint16)
    return np.concatenate([magnitudes[::-1] | np.uint16(NEGATIVE_ZERO), magnitudes])


@cache
def line_places() -> NDArray[np.int64]:
    """Place of each finite bin in `line_bins`, by its number; -1 of NaN and infinities."""
    places = np.full(BINS, -1)
    bins = line_bins()
    places[bins] = np.arange(bins.size)
    places.flags.writeable = False
    return places


def line_centres() -> NDArray[np.float64]:
    """Centres of all finite bins, in the order of `line_bins`.

    Returns
    -------
    ndarray of float64, shape (32640,)
    """
    low, high = bin_bounds(line_bins())
    return (low + high) / 2


def cumulative(
    low: NDArray[np.float64], high: NDArray[np.float64], counts: NDArray[np.int64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the number of values below each x, for bins in order, each spread evenly."""
    if counts.size == 0:
        return np.zeros(x.shape)
    after = np.cumsum(counts, dtype=np.float64)
    knots = np.column_stack([low, high]).ravel()
    levels = np.column_stack([after - counts, after]).ravel()
    return np.asarray(np.interp(x, knots, levels))
