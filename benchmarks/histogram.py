"""Cost of the kernels in ns a value, beside torch's and numpy's, over sizes and distributions; KDE of a layer in ms.

Medians (and minima) over interleaved repetitions in one process. "update": into a sketch that counts already;
"one shot": a new sketch, update, and drain to the bins that hold something; "in torch": without the compiled loops.

    python benchmarks/histogram.py [--threads 1] [--largest]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from timing import machine

from dropdiag.histograms.histogram import Histogram as Stored
from dropdiag.sketches import HistogramSketch, native

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


def distributions(n: int) -> dict[str, torch.Tensor]:
    """Return values of several kinds: wide, narrow, all the same, half the same, all patterns of bits."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(n, generator=generator)
    bits = torch.randint(-(2**31), 2**31, (n,), generator=generator, dtype=torch.int64).to(torch.int32)
    return {
        "normal": normal,
        "normal / 1e6": normal * 1e-6,
        "zeros": torch.zeros(n),
        "half zeros": normal.relu(),
        "any bits": bits.view(torch.float32),
    }


def in_torch(function: Callable[[], object]) -> Callable[[], object]:
    """Return the function without the compiled loops."""

    def run() -> None:
        loops, native.loops = native.loops, None
        try:
            function()
        finally:
            native.loops = loops

    return run


def one_shot(x: torch.Tensor) -> None:
    """Count into a new sketch and drain it."""
    sketch = HistogramSketch()
    sketch.update(x)
    sketch.drain()


def timed(functions: dict[str, Callable[[], object]], repetitions: int) -> dict[str, tuple[float, float]]:
    """Return the median and the least time of each."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repetitions):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: (statistics.median(values), min(values)) for name, values in seconds.items()}


def candidates(x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return what is compared on some float32 values."""
    half, array = x.to(torch.bfloat16), x.numpy()
    single, brief, slow = HistogramSketch(), HistogramSketch(), HistogramSketch()
    finite = bool(torch.isfinite(x).all())
    peers = {
        "torch.histc": lambda: torch.histc(x, 100),
        "np.histogram": lambda: np.histogram(array, 100),
        "torch.histogram": lambda: torch.histogram(x, 100),
    }
    return {
        "update": lambda: single.update(x),
        "update bf16": lambda: brief.update(half),
        "one shot": lambda: one_shot(x),
        "in torch": in_torch(lambda: slow.update(x)),
        **(peers if finite else {}),  # the others refuse infinities and NaN
    }


def show(kind: str, x: torch.Tensor) -> None:
    """Print one line of the table: median (least) ns a value."""
    n = x.numel()
    times = timed(candidates(x), max(5, min(200, 20_000_000 // n)))
    cells = [f"{1e9 * median / n:6.2f} ({1e9 * least / n:5.2f})" for median, least in times.values()]
    print(f"{n:>12,} {kind:<13}" + " ".join(f"{cell:>16}" for cell in cells), flush=True)


def kde() -> None:
    """Print the time of a KDE of a layer beside scipy's on the raw values."""
    weights = 0.04 * np.random.default_rng(0).normal(size=401_408)
    layer, grid = Stored.from_values(weights), np.linspace(-0.2, 0.2, 512)
    times = timed({rule: lambda rule=rule: layer.kde(rule) for rule in ("isj", "silverman")}, 30)
    start = time.perf_counter()
    stats.gaussian_kde(weights)(grid)
    raw = time.perf_counter() - start
    print(f"\nKDE of 401,408 weights: scipy on the raw values {1e3 * raw:.0f} ms; from the histogram")
    for rule, (median, _) in times.items():
        print(f"  {rule}: {1e3 * median:.1f} ms")


def main() -> None:
    """Parse options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--largest", action="store_true", help="1e8 values as well")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    loops = "compiled loops" if native.loops is not None else "no compiled loops"
    print(f"{machine()}, {loops}; ns a value: median (least)")
    names = list(candidates(torch.ones(10)))
    print(" " * 27 + " ".join(f"{name:>16}" for name in names))
    for n in (*options.sizes, *([100_000_000] if options.largest else [])):
        kinds = distributions(n)
        for kind in kinds if n in (100_000, 10_000_000) else ["normal"]:
            show(kind, kinds[kind])
    kde()


if __name__ == "__main__":
    main()
