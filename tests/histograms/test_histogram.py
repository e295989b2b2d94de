from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dropdiag.errors import ArgumentError
from dropdiag.histograms import grid
from dropdiag.histograms.histogram import Histogram

EMPTY = Histogram.from_values([])
anything = arrays(np.float32, st.integers(0, 60), elements=st.floats(width=32))
finite = arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e6, 1e6, width=32))


@given(anything, anything)
def test_sum_is_the_histogram_of_the_union(a: np.ndarray, b: np.ndarray) -> None:
    union = Histogram.from_values(np.concatenate([a, b]))
    assert Histogram.from_values(a) + Histogram.from_values(b) == union
    assert sum([Histogram.from_values(a), Histogram.from_values(b)]) == union
    assert union.n == a.size + b.size


@given(anything, st.randoms(use_true_random=False))
def test_order_does_not_matter(a: np.ndarray, random: object) -> None:
    shuffled = a.copy()
    random.shuffle(shuffled)
    assert Histogram.from_values(shuffled) == Histogram.from_values(a)
    assert hash(Histogram.from_values(shuffled)) == hash(Histogram.from_values(a))


@given(anything)
def test_every_value_is_counted_once_and_by_its_kind(a: np.ndarray) -> None:
    h = Histogram.from_values(a)
    assert h.n == a.size
    assert h.nans == np.isnan(a).sum()
    assert h.positive_infinities == (a == np.inf).sum()
    assert h.negative_infinities == (a == -np.inf).sum()
    assert h.zeros == (np.abs(a) < 2.0**-132).sum()
    assert h.n_finite == np.isfinite(a).sum() == h.bounds()[2].sum()


@given(finite)
def test_bounds_hold_the_values_in_order(a: np.ndarray) -> None:
    low, high, counts = Histogram.from_values(a).bounds()
    values = np.sort(np.where(np.abs(a) < 2.0**-132, 0.0, a).astype(np.float64))
    assert (np.repeat(low, counts) <= values).all()
    assert (values <= np.repeat(high, counts)).all()
    assert (high[:-1] <= low[1:]).all()


@given(finite, st.floats(0.0, 1.0))
def test_quantile_is_within_a_bin_of_the_order_statistic(a: np.ndarray, q: float) -> None:
    exact = np.quantile(a.astype(np.float64), q, method="inverted_cdf")
    assert abs(float(Histogram.from_values(a).quantile(q)) - exact) <= abs(exact) / 64 + 2.0**-132


@given(finite, st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_share_is_within_its_stated_error(a: np.ndarray, one: float, other: float) -> None:
    low, high = sorted([one, other])
    a = np.where(np.abs(a) < 2.0**-132, 0.0, a.astype(np.float64))
    h = Histogram.from_values(a)
    exact = ((a > low) & (a <= high)).mean()
    assert abs(h.share(low, high) - exact) <= h.share_error(low, high) + 1e-12


@given(finite, st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8, unique=True))
def test_rebin_conserves_the_mass_inside(a: np.ndarray, edges: list[float]) -> None:
    grid, h = np.sort(edges), Histogram.from_values(a)
    cut = sum((h.share_error(e, e) for e in grid[[0, -1]]), 0.0) * h.n
    exact = np.histogram(np.where(np.abs(a) < 2.0**-132, 0.0, a), [grid[0], grid[-1]])[0][0]
    assert abs(h.rebin(grid).sum() - exact) <= cut + 1e-6 * h.n
    whole = h.rebin([-2e6, *grid[1:-1], 2e6])
    assert whole.sum() == pytest.approx(h.n_finite)


def test_rebin_on_the_grid_itself_is_exact(rng: np.random.Generator) -> None:
    values = rng.normal(0, 1, 5000).astype(np.float32)
    positive = grid.bin_magnitude_edges()[64 * 110 : 64 * 131]
    edges = np.concatenate([-positive[::-1], [0.0], positive])
    got = Histogram.from_values(values).rebin(edges)
    assert got.sum() == pytest.approx(values.size)
    np.testing.assert_allclose(got, np.histogram(values.astype(np.float64), edges)[0], atol=1.01)
    assert np.abs(got - np.histogram(values, edges)[0]).sum() < 10  # values that sit on a bound


def test_zeros_are_a_point_mass() -> None:
    h = Histogram.from_values([0.0, -0.0, 0.0, 1.5])
    np.testing.assert_array_equal(h.rebin([-1.0, 0.0, 1.0]), [0.0, 3.0])
    np.testing.assert_array_equal(h.rebin([-1.0, -0.5, 0.0]), [0.0, 3.0])
    np.testing.assert_array_equal(h.rebin([0.5, 1.0, 2.0]), [0.0, 1.0])
    assert h.share(-1.0, 0.0) == 0.75
    assert h.share(0.0, 1.0) == 0.0
    assert float(h.quantile(0.5)) == 0.0
    low, high, counts = h.bounds()
    assert (low[0], high[0], counts[0]) == (0.0, 0.0, 3)


def test_density_of_all_values_integrates_to_their_share() -> None:
    h = Histogram.from_values([*np.linspace(0.1, 0.9, 90), *np.full(10, 5.0), np.nan])
    edges = np.linspace(0.0, 1.0, 11)
    assert (h.density(edges) * 0.1).sum() == pytest.approx(0.9)
    assert (h.density(np.linspace(0, 8, 9))).sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda r: r.normal(0.3, 0.05, 100_000),
        lambda r: r.uniform(-0.07, 0.07, 100_000),
        lambda r: r.laplace(0, 1e-5, 100_000),
    ],
)
def test_moments_agree_with_numpy(draw, rng: np.random.Generator) -> None:
    values = draw(rng).astype(np.float32).astype(np.float64)
    h, d = Histogram.from_values(values), values - values.mean()
    assert h.mean() == pytest.approx(values.mean(), abs=2e-4 * np.abs(values).mean())
    assert h.std() == pytest.approx(values.std(), rel=1e-3)
    assert h.excess_kurtosis() == pytest.approx((d**4).mean() / (d**2).mean() ** 2 - 3, abs=6e-3)


