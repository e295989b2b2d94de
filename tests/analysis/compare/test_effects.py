"""One effect: interval and p, beside scipy's and beside counting by hand."""

from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from scipy import stats

from dropdiag.analysis.compare.effects import assess, holm, jackknife, mean_difference
from dropdiag.analysis.compare.resampling import LABELLINGS, Design, _labels, _labels_as_float32
from dropdiag.errors import ArgumentError


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_the_interval_is_students_for_pairs_and_welchs_otherwise(rng):
    a, b = rng.normal(1.0, 2.0, 6), rng.normal(0.0, 1.0, 6)
    paired = mean_difference(a, b, paired=True, confidence=0.9)
    expected = stats.ttest_rel(a, b).confidence_interval(0.9)
    np.testing.assert_allclose([paired.low, paired.high], expected, rtol=1e-12)
    unpaired = mean_difference(a, b[:4], paired=False)
    expected = stats.ttest_ind(a, b[:4], equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose([unpaired.low, unpaired.high], expected, rtol=1e-12)
    assert (paired.interval, unpaired.interval) == ("t", "t")
    assert paired.effect == pytest.approx(np.mean(a - b))


def test_p_of_t_is_scipys_at_any_threshold(rng):
    a, b = rng.normal(1.0, 2.0, 6), rng.normal(0.0, 1.0, 6)
    assert mean_difference(a, b, paired=True).p_t == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-10)
    found = mean_difference(a, b[:4], paired=False)
    assert found.p_t == pytest.approx(stats.ttest_ind(a, b[:4], equal_var=False).pvalue, rel=1e-10)
    shifted = stats.ttest_ind(a - 0.3, b[:4], equal_var=False).pvalue
    assert found.estimate.p(0.3) == pytest.approx(shifted, rel=1e-10)


def difference(x, y):
    return abs(np.mean(x) - np.mean(y))


def welch(x, y):
    return abs(stats.ttest_ind(x, y, equal_var=False).statistic)


@pytest.mark.parametrize(("n", "m"), [(5, 6), (3, 9), (2, 7)])
def test_p_is_scipys_permutation_test_over_all_labellings(rng, n, m):
    a, b = rng.normal(0.8, 1.0, n), rng.normal(0.0, 1.0, m)
    found = mean_difference(a, b, paired=False)
    peer = stats.permutation_test((a, b), welch, n_resamples=np.inf, alternative="greater")
    assert found.p == pytest.approx(peer.pvalue, rel=1e-12)


def test_with_equal_numbers_it_is_the_permutation_test_of_the_difference(rng):
    a, b = rng.normal(0.8, 1.0, 5), rng.normal(0.0, 3.0, 5)
    peer = stats.permutation_test((a, b), difference, n_resamples=np.inf, alternative="greater")
    assert mean_difference(a, b, paired=False).p == pytest.approx(peer.pvalue, rel=1e-12)


def test_p_beside_the_numbers_that_a_large_offset_leaves(rng):
    a, b = rng.normal(0.5, 1.0, 5), rng.normal(0.0, 1.0, 6)
    plain, moved = (mean_difference(a + offset, b + offset, paired=False).p for offset in (0.0, 1e6))
    assert moved == plain


def test_p_is_scipys_for_pairs_and_says_what_so_many_can_give(rng):
    a, b = rng.normal(0.8, 1.0, 5), rng.normal(0.0, 1.0, 6)
    found = mean_difference(a, b, paired=False)
    assert (found.test, found.p_attainable) == ("permutation", pytest.approx(1 / 462))
    found = mean_difference(a, b[:5], paired=True)
    peer = stats.permutation_test((a, b[:5]), difference, permutation_type="samples", n_resamples=np.inf,
                                  alternative="greater")  # fmt: skip
    assert found.p == pytest.approx(peer.pvalue, rel=1e-12)
    assert (found.test, found.p_attainable) == ("sign flip", 0.0625)


@pytest.mark.parametrize(
    ("n", "m", "paired"), [(3, 3, True), (5, 5, True), (3, 3, False), (5, 5, False), (2, 4, False), (3, 6, False)]
)
def test_the_attainable_p_is_what_the_clearest_effect_gives(n, m, paired):
    a, b = 100.0 + 3.0 ** np.arange(n), 3.0 ** -np.arange(m)
    found = mean_difference(a, b, paired=paired)
    assert found.p == pytest.approx(found.p_attainable)
    values = np.concatenate([a, b])
    if paired:
        nulls = [abs(np.mean(np.array(signs) * (a - b))) for signs in product([1, -1], repeat=n)]
        least = np.mean(np.array(nulls) >= abs(found.effect) * (1 - 1e-9))
    else:
        chosen = [list(some) for some in combinations(range(n + m), n)]
        nulls = [welch(values[some], np.delete(values, some)) for some in chosen]
        least = np.mean(np.array(nulls) >= welch(a, b) * (1 - 1e-9))
    assert found.p_attainable == pytest.approx(least)


