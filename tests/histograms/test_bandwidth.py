"""The Improved Sheather-Jones bandwidth against a slow version in real space: pairs of raw values, no transform."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.polynomial import hermite_e
from scipy.optimize import brentq

from dropdiag.histograms.histogram import Histogram


def squared_norm(x: np.ndarray, s: int, t: float) -> float:
    """Squared norm of the s-th derivative of the values' density smoothed by a Gaussian of variance t.

    The product of two such Gaussians integrates to a Gaussian of variance 2t of their distance: summed over all
    pairs, (-1)^s times its derivative of order 2s.
    """
    sd = math.sqrt(2.0 * t)
    u = np.subtract.outer(x, x) / sd
    order = 2 * s
    derivative = hermite_e.hermeval(u, [0.0] * order + [1.0]) * np.exp(-0.5 * u**2) / math.sqrt(2.0 * math.pi)
    return float((-1) ** s * derivative.mean() / sd ** (order + 1))


def excess(t: float, x: np.ndarray, stages: int = 7) -> float:
    """Equation 29 and the fixed point of Botev, Grotowski and Kroese (2010), as the paper writes them."""
    n, at = x.size, t
    for s in range(stages - 1, 1, -1):
        odd = math.prod(range(1, 2 * s, 2))
        norm = squared_norm(x, s + 1, at)
        at = ((1 + 0.5 ** (s + 0.5)) / 3 * odd / (n * math.sqrt(math.pi / 2) * norm)) ** (2 / (3 + 2 * s))
    return t - (2 * n * math.sqrt(math.pi) * squared_norm(x, 2, at)) ** -0.4


def slow_bandwidth(x: np.ndarray) -> float:
    sd = x.std()
    return math.sqrt(brentq(excess, (sd * 0.01) ** 2, sd**2, args=(x,), xtol=1e-12))


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda rng: rng.normal(size=400), id="normal"),
        pytest.param(lambda rng: rng.normal(size=400) * 0.5 + 2.0 * rng.choice([-1.0, 1.0], size=400), id="two modes"),
        pytest.param(lambda rng: np.concatenate([rng.normal(size=300), rng.normal(3.0, 0.2, size=100)]), id="unequal"),
        pytest.param(lambda rng: rng.logistic(size=400) * 40.0, id="heavy tails, another unit"),
    ],
)
def test_isj_equals_the_slow_version_in_real_space(draw):
    values = draw(np.random.default_rng(5))
    # Bins are 1/64 to 1/128 of a value wide and cells finer than a tenth of the bandwidth: together below 1 %.
    assert Histogram.from_values(values).kde("isj").bandwidth == pytest.approx(slow_bandwidth(values), rel=0.01)
