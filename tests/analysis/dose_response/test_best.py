"""The set of doses beside a slow version, published critical values, and runs of which the best dose is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dropdiag.analysis.dose_response.best import FIRST, LATER, cannot_be_told_from_best
from dropdiag.analysis.dose_response.critical import critical, p_of_greatest
from dropdiag.errors import ArgumentError


def by_hand(values: np.ndarray) -> list[float]:
    """Take doses out one by one, with scipy's paired t and Sidak's p; return their p."""
    left, p, before = list(range(values.shape[1])), [1.0] * values.shape[1], 0.0
    while len(left) > 1:
        t = {
            d: [stats.ttest_rel(values[:, j], values[:, d], alternative="greater") for j in left if j != d]
            for d in left
        }
        worst = max(left, key=lambda d: max(one.statistic for one in t[d]))
        chance = 1.0 - (1.0 - min(one.pvalue for one in t[worst])) ** (len(left) - 1)
        share = FIRST if len(left) == values.shape[1] else LATER
        p[worst] = before = max(before, min(1.0, chance / share))
        left.remove(worst)
    return p


def drawn(blocks: int, others: int, sd: float, times: int = 40_000) -> np.ndarray:
    """Draw the greatest t of doses beside one of some standard deviation, from which they do not differ."""
    null = np.random.default_rng(11).normal(size=(times, blocks, others + 1)) * ([sd] + [1.0] * others)
    t = [stats.ttest_rel(null[:, :, j], null[:, :, 0], axis=1).statistic for j in range(1, others + 1)]
    return np.asarray(np.max(t, axis=0))


@pytest.mark.parametrize(("blocks", "others"), [(3, 2), (5, 8)])
def test_the_greatest_of_independent_t_is_as_drawn_and_that_of_others_is_no_greater(blocks: int, others: int) -> None:
    at = critical(0.05, blocks, others)
    assert (drawn(blocks, others, 0.0) > at).mean() == pytest.approx(0.05, abs=0.004)
    assert (drawn(blocks, others, 1.0) > at).mean() < 0.05
    assert p_of_greatest(at, blocks, others) == pytest.approx(0.05)
    assert p_of_greatest(1e4, blocks, others) > 0.0


@pytest.mark.parametrize(("others", "published"), [(2, 1.92), (3, 2.06), (4, 2.16), (8, 2.42)])
def test_critical_values_are_a_little_above_those_of_dunnett(others: int, published: float) -> None:
    """Dunnett (1955), table 1a: one-sided, 5 %, infinitely many degrees of freedom, doses that vary alike."""
    assert published < critical(0.05, 100_000, others) < published + 0.1


def test_of_two_doses_it_is_student_s_t(rng: np.random.Generator) -> None:
    values = rng.normal(size=(5, 2)) + np.array([0.0, 1.0])
    found = cannot_be_told_from_best(values, less_is_better=False, alpha=0.1)
    t = stats.ttest_rel(values[:, 1], values[:, 0], alternative="greater")
    assert found.p[0] == pytest.approx(t.pvalue)
    assert found.p[1] == 1.0
    assert found.low[0] == pytest.approx(t.confidence_interval(0.9).low)


def test_it_is_what_the_slow_version_finds(rng: np.random.Generator) -> None:
    sets = set()
    for _ in range(20):
        values = rng.normal(size=(5, 4)) + np.array([0.0, 1.0, 2.0, 4.0])
        found = cannot_be_told_from_best(values, less_is_better=False)
        np.testing.assert_allclose(found.p, by_hand(values), rtol=1e-9)
        sets.add(found.inside)
    assert len(sets) > 2


def test_less_may_be_better(rng: np.random.Generator) -> None:
    values = rng.normal(size=(5, 3)) + np.array([0.0, 1.0, 9.0])
    more, less = (cannot_be_told_from_best(sign * values, less_is_better=sign < 0) for sign in (1, -1))
    assert more == less
    assert more.best == 2
    assert more.inside == (False, False, True)


def test_behind_is_the_shortfall_and_its_bounds_say_who_is_outside(rng: np.random.Generator) -> None:
    for _ in range(20):
        values = rng.normal(size=(6, 5)) + rng.normal(0, 1.5, size=5)
        found, means = cannot_be_told_from_best(values, less_is_better=False), values.mean(axis=0)
        assert found.best == means.argmax()
        expected = [np.delete(means, d).max() - means[d] for d in range(5)]
        np.testing.assert_allclose(found.behind, expected)
        assert [low <= 0.0 for low in found.low] == list(found.inside) == [p > 0.05 for p in found.p]
        assert all(low <= high for low, high in zip(found.low, found.high, strict=True))
        assert found.inside[found.best]


def test_the_true_best_is_outside_no_more_often_than_alpha() -> None:
    """All doses alike: each is the best, and the guarantee is at its limit."""
    rng = np.random.default_rng(5)
    missed = [not cannot_be_told_from_best(rng.normal(size=(5, 4)), less_is_better=False, alpha=0.2).inside[0]
              for _ in range(500)]  # fmt: skip
    assert 0.2 * 0.5 < np.mean(missed) < 0.2 + 3 * np.sqrt(0.2 * 0.8 / 500)


def test_seeds_share_what_they_have_in_common(rng: np.random.Generator) -> None:
    values = rng.normal(size=(5, 3)) + np.array([0.0, 1.0, 9.0])
    found = cannot_be_told_from_best(values + 100.0 * rng.normal(size=(5, 1)), less_is_better=False)
    np.testing.assert_allclose(found.p, cannot_be_told_from_best(values, less_is_better=False).p, rtol=1e-9)


def test_a_seed_with_a_gap_is_left_out_whole(rng: np.random.Generator) -> None:
    values = rng.normal(size=(5, 3)) + np.array([0.0, 1.0, 9.0])
    holed = values.copy()
    holed[2, 0] = np.nan
    found = cannot_be_told_from_best(holed, less_is_better=False)
    assert (found.blocks, found.left_out) == (4, (2,))
    assert found.p == cannot_be_told_from_best(np.delete(values, 2, axis=0), less_is_better=False).p


def test_one_seed_tells_nothing_apart() -> None:
    found = cannot_be_told_from_best([[1.0, 5.0, 2.0]], less_is_better=False)
    assert found.inside == (True, True, True)
    assert found.best == 1
    assert found.behind == (4.0, -3.0, 3.0)
    assert np.isnan(found.low).all()
    assert found.note == "one seed: no dose can be told from another"
    assert cannot_be_told_from_best([[np.nan, 1.0]], less_is_better=False).note == "no seed has a value at every dose"


def test_seeds_that_do_not_differ_tell_nothing_apart() -> None:
    found = cannot_be_told_from_best(np.tile([0.1, 0.2, 0.3], (5, 1)), less_is_better=False)
    assert found.inside == (True, True, True)
    assert np.isinf(found.low).all()
    assert "do not differ" in found.note


@pytest.mark.parametrize("alpha", [0.0, 1.0, float("nan")])
def test_alpha_is_a_probability(alpha: float) -> None:
    with pytest.raises(ArgumentError, match="alpha must lie between 0 and 1"):
        cannot_be_told_from_best([[1.0, 2.0]], less_is_better=False, alpha=alpha)
