"""How often advice is wrong and right, simulated: wrong at most alpha in every world, right where docs/advice.md says."""

import numpy as np
import pytest

from benchmarks.advice import ALPHA, EFFECTS, GAPS, NULLS, RISES, World, simulate

pytestmark = pytest.mark.slow

TIMES = 400
WORLDS = {**NULLS, **EFFECTS, **GAPS, **RISES}


def most(rate, times=TIMES):
    """Return the greatest share that a rate gives, but for three of its standard errors."""
    return rate + 3.0 * np.sqrt(rate * (1.0 - rate) / times)


@pytest.mark.parametrize("name", WORLDS)
def test_anything_wrong_is_rarer_than_alpha(name, record_property):
    found = simulate(WORLDS[name], TIMES, seed=21)
    record_property("wrong", found.share("wrong"))
    assert found.share("wrong") <= most(ALPHA)


@pytest.mark.parametrize("rates", [2, 3, 4])
def test_two_standard_deviations_at_five_seeds_are_told_in_eight_of_ten(rates):
    found = simulate(World((0.0, *(-2.0,) * (rates - 1)), gap=10.0), TIMES, seed=22)
    assert found.share("exact") >= 0.8 - 3.0 * np.sqrt(0.8 * 0.2 / TIMES)


def test_runs_that_all_rise_by_four_have_no_verdict_in_nine_of_ten():
    assert simulate(RISES["all rise by 4 sd in the last third"], TIMES, seed=23).share("truncated") >= 0.9
