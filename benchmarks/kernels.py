"""Cost of the kernels: histogram of a tensor in ns a value beside torch's and numpy's, KDE of a layer in ms.

Medians over interleaved repetitions in one process.

    python benchmarks/kernels.py [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from dropdiag.sketches.histogram import count
from dropdiag.store.histogram import Histogram


def timed(functions: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repetitions):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s); ns a value")
    generator = torch.Generator().manual_seed(0)
    for n in (1_000, 10_000, 100_000, 1_000_000, 10_000_000):
        x = torch.randn(n, generator=generator)
        half, array = x.to(torch.bfloat16), x.numpy()
        medians = timed(
            {
                "dropdiag": lambda x=x: count(x),
                "dropdiag bf16": lambda half=half: count(half),
                "torch.histc": lambda x=x: torch.histc(x, 100),
                "np.histogram": lambda array=array: np.histogram(array, 100),
            },
            repetitions=max(5, min(200, 10_000_000 // n)),
        )
        print(f"{n:>12,}  " + "  ".join(f"{name} {1e9 * s / n:.2f}" for name, s in medians.items()))
    layer = Histogram.from_values(0.04 * np.random.default_rng(0).normal(size=401_408))
    for rule in ("isj", "silverman"):
        median = timed({rule: lambda rule=rule: layer.kde(rule)}, 30)[rule]
        print(f"KDE of 401,408 weights from their histogram, {rule}: {1e3 * median:.1f} ms")


if __name__ == "__main__":
    main()
