"""Multiple correlation against least squares, node by node."""

import numpy as np
import pytest

from dropdiag.store.merging.multiple_correlation import multiple_correlation, null_multiple_correlation


def by_least_squares(x):
    """Return R^2 of each column on all others and a constant."""
    squared = []
    for i in range(x.shape[1]):
        others = np.column_stack([np.ones(len(x)), np.delete(x, i, axis=1)])
        left = x[:, i] - others @ np.linalg.lstsq(others, x[:, i], rcond=None)[0]
        squared.append(1 - left.var() / x[:, i].var())
    return np.array(squared)


def adjusted(squared, n):
    return (1 - (1 - squared) * (n - 1) / (n - len(squared))).mean()


def told(x):
    return multiple_correlation(np.corrcoef(x, rowvar=False), len(x))


@pytest.mark.parametrize(("samples", "nodes"), [(200, 12), (40, 39), (500, 2)])
def test_it_is_the_mean_adjusted_r_squared_of_least_squares(samples, nodes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, nodes)) @ rng.normal(size=(nodes, nodes)) + 5.0
    expected = adjusted(by_least_squares(x), samples)
    assert told(x) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    if nodes == 12:
        assert told(x) == pytest.approx(expected, rel=1e-12)


def test_independent_nodes_have_none_once_it_is_adjusted_and_the_null_before():
    rng = np.random.default_rng(1)
    squared = np.array([by_least_squares(rng.normal(size=(100, 20))) for _ in range(40)])
    assert squared.mean() == pytest.approx(null_multiple_correlation(20, 100), rel=0.03)
    assert null_multiple_correlation(20, 100) == 19 / 99
    means = [told(rng.normal(size=(100, 20))) for _ in range(200)]
    assert abs(np.mean(means)) < 4 * np.std(means) / 200**0.5


def test_a_node_that_copies_another_is_told_wholly_and_the_others_keep_what_they_have():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 10)) @ rng.normal(size=(10, 10))
    copied = np.column_stack([x, -3.0 * x[:, 4]])
    # two nodes that answer to one sample alone, and the same, are copies as well
    for value in (2.0, 5.0):
        copied = np.column_stack([copied, np.where(np.arange(300) == 7, value, 0.0)])
    squared = by_least_squares(copied)
    assert squared[[4, 10, 11, 12]] == pytest.approx(1.0)
    assert squared[:10].min() < 0.95
    assert told(copied) == pytest.approx(adjusted(squared, 300), abs=2e-4)
    rounded = copied.astype(np.float32)
    r = np.corrcoef(rounded, rowvar=False, dtype=np.float32).astype(np.float64)
    assert multiple_correlation(np.clip(r, -1, 1), 300) == pytest.approx(adjusted(squared, 300), abs=2e-4)


def test_it_is_missing_where_samples_do_not_suffice_or_rounding_decides():
    rng = np.random.default_rng(3)
    assert told(rng.normal(size=(20, 20))) is None
    assert told(rng.normal(size=(20, 30))) is None
    assert multiple_correlation(np.ones((1, 1)), 50) is None
    assert multiple_correlation(np.ones((0, 0)), 50) is None
    assert null_multiple_correlation(20, 20) is None
    assert null_multiple_correlation(1, 20) is None
    # powers: each is told by large multiples of the others, and so are their errors
    assert told(np.vander(1.0 + 0.3 * rng.normal(size=300), 9)[:, :8]) is None
    assert np.isnan(multiple_correlation(np.full((3, 3), np.nan), 50))
