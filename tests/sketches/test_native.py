"""The compiled loops against their counterparts in torch, which stand in where they are not built."""

import numpy as np
import pytest
import torch

from dropdiag.histograms.grid import BINS
from dropdiag.sketches import AbsMean, HistogramSketch, IntervalCounts, native
from tests.sketches.counting import count

AREAS = [[(-np.inf, -1.8184464592320668)], [(0.25, 0.5), (1.8184464592320668, np.inf)]]

pytestmark = pytest.mark.skipif(native.loops is None, reason="the compiled loops are not built here")


def values(dtype=torch.float32, n=50_001):
    generator = torch.Generator().manual_seed(3)
    bits = torch.randint(-(2**31), 2**31, (n // 2,), generator=generator, dtype=torch.int64).to(torch.int32)
    wild = bits.view(torch.float32)  # every pattern: denormals, infinities, NaN of all kinds
    return torch.cat([wild, torch.randn(n - n // 2, generator=generator), torch.zeros(99), -torch.zeros(99)]).to(dtype)


def layouts(x):
    cube = x[: 4 * 6 * 5 * 5].reshape(4, 6, 5, 5)
    yield from (x, x[::3], x[:1], x[:0], x[1:], cube, cube.to(memory_format=torch.channels_last), cube.movedim(1, -1))
    yield from (x[:600].reshape(20, 30).t(), x[:30].expand(4, 30), torch.nn.Parameter(x), x.clone().requires_grad_())
    yield torch.complex(x, x).conj().imag if x.dtype == torch.float32 else x


@pytest.fixture
def without(monkeypatch):
    def run(function):
        with monkeypatch.context() as patched:
            patched.setattr(native, "loops", None)
            return function()

    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_histograms_are_bit_identical_to_those_of_torch(dtype, without):
    for x in layouts(values(dtype)):
        assert torch.equal(count(x), without(lambda x=x: count(x)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_interval_counts_are_identical_to_those_of_torch(dtype, without):
    def counted(x):
        sketch = IntervalCounts(AREAS)
        sketch.update(x)
        return sketch.counts, sketch.n

    for x in layouts(values(dtype)):
        assert counted(x) == without(lambda x=x: counted(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_means_of_absolute_values_agree_with_torch_and_numpy(dtype, without):
    def mean(x):
        sketch = AbsMean()
        sketch.update(x)
        return sketch.mean()

    for x in layouts(values(dtype)[-25_000:]):
        expected = np.abs(x.detach().double().resolve_neg().numpy()).mean() if x.numel() else np.nan
        np.testing.assert_allclose(mean(x), expected, rtol=1e-13)
        np.testing.assert_allclose(without(lambda x=x: mean(x)), expected, rtol=1e-13)


def test_what_is_not_finite_makes_the_mean_so():
    for number in (float("inf"), float("nan")):
        sketch = AbsMean()
        sketch.update(torch.tensor([1.0] * 40 + [number]))
        assert not np.isfinite(sketch.mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_values_are_counted_by_several_threads(dtype, monkeypatch):
    x = values(dtype)
    expected = count(x)
    monkeypatch.setattr(native, "PARALLEL", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    sketch = HistogramSketch()
    sketch.update(x)
    sketch.update(x[:7])
    assert torch.equal(sketch.dense(), expected + count(x[:7]))


def test_a_drained_table_is_empty_and_used_again(without):
    x = values()
    expected = count(x)
    for loops in (lambda f: f(), without):
        sketch = HistogramSketch()
        sketch.update(x)
        table = sketch.counts
        bins, counts = loops(sketch.drain)
        assert sketch.counts is None
        assert not table.any()
        assert (bins.dtype, counts.dtype) == (np.uint16, np.int64)
        np.testing.assert_array_equal(bins, np.flatnonzero(expected))
        np.testing.assert_array_equal(counts, expected[expected > 0])
        sketch.update(x[:5])
        assert sketch.dense().sum() == 5
        assert sketch.counts.data_ptr() == table.data_ptr()


def test_thinned_batches_are_the_same_with_and_without(without):
    def fed():
        sketch = HistogramSketch(max_values=1000)
        sketch.update(values())
        return sketch.dense(), sketch.stride

    (a, stride), (b, other) = fed(), without(fed)
    assert torch.equal(a, b)
    assert stride == other > 1


def test_only_plain_tensors_on_the_cpu_are_read():
    class Own(torch.Tensor):
        pass

    x = torch.ones(4)
    assert native.memory_span(x)[:3] == (x.data_ptr(), 4, 4)
    refused = (x.as_subclass(Own), x.double(), x.int(), x.to_sparse(), x.to("meta"), torch.complex(x, x).conj().imag)
    for other in refused:
        assert native.memory_span(other) is None
        assert native.loops.abs_sum_tensor(other) is None


def test_a_wrong_call_is_an_error_and_reads_nothing():
    table = torch.zeros(BINS, dtype=torch.int64)
    with pytest.raises(ValueError, match="4 .float32. or 2 .bfloat16. bytes wide, got 3"):
        native.loops.count(0, 1, 3, table.data_ptr(), False)
    with pytest.raises(TypeError, match="count takes 5 arguments, got 2"):
        native.loops.count(0, 1)
    with pytest.raises(TypeError, match="up to 16 pairs of bounds"):
        native.loops.count_inside(0, 0, 4, 1.0)


def test_tables_made_in_inference_mode_can_be_used_outside(without):
    for loops in (lambda f: f(), without):

        def both():
            held = []
            with torch.inference_mode():
                for _ in range(3):  # more than are spare
                    held.append(HistogramSketch())
                    held[-1].update(torch.ones(5))
            for sketch in held:
                sketch.drain()
            other = HistogramSketch()
            other.update(torch.ones(3))
            other.forget_nan()
            assert other.dense().sum() == 3

        loops(both)


def test_many_intervals_are_counted_all_the_same():
    areas = [[(2.0 * k, 2.0 * k + 0.5) for k in range(-20, 20)]]
    x = torch.randn(5_000, generator=torch.Generator().manual_seed(0)) * 10
    sketch = IntervalCounts(areas)
    sketch.update(x)
    assert sketch.counts == [sum(int(((x >= low) & (x <= high)).sum()) for low, high in areas[0])]


def test_dense_counts_are_a_copy():
    sketch = HistogramSketch()
    sketch.update(torch.ones(4))
    before = sketch.dense()
    sketch.drain()
    assert before.sum() == 4
