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


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e-45, 3.4e38, 1 / 3])
@pytest.mark.parametrize("parts", [[1], [7], [1000], [3, 1, 500]])
def test_constant_values_have_no_spread_and_no_kurtosis(value, parts):
    sketch = Moments()
    for n in parts:
        part = Moments()
        part.update(torch.full((n,), value))
        sketch.merge(part)
    assert sketch.sd == 0
    assert torch.isnan(sketch.excess_kurtosis)


def test_what_float64_cannot_tell_apart_has_no_kurtosis():
    sketch = Moments()
    sketch.update(1 + 2.0**-52 * torch.arange(3, dtype=torch.float64))
    assert torch.isnan(sketch.excess_kurtosis)
    tiny = Moments()
    tiny.update(1e-90 * torch.arange(9, dtype=torch.float64))
    assert torch.isnan(tiny.excess_kurtosis)
    # the smallest and the largest float32 are well within
    for scale in (2.0**-149, 2.0**120):
        whole, x = Moments(), scale * torch.arange(9)
        whole.update(x)
        assert whole.excess_kurtosis.item() == pytest.approx(stats.kurtosis(np.arange(9)), rel=1e-12)


def test_no_values_give_nan_and_not_zero():
    assert np.isnan(AbsMean().mean())
    assert torch.isnan(Moments().mean)
    assert torch.isnan(Moments().sd)
    assert torch.isnan(Moments().excess_kurtosis)
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
