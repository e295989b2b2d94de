import numpy as np
import pytest
import torch

from dropdiag.errors import ArgumentError
from dropdiag.sketches import Covariance


def test_correlation_is_numpys_and_constant_nodes_are_excluded():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)) + 1e3
    x[:, 2] = 0.1
    sketch = Covariance()
    for part in np.array_split(x.astype(np.float32), 7):
        sketch.update(torch.from_numpy(part))
    keep = [0, 1, 3, 4, 5]
    r = np.corrcoef(x.astype(np.float32).astype(np.float64)[:, keep], rowvar=False)
    np.testing.assert_allclose(sketch.correlation().numpy()[np.ix_(keep, keep)], r, rtol=1e-6, atol=1e-6)
    assert sketch.constant().tolist() == [False, False, True, False, False, False]
    assert torch.isnan(sketch.correlation()[2]).all()
    np.testing.assert_allclose(np.sort(sketch.pairs().numpy()), np.sort(r[np.triu_indices(5, 1)]), rtol=1e-5)


def test_a_large_offset_does_not_cancel():
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e8
    sketch = Covariance()
    for part in x.split(100):
        sketch.update(part)
    np.testing.assert_allclose(sketch.covariance().numpy(), np.cov(x.numpy(), rowvar=False, bias=True), rtol=1e-6)


def test_positions_are_samples_where_the_node_axis_says_so():
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    sketch = Covariance(lambda ndim: 1)
    sketch.update(x)
    assert (sketch.n, sketch.width) == (90, 4)
    flat = x.movedim(1, -1).reshape(-1, 4).double().numpy()
    np.testing.assert_allclose(sketch.covariance().numpy(), np.cov(flat, rowvar=False, bias=True), rtol=1e-5, atol=1e-6)


def test_wide_layers_use_the_same_seeded_subset_without_touching_the_global_generator():
    state = torch.get_rng_state()
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    a, b = Covariance(max_nodes=8), Covariance(max_nodes=8)
    a.update(x)
    b.update(x[:20])
    b.update(x[20:])
    assert (a.nodes, a.width) == (8, 40)
    torch.testing.assert_close(a.covariance(), b.covariance())
    assert torch.equal(a._subset, a._subset.unique())
    assert not torch.equal(a.covariance(), (c := Covariance(max_nodes=8, seed=1), c.update(x))[0].covariance())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_does_not_fit_is_refused():
    sketch = Covariance()
    sketch.update(torch.randn(4, 3))
    with pytest.raises(ArgumentError, match="had 3 nodes and now has 5"):
        sketch.update(torch.randn(4, 5))
    other = Covariance()
    other.update(torch.randn(4, 5))
    with pytest.raises(ArgumentError, match=r"covariances of different nodes cannot be merged: .* \(3, 1024"):
        sketch.merge(other)
    with pytest.raises(ArgumentError, match="max_nodes of at least 2, got 1"):
        Covariance(max_nodes=1)
    with pytest.raises(ArgumentError, match="max_samples of at least 2, got 0"):
        Covariance(max_samples=0)


def test_of_many_samples_the_same_are_kept_however_they_are_split():
    x = torch.arange(10_000, dtype=torch.float32)[:, None].repeat(1, 2)
    whole, parts = Covariance(max_samples=500), Covariance(max_samples=500)
    whole.update(x)
    for part in x.split(333):
        parts.update(part)
    assert (whole.seen, whole.n) == (parts.seen, parts.n) == (10_000, 500)
    kept = whole.samples()[:, 0].sort().values
    assert torch.equal(kept, parts.samples()[:, 0].sort().values)
    assert kept.unique().numel() == 500
    per_tenth = torch.histc(kept, 10, 0, 10_000)  # 50 each, with a standard deviation of 6.5
    assert per_tenth.min() >= 50 - 4 * 6.5
    assert per_tenth.max() <= 50 + 4 * 6.5


def test_two_sketches_that_sampled_merge_to_a_sample_of_both():
    a, b = Covariance(max_samples=400), Covariance(max_samples=400)
    a.update(torch.zeros(4_000, 3))
    b.update(torch.ones(4_000, 3))
    a.merge(b)
    assert (a.seen, a.n) == (8_000, 400)
    assert 180 <= a.samples()[:, 0].sum() <= 220  # their numbers, and so their hashes, are the same


def test_channels_are_taken_out_of_any_layout():
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = x.movedim(1, -1).reshape(-1, 4)
    for other in (x, x.to(memory_format=torch.channels_last), x.clone().movedim(1, -1).contiguous().movedim(-1, 1)):
        sketch = Covariance(lambda ndim: 1)
        sketch.update(other)
        assert torch.equal(sketch.samples(), expected)


def test_what_is_kept_is_a_copy():
    x = torch.randn(20, 3)
    before = x.clone()
    sketch = Covariance()
    sketch.update(x)
    x.zero_()
    assert torch.equal(sketch.samples(), before)


def test_wide_layers_are_multiplied_in_blocks():
    x = torch.randn(700, 300, generator=torch.Generator().manual_seed(0)) @ torch.randn(300, 300)
    sketch = Covariance()
    sketch.update(x)
    expected = np.corrcoef(x.double().numpy(), rowvar=False)
    np.testing.assert_allclose(sketch.correlation().numpy(), expected, atol=1e-6)


def test_what_is_fed_in_inference_mode_can_be_finished_outside():
    x = torch.randn(6_000, 4, generator=torch.Generator().manual_seed(0))
    sketch = Covariance(max_samples=500)
    with torch.inference_mode():
        for part in (x * 1.0).split(1_000):
            sketch.update(part)
    assert sketch.n == 500
    assert sketch.pairs().numel() == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nodes_of_any_size_have_their_correlation(dtype):
    sizes = torch.tensor([1.0, 1e-12, 1e-22, 1e-30, 1e-37, 1e15, 1e25, 1e37, 0.0], dtype=torch.float64)
    x = torch.randn(50, len(sizes), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = ((x + x.roll(1, 1)) * sizes).to(dtype)
    sketch = Covariance()
    sketch.update(x)
    expected = np.corrcoef((x.double() / torch.where(sizes > 0, sizes, 1.0)).numpy()[:, :-1], rowvar=False)
    np.testing.assert_allclose(sketch.correlation().numpy()[:-1, :-1], expected, rtol=1e-5, atol=1e-6)
    assert sketch.constant().tolist() == [False] * 8 + [True]
    variance = (x.double() / torch.where(sizes > 0, sizes, 1.0)).var(0, correction=0) * sizes**2
    np.testing.assert_allclose(sketch.covariance().diagonal().numpy(), variance.numpy(), rtol=1e-5)
