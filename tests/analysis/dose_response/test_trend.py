"""Page's test and slopes, beside all permutations, numpy's fit and scipy's t test."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dropdiag.analysis.dose_response.trend import trend
from dropdiag.errors import ArgumentError

DOSES = (0.0, 0.1, 0.5)


def page_by_hand(values: np.ndarray) -> float:
    """Return twice the smaller tail of L over all ways to permute the doses within each seed."""
    ranks = stats.rankdata(values, axis=1)
    places = np.arange(1, values.shape[1] + 1)
    every = [[np.dot(places, order) for order in permutations(row)] for row in ranks]
    null = np.array([sum(one) for one in product(*every)])
    seen = float((ranks @ places).sum())
    return float(min(1.0, 2.0 * min((null >= seen).mean(), (null <= seen).mean())))


@pytest.mark.parametrize("shift", [0.0, 1.0, -1.0])
def test_p_is_that_of_all_permutations(rng: np.random.Generator, shift: float) -> None:
    values = rng.normal(size=(4, 3)) + shift * np.arange(3)
    assert trend(values, DOSES).p == pytest.approx(page_by_hand(values))


def test_falling_counts_as_rising_does(rng: np.random.Generator) -> None:
    values = rng.normal(size=(5, 4)) + np.arange(4)
    up, down = trend(values), trend(-values)
    assert up.p == down.p < 0.01
    assert up.slope == -down.slope > 0.0
    assert (up.low, up.high) == pytest.approx((-down.high, -down.low))


def test_slope_and_bend_are_the_means_of_the_seeds_own_fits(rng: np.random.Generator) -> None:
    values = 1e6 + rng.normal(size=(5, 3)) + 10.0 * np.array(DOSES) ** 2
    lines = np.array([np.polyfit(DOSES, row, 1)[0] for row in values])
    curves = np.array([np.polyfit(DOSES, row, 2)[0] for row in values])
    found = trend(values, DOSES, alpha=0.1)
    assert found.slope == pytest.approx(lines.mean(), rel=1e-6)
    interval = stats.ttest_1samp(lines, 0.0).confidence_interval(0.9)
    np.testing.assert_allclose([found.low, found.high], interval, rtol=1e-6)
    assert found.bend == pytest.approx(curves.mean(), rel=1e-6)
    assert found.bend_p == pytest.approx(stats.ttest_1samp(curves, 0.0).pvalue, rel=1e-6)


def test_a_hill_has_no_trend_but_a_bend(rng: np.random.Generator) -> None:
    found = trend(np.array([0.0, 2.0, 3.0, 2.0, 0.0]) + 0.3 * rng.normal(size=(6, 5)))
    assert found.p > 0.05
    assert found.bend < 0.0
    assert found.bend_p < 1e-4
    assert not found.monotone
    assert (found.highest, found.lowest) in [(2, 0), (2, 4)]
    assert trend([[0.0, 1.0, 1.0], [0.0, 1.0, 1.5]]).monotone


@pytest.mark.parametrize("gap", [np.nan, np.inf])
def test_a_seed_with_a_gap_is_left_out_whole(rng: np.random.Generator, gap: float) -> None:
    values = rng.normal(size=(5, 3))
    holed = values.copy()
    holed[[1, 3], [0, 2]] = gap
    found = trend(holed, DOSES)
    assert found.left_out == (1, 3)
    assert found.blocks == 3
    whole = trend(values[[0, 2, 4]], DOSES)
    assert (found.slope, found.low, found.p) == (whole.slope, whole.low, whole.p)


def test_two_doses_have_the_paired_t(rng: np.random.Generator) -> None:
    values = rng.normal(size=(5, 2)) + np.array([0.0, 1.0])
    found = trend(values, (0.0, 0.2))
    assert found.p == pytest.approx(stats.ttest_rel(values[:, 1], values[:, 0]).pvalue)
    assert found.test == "paired t"
    assert found.slope == pytest.approx(np.diff(values).mean() / 0.2)


def test_one_seed_has_a_slope_alone() -> None:
    found = trend([[1.0, 2.0, 4.0]])
    assert found.slope == pytest.approx(1.5)
    assert np.isnan([found.low, found.high, found.p]).all()
    assert (found.test, found.note) == ("none", "one seed: no interval, no p")


def test_no_whole_seed_has_nothing() -> None:
    found = trend([[np.nan, 2.0, 4.0]])
    assert np.isnan([found.slope, found.p]).all()
    assert (found.blocks, found.left_out, found.note) == (0, (0,), "no seed has a value at every dose")


@pytest.mark.parametrize("values", [np.full((4, 3), 0.1), np.tile([0.1, 0.2, 0.3], (4, 1)), np.full((4, 2), 0.1)])
def test_seeds_that_do_not_differ_have_no_interval(values: np.ndarray) -> None:
    found = trend(values)
    assert np.isnan([found.low, found.high]).all()
    assert found.note.startswith("the seeds do not differ: no interval")
    assert found.p == 1.0 or found.p < 0.01 or np.isnan(found.p)
    assert found.slope == pytest.approx(0.1 if np.ptp(values) else 0.0)


def test_ties_make_p_no_smaller_than_the_permutations(rng: np.random.Generator) -> None:
    for _ in range(20):
        values = np.round(rng.normal(size=(4, 3)) + 0.5 * np.arange(3))
        assert trend(values).p >= page_by_hand(values) - 1e-12


@pytest.mark.parametrize("values", [[1.0, 2.0], [[1.0], [2.0]]])
def test_what_is_no_table_is_refused(values: Any) -> None:
    with pytest.raises(ArgumentError, match="a row a seed and a column a dose"):
        trend(values)


def test_doses_must_ascend() -> None:
    with pytest.raises(ArgumentError, match=r"doses must ascend, one a column of 2, got \(0.1, 0.1\)"):
        trend([[1.0, 2.0]], (0.1, 0.1))
