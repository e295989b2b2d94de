import numpy as np
import pytest
import torch
from scipy import stats

from dropdiag.sketches import AbsMean, IntervalCounts, Moments


def test_kurtosis_and_sd_are_scipys():
    x = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=10_000)) + 1e4
    sketch = Moments()
    for part in x.split(777):
        sketch.update(part)
    np.testing.assert_allclose(sketch.excess_kurtosis.item(), stats.kurtosis(x.numpy()), rtol=1e-6)
    np.testing.assert_allclose(sketch.sd.item(), x.numpy().std(), rtol=1e-9)


def test_no_values_give_nan_and_not_zero():
    assert np.isnan(AbsMean().mean())
    assert torch.isnan(Moments().mean)
    assert np.isnan(IntervalCounts([[(0.0, 1.0)]]).shares()).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_share_is_missing_where_a_value_is_not_finite(dtype):
    sketch = IntervalCounts([[(-np.inf, -1.0)], [(1.0, np.inf)], [(-np.inf, np.inf)]])
    sketch.update(torch.tensor([np.nan, np.inf, -np.inf], dtype=dtype))
    assert sketch.n == 0
    assert np.isnan(sketch.shares()).all(), "a network that has diverged has no share, rather than one of 0"
    whole = IntervalCounts(sketch.sets)
    whole.update(torch.tensor([-2.0, 0.0, 1.0, torch.finfo(dtype).max], dtype=dtype))
    assert whole.shares() == [0.25, 0.5, 1.0]
    whole.merge(sketch)
    assert (whole.n, whole.seen) == (4, 7)
    assert np.isnan(whole.shares()).all(), "what is still finite of a network that has diverged says nothing"


def test_half_precision_is_summed_without_overflow_or_lost_digits():
    for dtype in (torch.float16, torch.bfloat16):
        sketch = AbsMean()
        sketch.update(torch.full((70_000,), 1.0, dtype=dtype))
        assert sketch.mean() == 1.0
        assert sketch.total == 70_000


def test_interval_borders_are_exact_in_every_dtype():
    border = 1.8184464592320668
    near = np.float32(border)
    x = np.array([np.nextafter(near, np.float32(0)), near, np.nextafter(near, np.float32(9))], dtype=np.float32)
    sketch = IntervalCounts([[(border, np.inf)], [(-np.inf, border)]])
    sketch.update(torch.from_numpy(x))
    assert sketch.counts == [(x.astype(float) >= border).sum(), (x.astype(float) <= border).sum()]
    half = IntervalCounts([[(1.815, np.inf)]])
    half.update(torch.tensor([1.8125, 1.8203125], dtype=torch.bfloat16))
    assert half.counts == [1]
