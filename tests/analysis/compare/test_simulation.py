"""Under the null, with an effect, and how often intervals hold the truth: 1,000 comparisons each, seeds fixed."""

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.verdicts import World, simulate
from dropdiag.analysis.compare.distances import PooledCounts
from dropdiag.analysis.compare.effects import assess, mean_difference
from dropdiag.analysis.compare.resampling import Design
from dropdiag.histograms.histogram import Histogram

TIMES = 1000
CASES = [(5, True), (8, True), (12, True), (5, False), (8, False), (20, False)]


def bounds(probability):
    """Binomial bounds that hold 99.9 % of the counts out of TIMES."""
    return binom.ppf([0.0005, 0.9995], TIMES, probability)


def comparisons(n, paired, shift=0.0, seed=0):
    rng = np.random.default_rng([seed, n, paired])
    for _ in range(TIMES):
        common = rng.normal(0.0, 1.0, n) if paired else 0.0  # what a seed has in both conditions
        yield mean_difference(rng.normal(shift, 1.0, n) + common, rng.normal(0.0, 1.0, n) + common, paired=paired)


@pytest.mark.parametrize(("n", "paired"), CASES)
def test_false_positives_are_as_many_as_they_may_be(n, paired):
    found = [one.p <= 0.05 for one in comparisons(n, paired)]
    design = Design(n, n, paired)
    # an exact test attains the multiples of its least p: the greatest of these below 5 % is its level
    level = np.floor(0.05 / design.attainable() + 1e-9) * design.attainable()
    low, high = bounds(level)
    assert low <= np.sum(found) <= high


@pytest.mark.parametrize("shift", [0.0, 3.0])
@pytest.mark.parametrize(("n", "paired"), CASES)
def test_intervals_hold_the_truth_in_95_of_100(n, paired, shift):
    held = [one.low <= shift <= one.high for one in comparisons(n, paired, shift, seed=1)]
    low, high = bounds(0.95)
    assert low <= np.sum(held) <= high


def test_a_planted_effect_is_found():
    found = list(comparisons(8, True, shift=3.0, seed=5))
    assert np.mean([one.p <= 0.05 and one.low > 0.0 for one in found]) > 0.95


@pytest.mark.parametrize(("n", "paired"), [(3, True), (5, False)])
def test_any_wrong_verdict_without_an_effect_is_rarer_than_alpha(n, paired):
    # few comparisons here; `make slow-verdicts` has many, and more worlds
    found = simulate(World(n=(n, n, n), paired=paired), 40, seed=6)
    assert found.wrong <= binom.ppf(0.9995, 40, 0.05)


def distance(rng, n, shift):
    """Compare by W1 two conditions whose seeds vary."""
    runs = [Histogram.from_values(rng.normal(mean + 0.1 * rng.normal(), 1.0, 60)) for mean in [shift] * n + [0.0] * n]
    pooled = PooledCounts(runs)
    return assess(pooled.wasserstein, pooled.counts, Design(n, n, paired=False), floor=0.0)


def test_distances_have_false_positives_as_they_may_and_cover():
    rng = np.random.default_rng(7)
    null = [distance(rng, 5, 0.0) for _ in range(TIMES)]
    low, high = bounds(12 / 252)
    assert low <= sum(one.p <= 0.05 for one in null) <= high
    planted = [distance(rng, 5, 0.6) for _ in range(TIMES)]
    low, high = bounds(0.95)
    assert low <= sum(one.low <= 0.6 <= one.high for one in planted) <= high
    assert np.mean([one.p <= 0.05 for one in planted]) > 0.95
