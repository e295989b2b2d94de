"""The compiled loops against their counterparts in torch, which stand in where they are not built."""

import numpy as np
import pytest
import torch

from dropdiag.histograms.grid import BINS
from dropdiag.sketches import AbsMean, HistogramSketch, IntervalCounts, native
from dropdiag.sketches.dropout import MaskCounter, NodeNoise
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


SHAPES = [
    ((128, 512), 1, 2),
    ((7, 5000), 1, 2),
    ((4, 6, 5, 5), 1, 2),
    ((3, 9000), 0, 1),
    ((2, 3, 7, 4), 2, 4),
    ((5,), 0, 1),
]
"""Shape, the dimension that counts nodes, and how many of the first dimensions number units."""


def before_a_mask(shape, dtype, *, diverged):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5)).to(dtype)
    x[x.abs() < 0.3] = 0
    if diverged:
        x.view(-1)[1] = torch.nan
    return x


@pytest.mark.parametrize("diverged", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("shape", "axis", "leading"), SHAPES)
def test_what_masks_replace_is_counted_as_by_torch(shape, axis, leading, dtype, diverged, without):
    x = before_a_mask(shape, dtype, diverged=diverged)
    for replacement, replaced in ((0.0, 0.0), (0.0, -0.7), (x.view(-1)[0].item(), 0.0)):
        y = torch.where(torch.rand(shape, generator=torch.Generator().manual_seed(6)) < 0.4, replaced, 1.7 * x)

        def counted(replacement=replacement, replaced=replaced, y=y):
            return MaskCounter(x, leading, replacement=replacement).count(y.to(dtype), replaced)

        assert counted() == without(counted)


@pytest.mark.parametrize("diverged", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("shape", "axis", "leading"), SHAPES)
def test_noise_of_masks_agrees_with_torch_and_numpy(shape, axis, leading, dtype, diverged, without):
    x = before_a_mask(shape, dtype, diverged=diverged)

    def noise():
        found = NodeNoise(x, axis, 0.7, 0.1)
        ratio = found.ratio()
        return found.as_state().numpy(), np.nan if ratio is None else ratio, bool(found.finite())

    compiled, plain = noise(), without(noise)
    np.testing.assert_allclose(compiled[0], plain[0], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(compiled[1], plain[1], rtol=1e-11)
    assert compiled[2] == plain[2] == (not diverged)
    rows = np.moveaxis(x.double().numpy(), axis, -1).reshape(-1, shape[axis])
    varying = rows[:, np.ptp(rows, axis=0) != 0]
    with np.errstate(invalid="ignore"):
        expected = (
            np.mean(0.7 * np.mean((varying - 0.1) ** 2, axis=0) / np.var(varying, axis=0)) if varying.size else np.nan
        )
    np.testing.assert_allclose(compiled[1], expected, rtol=1e-9)


def test_memory_that_is_no_stretch_of_units_is_left_to_torch():
    with pytest.raises(TypeError, match="masked takes 4 arguments, got 1"):
        native.loops.masked(torch.zeros(3))
    live = torch.ones(4, dtype=torch.bool)
    assert native.loops.masked(torch.zeros(4), live.data_ptr(), 3, 0.0) is None
    assert not native.loops.node_noise(
        torch.zeros(4), 2, 3, 1, 0.5, 0.0, torch.zeros(12, dtype=torch.float64).data_ptr()
    )
    assert not native.loops.differ(torch.zeros(4, dtype=torch.float64), 0.0, live.data_ptr())
