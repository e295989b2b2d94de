"""The laws that every sketch obeys: merge is union, splits and order do not matter, numpy agrees."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dropdiag.histograms.grid import bin_numbers
from dropdiag.sketches import AbsMean, Covariance, HistogramSketch, IntervalCounts, Moments, Sketch
from dropdiag.sketches.always_inside import AlwaysInside

AREAS = [[(-np.inf, -1.5)], [(0.25, 0.5), (2.0, np.inf)]]

finite = st.floats(-1e3, 1e3, width=32)
anything = st.floats(width=32)
moderate = hnp.arrays(np.float32, st.integers(1, 60), elements=finite)
wild = hnp.arrays(np.float32, st.integers(0, 60), elements=anything)


def fed(kind, *batches) -> Sketch:
    sketch = kind()
    for batch in batches:
        sketch.update(torch.from_numpy(np.ascontiguousarray(batch)))
    return sketch


def merged(kind, *batches) -> Sketch:
    union = kind()
    for batch in batches:
        union.merge(fed(kind, batch))
    return union


def dense(values: np.ndarray) -> np.ndarray:
    return np.bincount(bin_numbers(values).ravel(), minlength=32768)


@given(wild, wild)
@settings(deadline=None)
def test_histogram_merge_is_exactly_the_union_and_agrees_with_numpy(a, b):
    expected = dense(np.concatenate([a, b]))
    for sketch in (fed(HistogramSketch, a, b), fed(HistogramSketch, b, a), merged(HistogramSketch, a, b)):
        np.testing.assert_array_equal(sketch.dense().numpy(), expected)


@given(wild, wild)
@settings(deadline=None)
def test_interval_counts_are_exact(a, b):
    both = np.concatenate([a, b]).astype(np.float64)
    finite = np.isfinite(both)
    left = finite & (both <= -1.5)
    right = finite & (((both >= 0.25) & (both <= 0.5)) | (both >= 2.0))
    kind = lambda: IntervalCounts(AREAS)  # noqa: E731
    for sketch in (fed(kind, a, b), merged(kind, b, a)):
        assert sketch.n == finite.sum()
        assert sketch.counts == [left.sum(), right.sum()]


@given(st.lists(moderate, min_size=1, max_size=4))
@settings(deadline=None)
def test_moments_agree_with_numpy_however_the_values_are_split(batches):
    x = np.concatenate(batches).astype(np.float64)
    scale = max(np.abs(x).max(), 1e-30)
    for sketch in (fed(Moments, *batches), merged(Moments, *reversed(batches))):
        assert sketch.n == x.size
        mean, m2, m3, m4, abs_mean, low, high = sketch.state.numpy()
        d = x - x.mean()
        np.testing.assert_allclose(mean, x.mean(), rtol=1e-10, atol=1e-12 * scale)
        for got, power in ((m2, 2), (m3, 3), (m4, 4)):
            np.testing.assert_allclose(got, (d**power).sum(), rtol=1e-8, atol=1e-11 * x.size * scale**power)
        np.testing.assert_allclose(abs_mean, np.abs(x).mean(), rtol=1e-12)
        assert (low, high) == (x.min(), x.max())


@given(st.lists(moderate, min_size=1, max_size=4))
@settings(deadline=None)
def test_abs_mean_agrees_with_numpy_however_the_values_are_split(batches):
    x = np.concatenate(batches).astype(np.float64)
    for sketch in (fed(AbsMean, *batches), merged(AbsMean, *reversed(batches))):
        np.testing.assert_allclose(sketch.mean(), np.abs(x).mean(), rtol=1e-12)


matrices = st.integers(2, 5).flatmap(
    lambda d: st.lists(
        hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.just(d)), elements=finite), min_size=1, max_size=4
    )
)


@given(matrices)
@settings(deadline=None)
def test_covariance_agrees_with_numpy_however_the_samples_are_split(batches):
    x = np.concatenate(batches).astype(np.float64)
    expected = np.cov(x, rowvar=False, bias=True) if len(x) > 1 else np.zeros((x.shape[1],) * 2)
    for sketch in (fed(Covariance, *batches), merged(Covariance, *reversed(batches))):
        assert sketch.n == len(x)
        np.testing.assert_allclose(
            sketch.covariance().numpy(), expected, rtol=1e-5, atol=1e-6 * max(np.abs(x).max() ** 2, 1e-30)
        )
        np.testing.assert_array_equal(sketch.constant().numpy(), x.min(0) == x.max(0))


@pytest.mark.parametrize(
    "kind", [HistogramSketch, Moments, AbsMean, Covariance, lambda: IntervalCounts(AREAS), lambda: AlwaysInside(AREAS)]
)
def test_merging_an_empty_sketch_changes_nothing_and_draws_no_random_number(kind):
    state = torch.get_rng_state()
    x = torch.linspace(-3, 3, 40).reshape(10, 4)
    sketch, other = kind(), kind()
    sketch.update(x)
    sketch.merge(kind())
    other.merge(sketch)
    for name in ("counts", "state", "total", "codes"):
        if hasattr(sketch, name):
            torch.testing.assert_close(getattr(sketch, name), getattr(other, name), rtol=0, atol=0)
    if kind is Covariance:
        assert torch.equal(sketch.samples(), other.samples())
    assert torch.equal(torch.get_rng_state(), state)
