"""The kernels for pytest-benchmark, which keeps their history.

    make bench-history

Times are kept under ``.benchmarks`` and compared with the last ones that were kept there.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dropdiag.histograms.histogram import HistogramSketch as Stored
from dropdiag.sketches import AbsMean, Covariance, HistogramSketch, IntervalCounts, Moments

SIZES = (1_000, 65_536, 1_000_000)
DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def values(n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return normal values."""
    return torch.randn(n, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", SIZES)
def test_histogram_update(benchmark, n, dtype):
    """Count into a sketch that counts already."""
    benchmark(HistogramSketch().update, values(n, dtype))


def test_histogram_of_one_step(benchmark):
    """Open, count a layer, and drain."""
    x = values(65_536)

    def step():
        sketch = HistogramSketch()
        sketch.update(x)
        return sketch.drain()

    assert benchmark(step)[1].sum() == x.numel()


@pytest.mark.parametrize("kind", [AbsMean, Moments, lambda: IntervalCounts([[(-np.inf, -1.8)], [(1.8, np.inf)]])])
def test_sums_and_counts(benchmark, kind):
    """Update a sketch of few numbers with a layer."""
    benchmark(kind().update, values(65_536))


def test_correlation_of_an_evaluation(benchmark):
    """Take in 10,000 samples of 256 nodes, and correlate."""
    batches = values(10_000 * 256).view(20, 500, 256)

    def evaluate():
        sketch = Covariance()
        for batch in batches:
            sketch.update(batch)
        return sketch.pairs()

    assert benchmark(evaluate).numel() == 256 * 255 // 2


@pytest.mark.parametrize("rule", ["isj", "silverman"])
def test_kde(benchmark, rule):
    """Smooth a layer's weights from their histogram."""
    layer = Stored.from_values(0.04 * np.random.default_rng(0).normal(size=401_408))
    benchmark(layer.kde, rule)
