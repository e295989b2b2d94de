"""How far a tensor has moved, against numpy."""

import numpy as np
import pytest
import torch

from dropdiag.sketches.change import Change, ChangeNorm


def moved(before, now):
    found = ChangeNorm()
    found.update(Change(before, now))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_is_numpys_ratio_of_norms_however_the_tensor_is_split(dtype):
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(300, 401, generator=generator).to(dtype)
    now = (before + 1e-3 * torch.randn(300, 401, generator=generator)).to(dtype).t().contiguous().t()
    a, b = (x.to(torch.float64).numpy() for x in (before, now))
    expected = np.linalg.norm(b - a) / np.linalg.norm(a)
    union = ChangeNorm()
    for parts in zip(before.split(70), now.split(70), strict=True):
        union.merge(moved(*parts))
    assert moved(before, now).ratio() == pytest.approx(expected, rel=1e-12)
    assert union.ratio() == pytest.approx(expected, rel=1e-12)
    assert union.n == 300 * 401


def test_nothing_moved_is_0_and_what_was_0_has_no_ratio():
    x = torch.ones(3)
    assert moved(x, x).ratio() == 0.0
    assert moved(0 * x, x).ratio() is None
    assert ChangeNorm().ratio() is None
    assert moved(torch.empty(0), torch.empty(0)).ratio() is None
    assert np.isnan(moved(x, x * torch.nan).ratio())


def test_on_another_device_it_stays_a_tensor():
    x = torch.ones(3, device="meta")
    assert moved(x, x).ratio().is_meta
