"""The set of doses keeps the true best one, and finds a worse one, as often as the documentation says."""

import numpy as np
import pytest

from benchmarks.dose_response import ALPHA, alike, missed, power, trend_worlds, trends

pytestmark = pytest.mark.slow

TIMES = 1000


def most(rate):
    """Return the greatest share that a rate gives, but for three of its standard errors."""
    return rate + 3.0 * np.sqrt(rate * (1.0 - rate) / TIMES)


@pytest.mark.parametrize("name", alike(3))
@pytest.mark.parametrize("doses", [2, 3, 9])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_true_best_dose_is_outside_no_more_often_than_alpha(seeds, doses, name, record_property):
    rate = missed(alike(doses)[name], seeds, TIMES, seed=5)
    record_property("missed", rate)
    # t is not exact for skewed values of unlike variances, as the page says: there the rate is told and not promised
    assert rate <= most(ALPHA if name != "skewed, best sd 4" else 3 * ALPHA)


@pytest.mark.parametrize("doses", [2, 3, 5, 9])
def test_five_seeds_find_a_dose_that_is_two_standard_deviations_worse(doses):
    found = power(doses, 5, TIMES, seed=6)
    assert found["the only worse one"] > 0.8 - 3.0 * np.sqrt(0.8 * 0.2 / TIMES)
    assert power(doses, 10, TIMES // 4, seed=6)["one of all others"] > 0.95


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_trend_that_is_not_there_is_seen_no_more_often_than_alpha(seeds):
    for name, world in trend_worlds(4).items():
        if name.startswith("none"):
            assert trends(world, seeds, TIMES, seed=7) <= most(ALPHA), name
