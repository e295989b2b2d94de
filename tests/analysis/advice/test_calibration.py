"""How often advice is wrong and right in simulated sweeps, in short; tests/slow/test_advice.py has all of it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.advice import ALPHA, FLAT, World, beside_rates, outside, simulate
from dropdiag.analysis.advice.advice import judge

TIMES = 120


def most(rate: float, times: int) -> float:
    """Return the greatest share that a rate gives, but for three of its standard errors."""
    return rate + 3.0 * float(np.sqrt(rate * (1.0 - rate) / times))


def test_wrong_advice_is_rarer_than_alpha_where_nothing_differs():
    assert simulate(World(FLAT), TIMES, seed=1).share("wrong") <= most(ALPHA, TIMES)


def test_a_gap_of_two_standard_deviations_at_five_seeds_is_told_in_eight_of_ten():
    found = simulate(World((0.0, -2.0, -2.0), gap=10.0), TIMES, seed=2)
    assert found.share("exact") >= 0.8 - 3.0 * np.sqrt(0.8 * 0.2 / TIMES)
    assert found.share("wrong") <= most(ALPHA, TIMES)


def test_what_counts_as_wrong_is_what_a_page_asserts():
    world = World((0.0, -9.0), gap=30.0, rising=(9.0, 0.0))
    advice = judge(world.draw(np.random.default_rng(3)))
    assert any(one.rule == "gap" and one.found for one in advice.findings)
    assert not beside_rates(advice, world)
    assert beside_rates(advice, World((0.0, -9.0), gap=0.0, rising=(9.0, 0.0)))
    assert beside_rates(advice, World((0.0, -9.0), gap=30.0, rising=(0.0, 0.0)))
    assert outside(advice) == set()  # no verdict: training had not converged


@pytest.mark.parametrize("paired", [True, False])
def test_the_world_has_the_spread_and_the_means_that_it_says(paired):
    world = World((0.0, -3.0), seeds=4000, paired=paired)
    values = world.draw(np.random.default_rng(4)).blocks.whole
    apart = values[:, 0] - values[:, 1]
    unit = apart.std()
    assert apart.mean() / unit == pytest.approx(3.0 if paired else 3.0 / np.sqrt(1.0 + 1.5**2), rel=0.06)
