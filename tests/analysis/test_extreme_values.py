"""Everything that is computed from histograms, on values at the ends of float32: no warning, and finite or missing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from dropdiag.analysis import correlation, kde, saturation
from dropdiag.analysis.compare.distances import PooledCounts
from dropdiag.analysis.compare.resampling import Design
from dropdiag.analysis.compare.weight_shapes import shape_numbers
from dropdiag.histograms.grid import line_bins
from dropdiag.histograms.histogram import Histogram
from dropdiag.histograms.points import points_between
from dropdiag.model.activations import describe

MOST = float(np.finfo(np.float32).max)
RNG = np.random.default_rng(0)
VALUES = {
    "the largest": [MOST, -MOST],
    "the largest, equal": [MOST] * 5,
    "evenly over nearly all": np.linspace(-1e38, 1e38, 500),
    "subnormal": np.linspace(-1e-40, 1e-40, 301),
    "the smallest": [1e-45, 2e-45, -1e-45],
    "all sizes": np.r_[RNG.normal(size=1000), 1e38, -1e38, 1e-45, 0.0],
    "infinite and missing": [np.inf, 1.0, -np.inf, np.nan, 2.0],
    "nothing finite": [np.inf, np.nan],
    "zeros": [0.0] * 4,
    "zeros and the largest": [0.0, 0.0, MOST],
    "normal, large": RNG.normal(size=3000) * 1e37,
    "normal, subnormal": RNG.normal(size=3000) * 1e-39,
    "an outlier": np.r_[RNG.normal(size=3000), 1e30],
    "three": [1e38, -1e-38, 3.0],
}
ACTIVATIONS = [torch.nn.Tanh(), torch.nn.ReLU(), torch.nn.GELU(), torch.nn.SiLU(), torch.nn.ELU(), torch.nn.Softplus()]


@pytest.fixture(autouse=True)
def everything_raises():
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("name", VALUES)
def test_histograms(name):
    h = Histogram.from_values(VALUES[name])
    numbers = [h.mean(), h.std(), h.excess_kurtosis(), h.share(-1, 1), h.share(-np.inf, np.inf), *h.extent()]
    numbers += [h.share_error(-np.inf, MOST), *h.quantile([0, 0.001, 0.5, 0.999, 1])]
    assert not np.isinf(numbers).any()
    assert np.isnan(h.mean()) == (h.n_finite == 0)
    if h.n_finite:
        assert h.density([-(2.0**128), 0.0, 2.0**128]).sum() * 2.0**128 == pytest.approx(1.0)
        assert abs(h.mean()) <= max(abs(h.quantile(0.0)), abs(h.quantile(1.0)))


@pytest.mark.parametrize("rule", ["isj", "silverman", "scott", 1e-300, 1e-3, 1e100])
@pytest.mark.parametrize("name", [name for name in VALUES if name != "nothing finite"])
def test_densities(name, rule):
    h = Histogram.from_values(VALUES[name])
    for given in ({}, {"x": np.linspace(-5, 5, 100)}, {"x": np.linspace(-3e38, 3e38, 100)}, {"support": (-1e39, 1e39)}):
        made = h.kde(rule, **given)
        assert np.isfinite(made.density).all()
        assert (made.density >= 0).all()
    ends = kde.common_limits([h])
    made = h.kde(rule, x=ends)
    assert np.isfinite(made.at(points_between(*ends, 100, [made.curve()])).density).all()


@pytest.mark.parametrize("name", VALUES)
def test_shapes_and_distances(name):
    h, other = Histogram.from_values(VALUES[name]), Histogram.from_values([1.0, 2.0, 3.0, 5.0])
    assert not np.isinf(shape_numbers([h, other])).any()
    assert not np.isinf(correlation.mean_abs(*h.bounds()))
    if h.n_finite:
        pooled, design = PooledCounts([h, h, other, other]), Design(2, 2, paired=False)
        apart = pooled.wasserstein(design.observed(pooled.counts))
        assert np.isfinite(apart).all()
        for sums in design.relabelled(pooled.counts, 0):
            assert np.isfinite(pooled.wasserstein(sums)).all()


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("name", [name for name in VALUES if name != "nothing finite"])
def test_saturation_shares(name, activation):
    known, h = describe(activation), Histogram.from_values(VALUES[name])
    values = np.asarray(VALUES[name], float)
    values = values[np.isfinite(values)]
    for eps in (0.1, 1e-30, 0.999):
        found = saturation._shares(h, line_bins(), known.derivative, eps * known.sup)
        assert found["share"] == pytest.approx(found["left"] + found["right"])
        if eps == 0.1:
            x = torch.from_numpy(np.where(np.abs(values) < 2.0**-132, 0.0, values)).requires_grad_()
            activation(x).sum().backward()
            exact = (x.grad.abs() <= eps * known.sup).double().mean().item()
            assert found["share"] == pytest.approx(exact, abs=found["error"] + 1e-9)
