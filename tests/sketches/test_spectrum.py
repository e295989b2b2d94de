import numpy as np
import pytest
import torch

from dropdiag.analysis.correlation import null_effective_rank, null_participation_ratio
from dropdiag.sketches import Covariance
from dropdiag.sketches.spectrum import effective_rank, participation_ratio


def both(x):
    sketch = Covariance()
    sketch.update(torch.from_numpy(np.asarray(x)))
    r = sketch.correlation()
    return float(participation_ratio(r)), effective_rank(r, sketch.samples())


def by_numpy(x):
    values = np.linalg.eigvalsh(np.corrcoef(x, rowvar=False)).clip(0)
    shares = values[values > 1e-12] / values.sum()
    return values.sum() ** 2 / (values**2).sum(), np.exp(-(shares * np.log(shares)).sum())


@pytest.mark.parametrize(("samples", "nodes"), [(500, 30), (20, 60)])  # more samples than nodes, and fewer
def test_they_are_those_of_numpys_eigenvalues(samples, nodes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, nodes)) @ rng.normal(size=(nodes, nodes)) + 5.0
    np.testing.assert_allclose(both(x), by_numpy(x), rtol=1e-6)


def test_copies_span_one_dimension_and_independent_nodes_all():
    rng = np.random.default_rng(1)
    one = rng.normal(size=(400, 1))
    np.testing.assert_allclose(both(one * np.array([1.0, -2.0, 30.0])), [1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(both(np.linalg.qr(rng.normal(size=(400, 8)) - 0.0)[0]), [8.0, 8.0], rtol=0.05)


def test_constant_nodes_take_no_part():
    x = np.random.default_rng(2).normal(size=(300, 10))
    padded = np.insert(x, [3, 7], 0.25, axis=1)
    np.testing.assert_allclose(both(padded), both(x), rtol=1e-9)
    assert np.isnan(both(np.ones((5, 3)))).all()


@pytest.mark.parametrize(("samples", "nodes"), [(2048, 256), (300, 200), (100, 400)])
def test_independent_nodes_give_the_null_of_so_many_samples(samples, nodes):
    x = np.random.default_rng(3).normal(size=(samples, nodes))
    expected = null_participation_ratio(nodes, samples), null_effective_rank(nodes, samples)
    np.testing.assert_allclose(both(x), expected, rtol=0.01)
    shuffled = np.random.default_rng(4).permuted(np.sign(x) * x**2, axis=0)  # whatever the distribution
    np.testing.assert_allclose(both(shuffled), expected, rtol=0.02)


def test_on_an_accelerator_no_eigenvalues_are_taken_for_the_host_would_wait():
    r = torch.eye(3, dtype=torch.float64, device="meta")
    assert effective_rank(r, torch.empty(5, 3, device="meta")) is None
    assert participation_ratio(r).is_meta
