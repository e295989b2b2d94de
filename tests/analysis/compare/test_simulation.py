"""Under the null, with an effect, and how often intervals hold the truth: 1,000 comparisons each, seeds fixed."""

import numpy as np
import pytest
from scipy.stats import binom

from dropdiag.analysis.claims.rules import CONTRADICTED, SUPPORTED, Numbers, one_sided
from dropdiag.analysis.compare.distances import PooledCounts
from dropdiag.analysis.compare.effects import BCA_FROM, assess, bca_interval, mean_difference
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
    level = np.floor(0.05 / design.attainable + 1e-9) * design.attainable
    low, high = bounds(level)
    assert low <= np.sum(found) <= high


@pytest.mark.parametrize("shift", [0.0, 3.0])
@pytest.mark.parametrize(("n", "paired"), CASES)
def test_intervals_hold_the_truth_in_95_of_100(n, paired, shift):
    held = [one.low <= shift <= one.high for one in comparisons(n, paired, shift, seed=1)]
    low, high = bounds(0.95)
    assert low <= np.sum(held) <= high


def bca_coverage(n, paired):
    """Count of the BCa intervals that hold the true difference of two normal means."""
    rng = np.random.default_rng([n, paired])
    design, held = Design(n, n, paired), 0
    for _ in range(TIMES):
        values = np.concatenate([rng.normal(1.0, 1.0, n), np.zeros(n) if paired else rng.normal(0.0, 1.0, n)])

        def statistic(weights, values=values):
            return (weights.condition - weights.baseline) @ values / n

        effect = values[:n].mean() - values[n:].mean()
        low, high = bca_interval(statistic, design, effect, 0.95, n_boot=1000, seed=0)
        held += low <= 1.0 <= high
    return held


@pytest.mark.parametrize(("paired", "most"), [(True, 0.88), (False, 0.90)])
def test_bca_at_five_seeds_covers_too_little_and_so_it_is_not_used_there(paired, most):
    assert bca_coverage(5, paired) < most * TIMES
    assert mean_difference(range(5), range(0, 10, 2), paired=paired).interval == "t"


@pytest.mark.parametrize("paired", [True, False])
def test_bca_from_where_it_is_used(paired):
    low, high = bounds(0.95)
    assert low <= bca_coverage(BCA_FROM, paired) <= high


def test_a_planted_effect_is_found():
    found = list(comparisons(8, True, shift=3.0, seed=5))
    assert np.mean([one.p <= 0.05 and one.low > 0.0 for one in found]) > 0.95


@pytest.mark.parametrize(("n", "paired"), [(5, True), (6, False), (10, True)])
def test_a_verdict_without_an_effect_is_rarer_than_alpha(n, paired):
    said = [
        one_sided(Numbers(one.low, one.high, 0.0, 0.0, one.p, one.p, one.p_attainable), 0.05)
        for one in comparisons(n, paired, seed=6)
    ]
    for verdict in (SUPPORTED, CONTRADICTED):
        assert said.count(verdict) <= bounds(0.025)[1]
    assert said.count(SUPPORTED) > 0


def distance(rng, n, shift):
    """W1 of two conditions whose seeds vary, and its design."""
    runs = [Histogram.from_values(rng.normal(mean + 0.1 * rng.normal(), 1.0, 60)) for mean in [shift] * n + [0.0] * n]
    return PooledCounts(runs).wasserstein, Design(n, n, paired=False)


def test_distances_have_false_positives_as_they_may_and_cover():
    rng = np.random.default_rng(7)
    null = [assess(*distance(rng, 5, 0.0), floor=0.0) for _ in range(TIMES)]
    low, high = bounds(12 / 252)
    assert low <= sum(one.p <= 0.05 for one in null) <= high
    planted = [assess(*distance(rng, 5, 0.6), floor=0.0) for _ in range(TIMES)]
    low, high = bounds(0.95)
    assert low <= sum(one.low <= 0.6 <= one.high for one in planted) <= high
    assert np.mean([one.p <= 0.05 for one in planted]) > 0.95
