import numpy as np
import pytest
import torch

from dropdiag.errors import ArgumentError
from dropdiag.histograms import grid
from dropdiag.sketches import HistogramSketch
from dropdiag.sketches.histogram import bin_numbers, sparse
from tests.sketches.counting import count


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_bins_of_every_dtype_are_those_of_its_float32_values(dtype):
    x = torch.cat([torch.randn(5000, generator=torch.Generator().manual_seed(0)) * s for s in (1e-30, 1e-3, 1, 1e4)])
    x = torch.cat([x, torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-45])]).to(dtype)
    expected = grid.bin_numbers(x.to(torch.float32).numpy())
    np.testing.assert_array_equal(bin_numbers(x).numpy(), expected.astype(np.int64))


def test_special_values_have_bins_of_their_own():
    x = torch.tensor([0.0, -0.0, float("inf"), float("inf"), -float("inf"), float("nan"), -float("nan"), 1.0])
    bins, counts = sparse(count(x).numpy())
    got = dict(zip(bins.tolist(), counts.tolist(), strict=True))
    assert got[grid.ZERO] == 1
    assert got[grid.NEGATIVE_ZERO] == 1
    assert got[grid.POSITIVE_INFINITY] == 2
    assert got[grid.NEGATIVE_INFINITY] == 1
    assert sum(c for b, c in got.items() if (b & 0x3FFF) > grid.POSITIVE_INFINITY) == 2
    assert got[int(grid.bin_numbers(np.array([1.0]))[0])] == 1


def test_float64_beyond_float32_counts_as_infinite():
    assert count(torch.tensor([1e300], dtype=torch.float64))[grid.POSITIVE_INFINITY] == 1


def test_any_memory_layout_gives_the_same_counts():
    x = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(1))
    expected = count(x)
    for other in (x.to(memory_format=torch.channels_last), x.movedim(1, -1), x.flip(0), x.expand(4, 6, 5, 5)):
        assert torch.equal(count(other), expected)


def test_values_are_not_changed_and_need_no_gradient():
    x = torch.randn(100, requires_grad=True)
    before, versions = x.detach().clone(), x._version
    HistogramSketch().update(x)
    assert torch.equal(x.detach(), before)
    assert x._version == versions


def test_counts_do_not_stop_at_two_to_the_24():
    total = HistogramSketch()
    one = torch.tensor([grid.bin_magnitude_edges()[5]])
    total.update(one)
    total.counts[5] = 2**24
    total.update(one)
    assert total.dense()[5] == 2**24 + 1
    total.pack()
    total.update(one)
    assert total.dense()[5] == 2**24 + 2


@pytest.mark.parametrize("use", ["update", "merge", "merge into", "dense", "counts", "forget_nan", "drain"])
def test_packed_counts_are_those_that_were_packed(use):
    x, y = torch.randn(2, 3000, generator=torch.Generator().manual_seed(2))
    x[:5], y[:7] = float("nan"), -0.0
    packed = HistogramSketch()
    packed.update(x)
    packed.pack()
    fresh = HistogramSketch()  # takes the table that packing gave back
    fresh.update(y)
    expected = {"update": count(torch.cat([x, y])), "merge": count(torch.cat([x, y])), "forget_nan": count(x[5:])}
    if use == "update":
        packed.update(y)
    elif use == "merge":
        packed.merge(fresh)
    elif use == "merge into":
        fresh.merge(packed)
    elif use == "forget_nan":
        packed.forget_nan()
    elif use == "counts":
        assert torch.equal(packed.counts, count(x))
    elif use == "drain":
        bins, counts = packed.drain()
        np.testing.assert_array_equal(bins, np.flatnonzero(count(x)))
        np.testing.assert_array_equal(counts, count(x)[bins.astype(np.int64)])
        assert packed.counts is None
        return
    assert torch.equal(packed.dense(), expected.get(use, count(x)))
    assert torch.equal(fresh.dense(), count(torch.cat([x, y]) if use == "merge into" else y))


def test_deterministic_mode_is_no_obstacle():
    torch.use_deterministic_algorithms(True)
    try:
        assert count(torch.ones(7)).sum() == 7
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_other_dtypes_are_refused_by_name(dtype):
    with pytest.raises(ArgumentError, match=rf"takes float32, .*got {dtype}; convert"):
        count(torch.ones(3, dtype=dtype))


def test_bin_edges_are_where_the_bits_say():
    edges = grid.bin_magnitude_edges()
    inside = edges[1:-1].astype(np.float32)
    numbers = grid.bin_numbers(inside)
    np.testing.assert_array_equal(numbers, np.arange(1, len(edges) - 1))
    below = np.nextafter(inside, np.float32(0))
    np.testing.assert_array_equal(grid.bin_numbers(below), numbers - 1)
    low, high = grid.bin_bounds(grid.bin_numbers(-inside))
    np.testing.assert_array_equal(-inside, high)
    assert ((low < high) & (high <= 0)).all()
    normal = edges[:-1] >= 2.0**-126
    width = (np.diff(edges) / edges[:-1].clip(1e-45))[normal]
    assert width.max() == 1 / 64
    assert width.min() > 1 / 128


def test_nan_can_be_forgotten_and_nothing_else_is():
    rest = [0.0, -0.0, float("inf"), -float("inf"), 1.0, -3.0]
    sketch = HistogramSketch()
    sketch.forget_nan()
    sketch.update(torch.tensor([*rest, float("nan"), -float("nan")]))
    sketch.forget_nan()
    assert torch.equal(sketch.dense(), count(torch.tensor(rest)))
