"""Holm's weighted test beside its definition, and what it keeps."""

from itertools import chain, combinations

import numpy as np
import pytest

from dropdiag.analysis.claims.rules import weighted_holm
from dropdiag.analysis.compare.effects import holm


def closed(p, weights, alpha):
    """Reject what every intersection that holds it rejects (Marcus, Peritz and Gabriel 1976), by weighted Bonferroni."""
    k = range(len(p))
    every = list(chain.from_iterable(combinations(k, n) for n in range(1, len(p) + 1)))
    rejected = {some for some in every if any(p[i] <= alpha * weights[i] / sum(weights[j] for j in some) for i in some)}
    return [all(some in rejected for some in every if i in some) for i in k]


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_it_rejects_what_closed_testing_rejects(alpha):
    rng = np.random.default_rng(1)
    for _ in range(200):
        k = rng.integers(1, 6)
        p, weights = rng.uniform(0, 3 * alpha, k), rng.choice([1.0, 0.5, 1 / 3, 0.25], k)
        found = weighted_holm(p, weights, alpha)
        assert (found.adjusted <= alpha).tolist() == closed(p, weights, alpha)
        # each test at its final level says the same
        assert (p <= found.level).tolist() == closed(p, weights, alpha)


def test_with_equal_weights_it_is_holms():
    p = np.random.default_rng(2).uniform(0, 0.1, 20)
    np.testing.assert_allclose(weighted_holm(p, np.full(20, 0.3), 0.05).adjusted, holm(p))


def test_nothing_is_no_family():
    assert weighted_holm([], [], 0.05).adjusted.size == 0


def test_any_false_rejection_is_rarer_than_alpha():
    rng = np.random.default_rng(3)
    weights = np.array([1.0, 0.5, 0.5, 1 / 3, 1 / 3, 1 / 3])
    wrong = sum((weighted_holm(rng.uniform(size=6), weights, 0.05).adjusted <= 0.05).any() for _ in range(4000))
    assert wrong / 4000 == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 4000))
