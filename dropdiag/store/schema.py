"""The run folder's schema: one bin grid, the quantities and their units, the tables.

This module imports nothing but numpy, so that the torch side (which writes) and the paper side (which reads)
agree on it without importing each other.

The bin grid is cut from the bits of a float32: a value belongs to bin ``bits >> 17``, where ``bits`` is its
IEEE-754 pattern as an unsigned 32-bit number. The sign, the 8 exponent bits and the first 6 bits of the
fraction remain: 64 bins of equal width an octave and sign, hence a relative width between 1/64 and 1/128,
32,768 bins in all. The grid never changes, so the sum of two histograms is the histogram of the union.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

FORMAT: Final = "dropdiag-run"
SCHEMA_VERSION: Final = 1

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

SCALAR_COLUMNS: Final = ("step", "phase", "layer", "call", "quantity", "value")
HISTOGRAM_COLUMNS: Final = ("step", "phase", "layer", "call", "quantity", "n", "bins", "counts")

TRAIN: Final = "train"
EVAL: Final = "eval"


@dataclass(frozen=True)
class Quantity:
    """What a quantity is called, how it is stored, and its unit.

    Attributes
    ----------
    name : str
        Name in the ``quantity`` column.
    kind : str
        ``"scalar"`` or ``"histogram"``.
    unit : str
        Unit in words; ``"1"`` for a pure number.
    label : str
        Axis label (matplotlib mathtext).
    """

    name: str
    kind: str
    unit: str
    label: str


def _moments(of: str, unit: str, symbol: str) -> tuple[Quantity, ...]:
    return (
        Quantity(f"{of}_mean", "scalar", unit, f"mean of {symbol}"),
        Quantity(f"{of}_sd", "scalar", unit, f"standard deviation of {symbol}"),
        Quantity(f"{of}_excess_kurtosis", "scalar", "1", f"excess kurtosis of {symbol}"),
        Quantity(f"{of}_abs_mean", "scalar", unit, f"mean of |{symbol}|"),
        Quantity(f"{of}_minimum", "scalar", unit, f"minimum of {symbol}"),
        Quantity(f"{of}_maximum", "scalar", unit, f"maximum of {symbol}"),
    )


_PER_NET = "loss units per net-value unit"
_PER_WEIGHT = "loss units per weight unit"

QUANTITIES: Final = {
    q.name: q
    for q in (
        Quantity("weight", "histogram", "weight units", "weight $w$"),
        Quantity("weight_grad", "histogram", _PER_WEIGHT, r"weight gradient $\partial L/\partial w$"),
        Quantity("net_value", "histogram", "net-value units", "net value $z$"),
        Quantity("net_grad", "histogram", _PER_NET, r"net gradient $\partial L/\partial z$"),
        Quantity("node_value", "histogram", "node-value units", r"node value $h=\phi(z)$"),
        Quantity("node_correlation", "histogram", "1", "node correlation $r$"),
        Quantity("net_grad_abs_mean", "scalar", _PER_NET, r"gradient flow, mean $|\partial L/\partial z|$"),
        Quantity("weight_grad_abs_mean", "scalar", _PER_WEIGHT, r"mean $|\partial L/\partial w|$"),
        Quantity("raw_weight_grad_abs_mean", "scalar", _PER_WEIGHT, r"mean $|\partial L/\partial w|$ before clipping"),
        Quantity("node_correlation_abs_mean", "scalar", "1", "mean $|r|$"),
        Quantity("participation_ratio", "scalar", "nodes", "participation ratio"),
        Quantity("effective_rank", "scalar", "nodes", "effective rank"),
        Quantity("node_correlation_samples", "scalar", "samples", "samples"),
        Quantity("node_correlation_nodes", "scalar", "nodes", "nodes correlated"),
        Quantity("node_correlation_width", "scalar", "nodes", "nodes of the layer"),
        Quantity("constant_nodes", "scalar", "nodes", "constant nodes"),
        Quantity("saturation_share_left", "scalar", "1", "saturation share, left"),
        Quantity("saturation_share_right", "scalar", "1", "saturation share, right"),
        Quantity("net_variance", "histogram", "net-value units squared", "net variance"),
        Quantity("masked_net_mean", "histogram", "net-value units", "mean of $z$ over masks"),
        Quantity("wandering_net_value", "histogram", "net-value units", "net value $z$ under masks"),
        Quantity("net_variance_mean", "scalar", "net-value units squared", "mean net variance"),
        Quantity("net_variance_closed_form_mean", "scalar", "net-value units squared", "net variance, closed form"),
        Quantity("saturated_mean_share", "scalar", "1", "share of saturated mean net values"),
        Quantity("gradient_probability", "scalar", "1", "gradient probability"),
        Quantity("slope_over_masks", "scalar", "1", r"mean $|\phi'(z)|$ over masks"),
        Quantity("slope_at_mean", "scalar", "1", r"$|\phi'|$ at the mean of $z$"),
        Quantity("dropout_masks", "scalar", "masks", "dropout masks"),
        Quantity("dropout_rate", "scalar", "1", "dropout rate"),
        Quantity("gaaf_height", "scalar", "1", "height of GAAF's shape"),
        Quantity("gaaf_width", "scalar", "net-value units", "width of GAAF's shape"),
        Quantity("net_value_stride", "scalar", "1", "one in so many net values counted"),
        Quantity("node_value_stride", "scalar", "1", "one in so many node values counted"),
        Quantity("net_grad_stride", "scalar", "1", "one in so many gradients counted"),
        Quantity("step_skipped", "scalar", "1", "whether the loss scaler skipped the step"),
        Quantity("step_seconds", "scalar", "s", "time of a training step"),
        Quantity("evaluation_seconds", "scalar", "s", "time of an evaluation"),
        Quantity("recorder_seconds", "scalar", "s", "time in the recorder"),
        Quantity("schedule_thinned", "scalar", "1", "whether a scheduled step went without histograms"),
        Quantity("probes_rested", "scalar", "1", "whether a step was not recorded"),
        *_moments("weight", "weight units", "$w$"),
        *_moments("net_value", "net-value units", "$z$"),
    )
}
"""Quantities that dropdiag's own probes record; what ``step()`` is given is stored under its own name."""


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
        Rounded to float32 first; beyond its range they become infinite.

    Returns
    -------
    ndarray of uint16, same shape
    """
    with np.errstate(over="ignore"):
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


def line_bins() -> NDArray[np.uint16]:
    """All finite bins in order of the real line.

    Returns
    -------
    ndarray of uint16, shape (32640,)
        From the most negative bin over the two bins of zero to the most positive bin.
    """
    magnitudes = np.arange(POSITIVE_INFINITY, dtype=np.uint16)
    return np.concatenate([magnitudes[::-1] | np.uint16(NEGATIVE_ZERO), magnitudes])


def line_centres() -> NDArray[np.float64]:
    """Centres of all finite bins, in the order of `line_bins`.

    Returns
    -------
    ndarray of float64, shape (32640,)
    """
    low, high = bin_bounds(line_bins())
    return (low + high) / 2
