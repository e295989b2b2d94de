"""Many histograms at once give what each gives alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dropdiag.errors import ArgumentError
from dropdiag.histograms.histogram import Histogram
from dropdiag.histograms.many import Many

anything = arrays(np.float32, st.integers(0, 300), elements=st.floats(width=32))
usual = arrays(
    np.float32, st.integers(0, 300), elements=st.sampled_from([0.0, -0.0, 1.0, -1.5, 1e-40, 3e38, np.nan, np.inf])
)
several = st.lists(st.one_of(anything, usual), max_size=5)
KINDS = [np.linspace(-2, 2, 9), np.array([0.0, 0.5, 1.0]), np.array([-1.0, -0.25, 0.0]), np.array([-1e300, 1.0, 1e300])]


@given(several, st.sampled_from(KINDS))
def test_numbers_are_those_of_each_alone(samples, edges):
    alone = [Histogram.from_values(values) for values in samples]
    many = Many(alone)
    assert many.n.tolist() == [one.n for one in alone]
    assert many.n_finite.tolist() == [one.n_finite for one in alone]
    found = many.densities(np.tile(edges, (len(alone), 1)))
    assert found.shape == (len(alone), edges.size - 1)
    for one, density in zip(alone, found, strict=True):
        np.testing.assert_allclose(density, one.density(edges), rtol=1e-9, atol=1e-12 / (edges[-1] - edges[0]))
    for one, extent in zip(alone, many.extents(), strict=True):
        np.testing.assert_allclose(extent, one.extent(), rtol=1e-9)


@given(several)
def test_moments_are_those_of_each_alone(samples):
    alone = [Histogram.from_values(values) for values in samples]
    told = [Histogram(one.bins, one.counts) for one in alone]
    Many(told).remember_moments()
    for one, other in zip(alone, told, strict=True):
        assert ("_moments" in vars(other)) == (one.n_finite > 0)
        expected, found = one._moments, other._moments
        assert found.bins == expected.bins
        scale = np.sqrt(expected.variance) + abs(expected.mean)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-9, atol=1e-12 * scale)
        for name in ("variance", "within", "fourth"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)


def test_values_far_out_are_set_aside_as_alone(rng):
    alone = [Histogram.from_values(np.append(rng.normal(size=size), far)) for size in (50, 99, 5_000, 50_000)
             for far in ([], [1e4], [-1e6, 1e6])]  # fmt: skip
    np.testing.assert_allclose(Many(alone).extents(), [one.extent() for one in alone], rtol=1e-12)


def test_every_histogram_has_edges_of_its_own(rng):
    alone = [Histogram.from_values(rng.normal(size=1000) * 10.0**scale) for scale in range(-3, 4)]
    edges = np.array([np.linspace(*one.extent(), 31) for one in alone])
    found = Many(alone).densities(edges)
    np.testing.assert_allclose(found, [one.density(e) for one, e in zip(alone, edges, strict=True)], rtol=1e-9)
    with pytest.raises(ArgumentError, match="strictly increasing"):
        Many(alone).densities(edges[:, ::-1])
    with pytest.raises(ArgumentError, match="for each histogram"):
        Many(alone).densities(edges[:2])