def test_empty_histograms_answer_or_refuse_clearly() -> None:
    only_nan = Histogram.from_values([np.nan, np.inf])
    for h in (EMPTY, only_nan):
        assert np.isnan([h.mean(), h.std(), h.excess_kurtosis(), h.share(0, 1), h.share_error(0, 1)]).all()
        assert np.isnan(h.quantile([0.1, 0.5])).all()
        assert np.isnan(h.density([0.0, 1.0])).all()
        np.testing.assert_array_equal(h.rebin([0.0, 1.0, 2.0]), [0.0, 0.0])
        with pytest.raises(ArgumentError, match="holds no finite value"):
            h.kde()
    assert EMPTY.n == 0
    assert EMPTY + only_nan == only_nan
    assert np.isnan(Histogram.from_values([0.0, 0.0]).excess_kurtosis())


@pytest.mark.parametrize(
    ("bins", "counts", "message"),
    [
        ([1, 2], [1], "two vectors of one length"),
        ([2, 1], [1, 1], "strictly increasing"),
        ([1, grid.BINS], [1, 1], "from 0 to 32767"),
        ([1], [-1], "must not be negative, got -1"),
    ],
)
def test_wrong_bins_are_refused(bins: list[int], counts: list[int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Histogram(np.array(bins), np.array(counts))


def test_wrong_questions_are_refused() -> None:
    h = Histogram.from_values([1.0])
    with pytest.raises(ArgumentError, match=r"must lie in \[0, 1\], got 2"):
        h.quantile(2)
    with pytest.raises(ArgumentError, match="needs low <= high, got 1 and 0"):
        h.share(1, 0)
    for edges in ([1.0], [0.0, 0.0], [0.0, np.inf]):
        with pytest.raises(ArgumentError, match="strictly increasing"):
            h.rebin(edges)


def test_it_is_frozen_and_shows_itself() -> None:
    h = Histogram(np.array([5, 6]), np.array([0, 2]))
    assert h.bins.tolist() == [6]
    assert repr(h) == "Histogram(n=2, bins=1, zeros=0, nans=0)"
    with pytest.raises(ValueError, match="read-only"):
        h.counts[0] = 3
    assert h != 3
    with pytest.raises(TypeError):
        h + 1


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.1, 3e-39, 3e38, -7.3e-20])
@pytest.mark.parametrize("n", [1, 2, 1000])
def test_equal_values_have_no_spread_and_no_shape(value: float, n: int) -> None:
    h = Histogram.from_values(np.full(n, value))
    assert h.std() == 0.0
    assert np.isnan(h.excess_kurtosis())
    assert not h.resolves_shape()
    assert h.mean() == pytest.approx(value, rel=1 / 128)


@pytest.mark.parametrize("sd", [1e-6, 1e-3, 1e-2])
@pytest.mark.parametrize("mean", [1.0, -1.3, 1e30])
def test_a_shape_that_bins_do_not_resolve_is_missing(mean: float, sd: float, rng: np.random.Generator) -> None:
    h = Histogram.from_values(mean * rng.normal(1.0, sd, 10_000))
    assert np.isnan(h.excess_kurtosis())
    assert h.std() <= abs(mean) / 64  # what the documentation allows


@pytest.mark.parametrize("draw", ["normal", "laplace", "uniform"])
@pytest.mark.parametrize("mean", [1.0, 1.3, 1.9])
def test_a_kurtosis_that_is_given_is_within_a_tenth(draw: str, mean: float, rng: np.random.Generator) -> None:
    given = 0
    for sd in (0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06):
        x = {"normal": rng.normal, "laplace": rng.laplace, "uniform": rng.uniform}[draw](size=100_000)
        x = mean + sd * (x - x.mean()) / x.std()
        found, true = Histogram.from_values(x).excess_kurtosis(), ((x - x.mean()) ** 4).mean() / x.var() ** 2 - 3
        given += np.isfinite(found)
        assert np.isnan(found) or abs(found - true) < 0.1 * (true + 3)
    assert given >= 2


@pytest.mark.parametrize("values", [[1.0, 2.0], [-1.0, 1.0, 1.0], [0.0, 0.0, 5.0], [0.0, 1e-38], [-3e38, 3e38]])
def test_few_distinct_values_have_the_shape_that_they_have(values: list[float]) -> None:
    x, h = np.array(values), Histogram.from_values(values)
    d = x - x.mean()
    assert h.excess_kurtosis() == pytest.approx((d**4).mean() / (d**2).mean() ** 2 - 3, abs=0.01)


def test_by_itself_it_is_the_same_and_keeps_no_memory_of_others():
    rng = np.random.default_rng(0)
    one = Histogram.from_values(rng.normal(size=500))
    bins, counts = (np.concatenate([part, np.zeros(10_000, part.dtype)]) for part in (one.bins, one.counts))
    found = Histogram.of_checked(bins[: one.bins.size], counts[: one.counts.size]).by_itself()
    assert found == one
    assert (found.bins.base, found.counts.base) == (None, None)
    assert (found.mean(), found.std(), found.excess_kurtosis()) == (one.mean(), one.std(), one.excess_kurtosis())
