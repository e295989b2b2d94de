"""GAAF's functions in numpy, for Figure 6 (the trainable ones are in `dropdiag.gaaf`).

phi_new(x) = phi(x) + g(x) s(x) with g(x) = (xK - floor(xK) - 0.5) / K (Hahn & Choi, arXiv:1806.09783): the
value changes by at most 0.5/K, the derivative grows by s(x) almost everywhere.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dropdiag.errors import ArgumentError

Floats = NDArray[np.float64]
ACTIVATIONS: Final = ("tanh", "relu")


def g(x: ArrayLike, k: float = 10_000.0) -> Floats:
    """Gradient acceleration function: a saw-tooth with abs(g) <= 0.5 / k and slope 1 almost everywhere.

    Parameters
    ----------
    x : array_like of float
    k : float
        Teeth per unit of x, positive.

    Returns
    -------
    ndarray of float64, same shape

    Examples
    --------
    >>> dd.analysis.gaaf.g([0.0, 0.5e-4], k=10_000).round(6)
    array([-5.e-05,  0.e+00])
    """
    if not k > 0.0:
        raise ArgumentError(f"k must be positive, got {k}")
    scaled = np.asarray(x, dtype=np.float64) * k
    return np.asarray((scaled - np.floor(scaled) - 0.5) / k)


def shape(x: ArrayLike, activation: str) -> Floats:
    """Shape function s as drawn in Figure 6.

    Parameters
    ----------
    x : array_like of float
    activation : {"tanh", "relu"}
        ``exp(-x^2 / 3)`` for tanh, ``sigmoid(6 (x + 0.5))`` for ReLU.

    Returns
    -------
    ndarray of float64, same shape
        In (0, 1]. The formulas were read off the paper's figure.

    Examples
    --------
    >>> dd.analysis.gaaf.shape([0.0, 2.0], "tanh").round(2)
    array([1.  , 0.26])
    """
    _check(activation)
    z = np.asarray(x, dtype=np.float64)
    if activation == "tanh":
        return np.asarray(np.exp(-(z**2) / 3.0))
    return np.asarray(0.5 * (1.0 + np.tanh(3.0 * (z + 0.5))))  # sigmoid(u) = (1 + tanh(u/2)) / 2, no overflow


def phi(x: ArrayLike, activation: str) -> Floats:
    """Activation function, ``"tanh"`` or ``"relu"``.

    Examples
    --------
    >>> dd.analysis.gaaf.phi([-1.0, 2.0], "relu")
    array([0., 2.])
    """
    _check(activation)
    z = np.asarray(x, dtype=np.float64)
    return np.tanh(z) if activation == "tanh" else np.maximum(z, 0.0)


def phi_derivative(x: ArrayLike, activation: str) -> Floats:
    """Return the derivative of the activation function (0 at 0 for ReLU).

    Examples
    --------
    >>> dd.analysis.gaaf.phi_derivative([0.0], "tanh")
    array([1.])
    """
    _check(activation)
    z = np.asarray(x, dtype=np.float64)
    return 1.0 - np.tanh(z) ** 2 if activation == "tanh" else np.where(z > 0.0, 1.0, 0.0)


def teeth(k: float = 10_000.0, periods: int = 4) -> pd.DataFrame:
    """Saw-tooth of g about 0, with a gap (NaN) at each jump.

    Returns
    -------
    DataFrame
        Columns x, g; three rows a tooth: foot, tip (the limit 0.5/k from the left), NaN.

    Examples
    --------
    >>> list(dd.analysis.gaaf.teeth().columns)
    ['x', 'g']
    """
    if periods < 1:
        raise ArgumentError(f"periods must be at least 1, got {periods}")
    start = np.arange(periods) - periods // 2
    # a line through NaN is broken: the jumps are not drawn as though g took the values between
    x = np.column_stack([start, start + 1, np.full(periods, np.nan)]) / k
    height = np.tile(np.array([-0.5, 0.5, np.nan]) / k, (periods, 1))
    return pd.DataFrame({"x": x.ravel(), "g": height.ravel()})


def shapes(activation: str, limits: tuple[float, float] = (-6.0, 6.0), points: int = 601) -> pd.DataFrame:
    """Activation, its derivative, the shape function and GAAF's derivative over x.

    Returns
    -------
    DataFrame
        Columns x, phi, derivative, shape, gaaf_derivative (``phi' + s``: g s' is below 0.5/k and left out).

    Examples
    --------
    >>> list(dd.analysis.gaaf.shapes("tanh", points=5).columns)
    ['x', 'phi', 'derivative', 'shape', 'gaaf_derivative']
    """
    x = np.linspace(*limits, points)
    slope, s = phi_derivative(x, activation), shape(x, activation)
    frame = pd.DataFrame({"x": x, "phi": phi(x, activation), "derivative": slope, "shape": s})
    return frame.assign(gaaf_derivative=slope + s)


def _check(activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise ArgumentError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
