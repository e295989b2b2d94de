"""Distances and shapes from histograms, beside scipy's on the bins' centres and on the raw values."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from dropdiag.analysis.compare import resampling
from dropdiag.analysis.compare import weight_shapes as shapes
from dropdiag.analysis.compare.distances import PooledCounts
from dropdiag.analysis.compare.resampling import Design
from dropdiag.errors import ArgumentError
from dropdiag.histograms.histogram import Histogram


def wasserstein(one, other):
    pooled = PooledCounts([one, other])
    return pooled.wasserstein(Design(1, 1, paired=False).observed(pooled.counts))[0]


@pytest.fixture
def raw():
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.normal(0.3, 1.2, 20_000), np.zeros(500)])
    return a, rng.laplace(-0.1, 0.7, 15_000)


def centred(histogram):
    low, high, counts = histogram.bounds()
    return 0.5 * (low + high), counts


def test_w1_is_scipys(raw):
    ours, peer = wasserstein, stats.wasserstein_distance
    a, b = (Histogram.from_values(x) for x in raw)
    (x, n), (y, m) = centred(a), centred(b)
    assert ours(a, b) == pytest.approx(peer(x, y, n, m), rel=1e-10)
    assert ours(a, b) == pytest.approx(peer(*raw), rel=2e-3)
    assert ours(a, a) == 0.0
    assert ours(a, b) == pytest.approx(ours(b, a), rel=1e-12)


def test_w1_of_a_shift_is_the_shift_and_scales_with_the_values():
    x = np.random.default_rng(1).normal(0.0, 1.0, 50_000)
    shifted = wasserstein(Histogram.from_values(x), Histogram.from_values(x + 0.5))
    assert shifted == pytest.approx(0.5, rel=1e-3)
    small = wasserstein(Histogram.from_values(x / 64), Histogram.from_values((x + 0.5) / 64))
    assert small == pytest.approx(shifted / 64, rel=1e-6)


def test_seeds_are_pooled_by_adding_their_counts(raw):
    parts = [*np.array_split(raw[0], 3), *np.array_split(raw[1], 2)]
    pooled = PooledCounts([Histogram.from_values(part) for part in parts])
    whole = Design(3, 2, paired=False).observed(pooled.counts)
    a, b = (Histogram.from_values(x) for x in raw)
    assert pooled.wasserstein(whole)[0] == pytest.approx(wasserstein(a, b), rel=1e-10)


@pytest.mark.parametrize("paired", [True, False])
def test_labellings_are_all_of_them_whatever_the_block(raw, monkeypatch, paired):
    parts = [Histogram.from_values(part) for x in raw for part in np.array_split(x, 3)]
    pooled, design = PooledCounts(parts), Design(3, 3, paired=paired)

    def every():
        return np.concatenate([pooled.wasserstein(sums) for sums in design.relabelled(pooled.counts, 0)])

    whole = every()
    sides = product((0, 1), repeat=3) if paired else [c for c in product((0, 1), repeat=6) if sum(c) == 3]
    expected = [distance_of(parts, [*side, *(1 - s for s in side)] if paired else side) for side in sides]
    np.testing.assert_allclose(np.sort(whole), np.sort(expected), rtol=1e-10)
    monkeypatch.setattr(resampling, "_BLOCK", 3 * pooled.centres.size)
    np.testing.assert_allclose(every(), whole, rtol=1e-12)


def distance_of(parts, side):
    one, other = (sum((part for part, s in zip(parts, side, strict=True) if s == which), Histogram.from_values([]))
                  for which in (0, 1))  # fmt: skip
    return wasserstein(one, other)


def test_not_a_number_takes_no_part_and_nothing_has_no_distance():
    a, b = Histogram.from_values([1.0, 2.0, np.nan, np.inf]), Histogram.from_values([1.0, 2.0])
    assert wasserstein(a, b) == 0.0
    with pytest.raises(ArgumentError, match="without finite values"):
        wasserstein(a, Histogram.from_values([np.nan]))


def test_ks_distance_is_that_of_the_raw_values(raw):
    for x in (raw[0], raw[1], np.random.default_rng(3).uniform(-1, 1, 30_000)):
        expected = stats.kstest(x, "norm", args=(x.mean(), x.std())).statistic
        assert shapes.ks_normal(Histogram.from_values(x)) == pytest.approx(expected, abs=2e-3)
    assert np.isnan(shapes.ks_normal(Histogram.from_values(np.ones(5))))
    assert np.isnan(shapes.ks_normal(Histogram.from_values([])))
    # on both sides of a bin's edge: what is measured would be the bins
    for rng in map(np.random.default_rng, range(3)):
        assert np.isnan(shapes.ks_normal(Histogram.from_values(rng.normal(1.0, 1e-3, 5000))))
        assert np.isnan(shapes.standardised(Histogram.from_values(rng.normal(1.0, 1e-3, 5000)))).all()


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


def test_the_distance_from_the_start_is_w1_over_the_spread_there(raw):
    before, now = (Histogram.from_values(x) for x in raw)
    (x, n), (y, m) = centred(before), centred(now)
    expected = stats.wasserstein_distance(x, y, n, m) / before.std()
    assert shapes.distance_from_start(before, now) == pytest.approx(expected, rel=1e-10)
    assert shapes.distance_from_start(before, before) == 0.0
    bias = Histogram.from_values(np.zeros(10))
    assert np.isnan(shapes.distance_from_start(bias, now))
    assert np.isnan(shapes.distance_from_start(before, Histogram.from_values([np.nan])))


def test_scales_are_alike_whatever_the_shape():
    rng = np.random.default_rng(3)
    layers = [rng.normal(0, 1, 20_000), rng.uniform(-1, 1, 20_000) * np.sqrt(3), rng.normal(5, 2, 20_000)]
    found = shapes.scale_distances([Histogram.from_values(x) for x in [*layers, np.full(9, 0.3)]])
    expected = [np.mean([abs(np.log(a.std() / b.std())) for b in layers if b is not a]) for a in layers]
    np.testing.assert_allclose(found[:3], expected, atol=2e-3)
    assert np.isnan(found[3])  # values that do not vary have no scale
    assert np.isnan(shapes.scale_distances([Histogram.from_values(layers[0])])).all()
    assert shapes.scale_distances([]).size == 0
