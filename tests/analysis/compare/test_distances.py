"""Distances and shapes from histograms, beside scipy's on the bins' centres and on the raw values."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from dropdiag.analysis.compare import distances
from dropdiag.analysis.compare import weight_shapes as shapes
from dropdiag.analysis.compare.distances import PooledCounts
from dropdiag.analysis.compare.resampling import Design
from dropdiag.errors import ArgumentError
from dropdiag.histograms.histogram import Histogram


@pytest.fixture
def raw():
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.normal(0.3, 1.2, 20_000), np.zeros(500)])
    return a, rng.laplace(-0.1, 0.7, 15_000)


def centred(histogram):
    low, high, counts = histogram.bounds()
    return 0.5 * (low + high), counts


@pytest.mark.parametrize(
    ("ours", "peer", "worst"),
    [(distances.wasserstein, stats.wasserstein_distance, 2e-3), (distances.energy, stats.energy_distance, 2e-3)],
)
def test_distances_are_scipys(raw, ours, peer, worst):
    a, b = (Histogram.from_values(x) for x in raw)
    (x, n), (y, m) = centred(a), centred(b)
    assert ours(a, b) == pytest.approx(peer(x, y, n, m), rel=1e-10)
    assert ours(a, b) == pytest.approx(peer(*raw), rel=worst)
    assert ours(a, a) == 0.0
    assert ours(a, b) == pytest.approx(ours(b, a), rel=1e-12)


def test_w1_of_a_shift_is_the_shift_and_scales_with_the_values():
    x = np.random.default_rng(1).normal(0.0, 1.0, 50_000)
    shifted = distances.wasserstein(Histogram.from_values(x), Histogram.from_values(x + 0.5))
    assert shifted == pytest.approx(0.5, rel=1e-3)
    small = distances.wasserstein(Histogram.from_values(x / 64), Histogram.from_values((x + 0.5) / 64))
    assert small == pytest.approx(shifted / 64, rel=1e-6)


def test_jensen_shannon_is_scipys_and_lies_between_0_and_1():
    a = Histogram.from_values(np.repeat([1.0, 2.0, 4.0, 8.0], [10, 20, 30, 40]))
    b = Histogram.from_values(np.repeat([1.0, 2.0, 4.0, 8.0], [40, 10, 25, 25]))
    assert distances.jensen_shannon(a, b) == pytest.approx(
        jensenshannon([10, 20, 30, 40], [40, 10, 25, 25], base=2) ** 2
    )
    apart = Histogram.from_values(np.full(7, -3.0))
    assert distances.jensen_shannon(a, apart) == pytest.approx(1.0)
    assert distances.jensen_shannon(a, a) == pytest.approx(0.0, abs=1e-12)


def test_jensen_shannon_of_one_distribution_is_what_the_docs_say():
    rng = np.random.default_rng(2)
    n, m = 4_000, 8_000
    found = [
        distances.jensen_shannon(Histogram.from_values(rng.normal(size=n)), Histogram.from_values(rng.normal(size=m)))
        for _ in range(40)
    ]
    assert np.mean(found) == pytest.approx(distances.CELLS / (8 * np.log(2)) * (1 / n + 1 / m), rel=0.1)


def test_seeds_are_pooled_by_adding_their_counts(raw):
    parts = [*np.array_split(raw[0], 3), *np.array_split(raw[1], 2)]
    pooled = PooledCounts([Histogram.from_values(part) for part in parts])
    whole = Design(3, 2, paired=False).observed()
    a, b = (Histogram.from_values(x) for x in raw)
    for statistic, of_two in (
        (pooled.wasserstein, distances.wasserstein),
        (pooled.energy, distances.energy),
    ):
        assert statistic(whole)[0] == pytest.approx(of_two(a, b), rel=1e-10)


def test_blocks_of_cases_do_not_matter(raw, monkeypatch):
    pooled = PooledCounts([Histogram.from_values(part) for x in raw for part in np.array_split(x, 3)])
    cases = Design(3, 3, paired=False).relabelled(0)
    whole = pooled.wasserstein(cases)
    monkeypatch.setattr(distances, "_BLOCK", 3 * pooled.centres.size)
    np.testing.assert_allclose(pooled.wasserstein(cases), whole, rtol=1e-12)


def test_not_a_number_takes_no_part_and_nothing_has_no_distance():
    a, b = Histogram.from_values([1.0, 2.0, np.nan, np.inf]), Histogram.from_values([1.0, 2.0])
    assert distances.wasserstein(a, b) == 0.0
    with pytest.raises(ArgumentError, match="without finite values"):
        distances.wasserstein(a, Histogram.from_values([np.nan]))


def test_ks_distance_is_that_of_the_raw_values(raw):
    for x in (raw[0], raw[1], np.random.default_rng(3).uniform(-1, 1, 30_000)):
        expected = stats.kstest(x, "norm", args=(x.mean(), x.std())).statistic
        assert shapes.ks_normal(Histogram.from_values(x)) == pytest.approx(expected, abs=2e-3)
    assert np.isnan(shapes.ks_normal(Histogram.from_values(np.ones(5))))
    assert np.isnan(shapes.ks_normal(Histogram.from_values([])))


def test_shape_distance_is_w1_of_standardised_values_and_blind_to_place_and_width():
    rng = np.random.default_rng(4)
    normal, flat = rng.normal(0, 1, 40_000), rng.uniform(-1, 1, 40_000)
    layers = [normal, 3.0 * normal + 7.0, flat]
    found = shapes.shape_distances([Histogram.from_values(x) for x in layers])
    z = [(x - x.mean()) / x.std() for x in layers]
    expected = [np.mean([stats.wasserstein_distance(a, b) for b in z if b is not a]) for a in z]
    np.testing.assert_allclose(found, expected, rtol=0.03)
    alike = shapes.shape_distances([Histogram.from_values(x) for x in layers[:2]])
    np.testing.assert_allclose(alike, 0.0, atol=0.01)


def test_a_layer_without_another_or_without_spread_has_no_shape_distance():
    x = Histogram.from_values(np.random.default_rng(5).normal(size=100))
    constant = Histogram.from_values(np.ones(4))
    assert np.isnan(shapes.shape_distances([x])).all()
    assert np.isnan(shapes.shape_distances([x, constant])).all()
    assert shapes.shape_distances([]).shape == (0,)
