from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.stats import gaussian_kde, norm

from dropdiag.errors import ArgumentError
from dropdiag.histograms.histogram import Histogram
from dropdiag.histograms.kde import bulk

DRAWS = {
    "normal": lambda r, n: r.normal(0, 0.05, n),
    "off centre": lambda r, n: r.normal(0.1, 0.05, n),
    "two modes": lambda r, n: np.concatenate([r.normal(-2.5, 0.8, n // 2), r.normal(2.5, 0.8, n // 2)]),
    "uniform": lambda r, n: r.uniform(-0.07, 0.07, n),
    "laplace": lambda r, n: r.laplace(0, 1e-5, n),
}


def drawn(name: str, n: int = 10_000) -> np.ndarray:
    return DRAWS[name](np.random.default_rng(3), n).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("rule", ["silverman", "scott"])
@pytest.mark.parametrize("name", DRAWS)
def test_agrees_with_scipy_on_the_raw_values(name: str, rule: str) -> None:
    values = drawn(name)
    kde, raw = Histogram.from_values(values).kde(rule), gaussian_kde(values, bw_method=rule)
    expected = raw(kde.x)
    assert kde.bandwidth == pytest.approx(float(np.sqrt(raw.covariance[0, 0])), rel=1e-3)
    assert np.abs(kde.density - expected).max() < 0.01 * expected.max()


@pytest.mark.parametrize("name", ["normal", "off centre", "two modes", "laplace"])
def test_isj_curve_agrees_with_scipy_at_the_same_bandwidth(name: str) -> None:
    values = drawn(name)
    kde = Histogram.from_values(values).kde("isj")
    expected = gaussian_kde(values, bw_method=kde.bandwidth / values.std(ddof=1))(kde.x)
    assert np.abs(kde.density - expected).max() < 0.01 * expected.max()
    assert (kde.rule, kde.fallback, kde.floored) == ("isj", False, False)


@pytest.mark.parametrize("n", [2_000, 50_000])
def test_isj_finds_the_bandwidth_that_is_best_for_two_normals(n: int) -> None:
    values, x = drawn("two modes", n), np.linspace(-6, 6, 801)
    truth = 0.5 * norm.pdf(x, -2.5, 0.8) + 0.5 * norm.pdf(x, 2.5, 0.8)
    second = 0.5 * sum(norm.pdf(x, m, 0.8) * (((x - m) / 0.8) ** 2 - 1) / 0.64 for m in (-2.5, 2.5))
    best = (1 / (2 * np.sqrt(np.pi) * n * trapezoid(second**2, x))) ** 0.2
    h = Histogram.from_values(values)
    kde = h.kde("isj", x=x)
    assert kde.bandwidth == pytest.approx(best, rel=0.15)
    error = np.abs(kde.density - truth).max() / truth.max()
    assert error < 6.0 * (n * best * truth.max()) ** -0.5
    assert error < np.abs(h.kde("silverman", x=x).density - truth).max() / truth.max()


def test_isj_for_a_normal_is_near_the_normal_reference() -> None:
    kde = Histogram.from_values(drawn("normal", 100_000)).kde("isj")
    assert kde.bandwidth == pytest.approx(0.05 * (4 / 3 / 100_000) ** 0.2, rel=0.1)


@pytest.mark.parametrize("rule", ["isj", "silverman", "scott"])
@pytest.mark.parametrize("scale", [0.02, 1 / 64, 5000.0])
def test_scaling_the_data_scales_the_bandwidth(rule: str, scale: float) -> None:
    values = drawn("two modes", 40_000)
    one, other = (Histogram.from_values(v).kde(rule) for v in (values, values * scale))
    exact = np.log2(scale) % 1 == 0  # then the bins are the same, but for their exponent
    assert other.bandwidth / one.bandwidth == pytest.approx(scale, rel=1e-9 if exact else 5e-3)
    assert other.density.max() * scale == pytest.approx(one.density.max(), rel=5e-3)


def test_bandwidth_comes_from_the_true_number_of_values() -> None:
    h = Histogram.from_values(drawn("normal"))
    many = Histogram(h.bins, h.counts * 1000)
    assert many.kde("scott").bandwidth / h.kde("scott").bandwidth == pytest.approx(1000**-0.2, rel=1e-4)
    assert many.kde("isj").bandwidth < 0.7 * h.kde("isj").bandwidth


def test_reflects_at_hard_bounds() -> None:
    values = 1.0 - np.abs(np.random.default_rng(0).normal(0, 0.4, 20_000))
    values = values[values > -1.0].astype(np.float32).astype(np.float64)
    kde = Histogram.from_values(values).kde(0.05, support=(-1.0, 1.0))
    assert kde.x[-1] == 1.0
    assert kde.x[0] >= -1.0
    mirrored = np.concatenate([values, 2.0 - values, -2.0 - values])
    expected = 3.0 * gaussian_kde(mirrored, bw_method=0.05 / mirrored.std(ddof=1))(kde.x)
    assert np.abs(kde.density - expected).max() < 0.01 * expected.max()
    free = Histogram.from_values(values).kde(0.05, x=[1.0])
    assert kde.density[-1] == pytest.approx(2 * free.density[0], rel=0.02)
    assert trapezoid(kde.density, kde.x) == pytest.approx(1.0, abs=2e-3)


def test_values_on_the_bound_itself_stay_inside() -> None:
    h = Histogram.from_values([1.0, 1.0, -1.0, 0.25, 0.5])
    kde = h.kde(0.1, support=(-1.0, 1.0), x=np.linspace(-1, 1, 2001))
    assert trapezoid(kde.density, kde.x) == pytest.approx(1.0, abs=1e-3)
    all_one = Histogram.from_values([1.0, 1.0]).kde(support=(-1.0, 1.0))
    assert np.isfinite(all_one.density).all()
    assert all_one.floored


def test_uniform_data_keep_their_edge() -> None:
    h = Histogram.from_values(drawn("uniform", 400_000))
    isj, silverman = h.kde("isj"), h.kde("silverman")
    assert isj.bandwidth < 0.25 * silverman.bandwidth
    inside = np.abs(isj.x) < 0.06
    assert np.abs(isj.density[inside] * 0.14 - 1).max() < 0.05
    assert isj.density[np.abs(isj.x) > 0.074].max(initial=0.0) * 0.14 < 0.02


def test_exact_zeros_are_split_off() -> None:
    values = drawn("normal")
    with_zeros = Histogram.from_values(np.concatenate([values, np.zeros(30_000)]))
    kde, bare = with_zeros.kde("isj"), Histogram.from_values(values).kde("isj")
    assert kde.point_mass == 0.75
    assert kde.n == 40_000
    assert kde.bandwidth == bare.bandwidth
    np.testing.assert_allclose(kde.density, 0.25 * bare.density)
    nothing_else = Histogram.from_values(np.zeros(7)).kde()
    assert (nothing_else.point_mass, nothing_else.density.max()) == (1.0, 0.0)
    assert np.isnan(nothing_else.bandwidth)


def test_bandwidth_below_the_bins_is_raised_and_flagged() -> None:
    values = np.random.default_rng(0).normal(7.0, 0.05, 200_000)  # bins are 1/16 wide there
    kde = Histogram.from_values(values).kde("silverman")
    assert kde.floored
    assert kde.bandwidth == pytest.approx(1 / 32)
    slopes = np.sign(np.diff(kde.density[kde.density > 0.01 * kde.density.max()]))
    assert np.count_nonzero(np.diff(slopes)) == 1  # one mode, no stairs
    assert not Histogram.from_values(values).kde(0.2).floored


def test_without_a_fixed_point_silverman_stands_in() -> None:
    kde = Histogram.from_values([1.0, 2.0]).kde("isj")
    assert kde.fallback
    assert kde.rule == "silverman"
    same = Histogram.from_values([1.0, 2.0]).kde("silverman")
    assert (kde.bandwidth, same.fallback) == (same.bandwidth, False)


def test_few_and_wild_values_give_a_finite_curve() -> None:
    for values in ([3.0], [1e-30, 1e30], [-3e38, 3e38], [1e-38] * 9, [0.5] * 1000):
        kde = Histogram.from_values(values).kde()
        assert np.isfinite(kde.density).all()
        assert kde.bandwidth > 0


@pytest.mark.parametrize("rule", ["isj", "silverman", "scott"])
@pytest.mark.parametrize("x", [None, np.linspace(-4, 4, 401)])
def test_a_few_values_far_out_do_not_flatten_the_bulk(rule: str, x: np.ndarray | None) -> None:
    values = np.random.default_rng(1).normal(0, 1, 200_000)
    clean = Histogram.from_values(values).kde(rule, x=x)
    kde = Histogram.from_values(np.concatenate([values, np.full(5, 1e6)])).kde(rule, x=x)
    assert kde.bandwidth == clean.bandwidth
    assert kde.outside == pytest.approx(5 / 200_005)
    assert clean.outside == 0.0
    assert kde.density.max() == pytest.approx(norm.pdf(0), rel=0.03)
    np.testing.assert_allclose(kde.density, clean.density * (1 - kde.outside), atol=1e-12)
    assert (kde.n, kde.floored) == (200_005, False)
    assert Histogram.from_values(np.concatenate([values, [-1e9, 3e38]])).kde(rule, x=x).outside > 0


def test_values_far_out_that_were_asked_for_are_drawn() -> None:
    values = np.random.default_rng(1).normal(0, 1, 20_000)
    h = Histogram.from_values(np.concatenate([values, np.full(20, 1000.0)]))
    assert h.kde("scott").outside == pytest.approx(20 / 20_020)
    kde = h.kde("scott", x=np.linspace(-10, 1010, 20_001))
    assert kde.outside == 0.0
    assert trapezoid(kde.density, kde.x) == pytest.approx(1.0, abs=2e-3)
    out = kde.x > 500
    assert trapezoid(kde.density[out], kde.x[out]) == pytest.approx(20 / 20_020, rel=0.02)
    assert kde.density.max() == pytest.approx(norm.pdf(0), rel=0.06)


@pytest.mark.parametrize(
    "draw",
    [
        lambda r: r.laplace(0, 1, 300_000),
        lambda r: r.normal(0, 1, 300_000) ** 3,
        lambda r: np.concatenate([r.normal(0, 1e-4, 99_000), r.normal(0, 1, 1_000)]),  # a second scale, 1 %
        lambda r: np.concatenate([r.normal(0, 1, 50), [2.0**20]]),  # too few to know what is far
    ],
)
def test_heavy_tails_are_no_outliers(draw) -> None:
    values = draw(np.random.default_rng(2)).astype(np.float32).astype(np.float64)
    kde = Histogram.from_values(values).kde("silverman")
    assert kde.outside == 0.0
    assert kde.bandwidth == pytest.approx(values.std(ddof=1) * (0.75 * values.size) ** -0.2, rel=0.02)


def test_far_out_has_stated_limits() -> None:
    for values, expected in (
        (np.random.default_rng(2).normal(0, 1, 400_000), 21.6),
        (np.random.default_rng(2).laplace(0, 1, 400_000), 43.5),
    ):
        first, last = bulk(*Histogram.from_values(values).bounds())
        assert (-first, last) == pytest.approx((expected, expected), rel=0.04)
    few = np.concatenate([np.arange(1.0, 100.0), [1e6]])
    first, last = bulk(*Histogram.from_values(few).bounds())
    assert first < 1 - 3 * 97 + 2
    assert 99 < last < 500
    assert bulk(*Histogram.from_values(few[1:]).bounds()) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidth": "sj"}, "one of isj, silverman, scott or a number, got 'sj'"),
        ({"bandwidth": -1.0}, "finite positive number, got -1.0"),
        ({"points": 1}, "at least 2 points, got 1"),
        ({"support": (1.0, -1.0)}, "low < high"),
        ({"support": (None,)}, "must be a pair"),
        ({"support": (-1.0, 1.0)}, r"reach outside \[-1, 1\]; widen the support"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Histogram.from_values([0.5, 3.0]).kde(**options)
