"""The drawn line of a density: its area and its peak, for heavy tails, far outliers and peaks beside wide parts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import trapezoid

from dropdiag.analysis.kde import common_limits
from dropdiag.histograms.histogram import Histogram
from dropdiag.histograms.points import points_between

N = 20_000
DRAWS = {
    "Cauchy": (lambda r: r.standard_cauchy(N), stats.cauchy.pdf(0)),
    "t(1.5)": (lambda r: r.standard_t(1.5, N), stats.t.pdf(0, 1.5)),
    "t(3)": (lambda r: r.standard_t(3, N), stats.t.pdf(0, 3)),
    "an outlier at 1e30": (lambda r: np.r_[r.normal(size=N), 1e30], stats.norm.pdf(0)),
    "few and an outlier": (lambda r: np.r_[r.normal(size=500), -1e30], stats.norm.pdf(0)),
    "a peak beside a wide part": (
        lambda r: np.r_[r.normal(3, 0.1, N // 2), r.normal(0, 6, N // 2)],
        stats.norm.pdf(0, 0, 0.1) / 2 + stats.norm.pdf(3, 0, 6) / 2,
    ),
}  # fmt: skip
# of these the bandwidth itself is more than the peak is wide, and the estimate says so (floored)
WILD = {
    "lognormal(3)": lambda r: r.lognormal(0, 3, N),
    "Pareto(1)": lambda r: r.pareto(1, N),
    "a spike beside a wide part": lambda r: np.r_[r.normal(3, 1e-3, N // 2), r.normal(0, 100, N // 2)],
    "49 and an outlier": lambda r: np.r_[r.normal(size=49), 1e30],
}


def histogram(draw) -> Histogram:
    return Histogram.from_values(draw(np.random.default_rng(0)))


def test_equal_steps_hide_the_peak_of_a_cauchy_density():
    """What this is about: in 512 equal steps over nearly all values the line has two or three times the area."""
    h = histogram(DRAWS["Cauchy"][0])
    made = h.kde()
    x, density = made.curve()
    step = (x[-1] - x[0]) / 511
    equal = made.at(x[np.argmax(density)] + step * np.arange(-400, 401))
    assert trapezoid(equal.density, equal.x) > 1.5
    assert made.at(equal.x + step / 2).density.max() < 0.3 * made.peak


@pytest.mark.parametrize("rule", ["isj", "silverman"])
@pytest.mark.parametrize("name", [*DRAWS, *WILD])
def test_the_line_has_the_area_of_what_it_shows(name, rule):
    h = histogram(WILD.get(name) or DRAWS[name][0])
    kde = h.kde(rule)
    assert trapezoid(kde.density, kde.x) == pytest.approx(1 - kde.outside, abs=0.01)
    assert kde.density.max() == pytest.approx(kde.peak, rel=0.01)
    assert kde.x.shape == (512,)
    assert (np.diff(kde.x) >= 0).all()


@pytest.mark.parametrize("name", DRAWS)
def test_the_peak_is_that_of_the_density(name):
    draw, peak = DRAWS[name]
    h = histogram(draw)
    kde, ends = h.kde(), common_limits([h])
    off = 0.07 if h.n > 1000 else 0.15  # a kernel of that width lowers it by so much
    assert kde.density.max() == pytest.approx(peak, rel=off)
    made = h.kde(x=ends)
    drawn = made.at(points_between(*ends, 512, [made.curve()]))
    assert drawn.density.max() == pytest.approx(peak, rel=off)
    assert trapezoid(drawn.density, drawn.x) == pytest.approx(h.share(*ends), abs=0.01)


def test_the_line_is_the_estimate_itself():
    values = np.random.default_rng(0).standard_cauchy(2000)
    kde = Histogram.from_values(values).kde()
    near = np.abs(kde.x) < 50
    exact = norm_sum(kde.x[near], values, kde.bandwidth)
    assert np.abs(kde.density[near] - exact).max() < 0.02 * exact.max()
    np.testing.assert_array_equal(kde.at(kde.x).density, kde.density)


def norm_sum(x, values, h):
    return stats.norm.pdf(x[:, None], values, h).mean(axis=1)


def test_all_wild_ones_say_that_they_are_smoothed_more_than_was_asked_for():
    assert all(histogram(draw).kde("isj").floored for draw in WILD.values())


def test_equal_steps_where_they_follow():
    for draw in (lambda r: r.normal(size=N), lambda r: r.uniform(-1, 1, N), lambda r: r.laplace(size=N)):
        x = histogram(draw).kde("silverman").x
        np.testing.assert_allclose(np.diff(x), (x[-1] - x[0]) / 511, rtol=1e-6)


def test_several_curves_share_their_points_and_each_is_followed():
    rng = np.random.default_rng(1)
    parts = [
        Histogram.from_values(x) for x in (rng.normal(-40, 0.1, N), 30 * rng.normal(size=N), rng.standard_cauchy(N))
    ]
    made = [part.kde("silverman" if i == 1 else "isj", x=(-200, 200)) for i, part in enumerate(parts)]
    x = points_between(-200, 200, 512, [one.curve() for one in made])
    assert (x[0], x[-1], x.size) == (-200, 200, 512)
    for part, one in zip(parts, made, strict=True):
        line = one.at(x)
        assert trapezoid(line.density, x) == pytest.approx(part.share(-200, 200), abs=0.015)
        assert line.density.max() == pytest.approx(one.peak, rel=0.01)


@pytest.mark.parametrize("count", [2, 3, 5, 64])
def test_few_points(count):
    made = histogram(DRAWS["Cauchy"][0]).kde(x=(-5, 900))
    x = points_between(-5, 900, count, [made.curve()])
    assert (x[0], x[-1], x.size) == (-5, 900, count)
    assert (np.diff(x) >= 0).all()
    assert points_between(0, 1, count, []).size == count
    assert points_between(5000, 6000, count, [made.curve()]).size == count  # nothing of it lies there


def test_the_extent_leaves_out_what_is_far_from_all_others():
    rng = np.random.default_rng(0)
    for n in (200, 999, 5000):
        bare = rng.normal(size=n)
        low, high = Histogram.from_values(np.r_[bare, 1e30]).extent()
        assert low < -2
        assert 2 < high <= bare.max() * (1 + 1 / 64)
    h = Histogram.from_values(rng.standard_cauchy(20_000))
    np.testing.assert_array_equal(h.extent(), h.quantile([0.001, 0.999]))
    assert np.isnan(Histogram.from_values([np.nan]).extent()).all()


def test_the_peak_of_equal_values_is_missing():
    for values in ([], [np.nan], [0.0] * 9, [1.0] * 5, [0.3]):
        assert np.isnan(Histogram.from_values(values).peak_density())
    values = np.random.default_rng(0).standard_cauchy(N)
    assert Histogram.from_values(values).peak_density() == pytest.approx(1 / np.pi, rel=0.07)