def test_many_labellings_are_drawn_and_counted_with_the_one_there_was(rng):
    a = rng.normal(5.0, 1.0, 20)
    found = mean_difference(a, a - 5.0, paired=True)
    assert found.p == found.p_attainable == 1 / LABELLINGS
    b = rng.normal(0.45, 1.0, 20)
    drawn = mean_difference(b, np.zeros(20), paired=True)
    signs = np.where(np.random.default_rng(8).integers(0, 2, (200_000, 20)) > 0, 1.0, -1.0)
    exact = np.mean(np.abs(signs @ b) >= abs(b.sum()))
    assert drawn.p == pytest.approx(exact, abs=4 * np.sqrt(exact / LABELLINGS))
    assert (drawn.p * LABELLINGS) == pytest.approx(round(drawn.p * LABELLINGS))  # (b + 1) / (m + 1)


@pytest.mark.parametrize("paired", [True, False])
def test_the_jackknife_of_a_mean_is_students_and_welchs(rng, paired):
    a, b = rng.normal(1.0, 2.0, 7), rng.normal(0.0, 1.0, 7)
    design, values = Design(7, 7, paired), np.concatenate([a, b])[:, None]

    def left_out(side):
        return side.sum() - side

    fewer = design.without_one(values)
    counts = design.without_one(np.ones((14, 1)))
    means = [(sums / number)[:, 0] for sums, number in zip(fewer, counts, strict=True)]
    np.testing.assert_allclose(fewer.condition[:7, 0], left_out(a))
    expected = mean_difference(a, b, paired=paired)
    found = jackknife(means[0] - means[1], design, expected.effect)
    np.testing.assert_allclose(found.interval(0.95), [expected.low, expected.high], rtol=1e-10)
    assert found.p() == pytest.approx(expected.p_t)


def test_one_seed_gives_an_effect_and_nothing_invented():
    found = mean_difference([3.0], [1.0], paired=True)
    assert (found.effect, found.interval, found.test, found.n) == (2.0, "none", "none", 1)
    assert np.isnan([found.low, found.high, found.p, found.p_attainable]).all()
    assert mean_difference([3.0], [1.0, 2.0, 4.0], paired=False).interval == "none"


def test_seeds_that_do_not_differ_have_an_interval_without_width():
    assert mean_difference([2.1, 2.1, 2.1], [1.0, 1.0, 1.0], paired=True).without_spread
    assert not mean_difference([2.1, 2.2, 2.1], [1.0, 1.0, 1.0], paired=True).without_spread


def test_the_floor_of_a_distance_is_kept():
    values = np.array([0.0, 1.0, 2.0, 0.5, 1.5, 0.9])[:, None]
    found = assess(
        lambda sums: np.abs(sums.condition - sums.baseline)[:, 0] / 3, values, Design(3, 3, False), floor=0.0
    )
    assert found.low == 0.0 < found.effect < found.high


def test_holm_is_its_definition_and_leaves_out_what_was_not_tested():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(holm(p), [0.04, np.nan, 0.09, 0.09, 0.5])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1.0, 1.0])
    assert holm([]).shape == (0,)


def test_what_is_no_sample_is_refused():
    with pytest.raises(ArgumentError, match="one length, got 2 and 3"):
        mean_difference([1.0, 2.0], [1.0, 2.0, 3.0], paired=True)
    with pytest.raises(ArgumentError, match="one finite value a run"):
        mean_difference([1.0, np.nan], [1.0, 2.0], paired=False)


def test_the_same_runs_give_the_same_numbers(rng):
    a, b = rng.normal(size=30), rng.normal(size=30)
    one, again = (mean_difference(a, b, paired=False, seed=5) for _ in range(2))
    other = mean_difference(a, b, paired=False, seed=6)
    assert one == again
    assert one.p != other.p
    assert (one.low, one.high) == (other.low, other.high)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("n", [3, 4])
def test_a_labelling_and_its_mirror_are_equally_far_also_where_seeds_hardly_differ(rng, n, spread):
    for _ in range(20):
        a, b = 1.0 + spread * rng.normal(size=n), spread * rng.normal(size=n)
        found = mean_difference(a, b, paired=False)
        assert found.p == mean_difference(b, a, paired=False).p == mean_difference(-a, -b, paired=False).p
        assert found.p >= found.p_attainable == pytest.approx(2 / comb(2 * n, n))


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("size", [300, 3_000_000])  # sums that float32 holds, and sums that it does not
def test_sums_of_counts_over_labellings_are_those_of_whole_numbers(rng, paired, size):
    _labels_as_float32.cache_clear()
    design = Design(30, 30, paired)
    rows = np.cumsum(rng.integers(0, size, (60, 8)), axis=1)
    labels = _labels(design, 0).astype(np.int64)
    mine, theirs = rows[:30], rows[30:]
    expected = mine.sum(axis=0) + labels @ (theirs - mine) if paired else labels @ rows
    found = list(design.relabelled(rows.astype(np.float64), 0))
    assert np.array_equal(np.concatenate([one.condition for one in found]), expected)
    assert np.array_equal(np.concatenate([one.baseline for one in found]), rows.sum(axis=0) - expected)
    assert _labels_as_float32.cache_info().currsize == (size == 300)
