"""The kernels for pytest-benchmark, which keeps their history, each beside a reference that is timed in turn with it.

    make bench-history

A time says something about a machine. What is kept beside it (``extra_info``) is the ratio to a plain function of torch
or numpy on the same values, in the same seconds; history.py reads these. See docs/benchmarks.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from timing import ratios, rounds

from dropdiag.histograms.histogram import Histogram as Stored
from dropdiag.sketches import AbsMean, Covariance, HistogramSketch, IntervalCounts, Moments

SIZES = (1_000, 65_536, 1_000_000)
DTYPES = (torch.float32, torch.bfloat16)
ROUNDS, BLOCK_SECONDS = 25, 0.002

KINDS = {
    "AbsMean": AbsMean,
    "Moments": Moments,
    "IntervalCounts": lambda: IntervalCounts([[(-np.inf, -1.8)], [(1.8, np.inf)]]),
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def against(benchmark):
    """Time a kernel as pytest-benchmark does, then it and a reference in turn; keep median and quartiles of ratios."""

    def measure(kernel: Callable[[], object], **reference: Callable[[], object]):
        ((name, plain),) = reference.items()
        result = benchmark(kernel)
        times = rounds({"kernel": blocks_of(kernel), "reference": blocks_of(plain)}, ROUNDS)
        found = ratios(times, "reference")["kernel"]
        benchmark.extra_info.update(reference=name, ratio=found.median, low=found.low, high=found.high)
        return result

    return measure


def blocks_of(function: Callable[[], object]) -> Callable[[], float]:
    """Return what runs a function for about two milliseconds and gives the seconds of a call."""
    calls = max(1, min(1000, int(BLOCK_SECONDS / max(_seconds(function, 3), 1e-9))))
    return lambda: _seconds(function, calls)


def _seconds(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def values(n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return normal values."""
    return torch.randn(n, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", SIZES)
def test_histogram_update(against, n, dtype):
    """Count into a sketch that counts already."""
    sketch, x = HistogramSketch(), values(n, dtype)
    single = x.float()  # histc takes no bfloat16
    against(lambda: sketch.update(x), histc=lambda: torch.histc(single, 100))


def test_histogram_of_one_step(against):
    """Open, count a layer, and drain."""
    x = values(65_536)

    def step():
        sketch = HistogramSketch()
        sketch.update(x)
        return sketch.drain()

    assert against(step, histc=lambda: torch.histc(x, 100))[1].sum() == x.numel()


@pytest.mark.parametrize("kind", KINDS)
def test_sums_and_counts(against, kind):
    """Update a sketch of few numbers with a layer."""
    sketch, x = KINDS[kind](), values(65_536)
    against(lambda: sketch.update(x), sum=x.sum)


def test_correlation_of_an_evaluation(against):
    """Take in 10,000 samples of 256 nodes, and correlate."""
    batches = values(10_000 * 256).view(20, 500, 256)
    nodes = batches.reshape(10_000, 256).T.contiguous()

    def evaluate():
        sketch = Covariance()
        for batch in batches:
            sketch.update(batch)
        return sketch.pairs()

    assert against(evaluate, corrcoef=lambda: torch.corrcoef(nodes)).numel() == 256 * 255 // 2


@pytest.mark.parametrize("rule", ["isj", "silverman"])
def test_kde(against, rule):
    """Smooth a layer's weights from their histogram."""
    weights = 0.04 * np.random.default_rng(0).normal(size=401_408)
    layer = Stored.from_values(weights)
    against(lambda: layer.kde(rule), np_histogram=lambda: np.histogram(weights, 512))
