"""Cost of recording a training step: ratio of a recorded to a bare step, interleaved in one process.

Prints, for the paper's network (784-512-256-256-10, tanh, dropout 0.5, batch 128, SGD), the median ratio over
pairs of blocks and its quartiles, for bare against bare (the noise) and for the Recorder's presets.

    python benchmarks/overhead.py [--pairs 60] [--block 20] [--threads 2]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd

WIDTHS = (784, 512, 256, 256)
CASES = {
    "bare": None,
    "paper, every step": {"probes": "paper", "every": 1},
    "paper, every 10th": {"probes": "paper", "every": 10},
    "light, every 10th": {"probes": "light", "every": 10},
    "full, every step": {"probes": "full", "every": 1},
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(WIDTHS):
        layers += [nn.Linear(a, b), nn.Tanh(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 10))


class Loop:
    """A training loop that can be run a block at a time, recorded or not."""

    def __init__(self, settings: dict | None, folder: Path) -> None:
        self.model = network()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        generator = torch.Generator().manual_seed(1)
        self.x = torch.rand(128, 784, generator=generator)
        self.y = torch.randint(10, (128,), generator=generator)
        self.recorder = dd.Recorder(self.model, folder, **settings) if settings else None

    def block(self, steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            loss = F.cross_entropy(self.model(self.x), self.y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.recorder is not None:
                self.recorder.step(loss=loss)
        return time.perf_counter() - start


def ratios(bare: Callable[[int], float], other: Callable[[int], float], pairs: int, block: int) -> list[float]:
    bare(block), other(block)
    # Each pair in both orders, so that a drift of the machine's speed cancels.
    out = []
    for k in range(pairs):
        if k % 2:
            b, a = other(block), bare(block)
        else:
            a, b = bare(block), other(block)
        out.append(b / a)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--block", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.pairs} pairs of {options.block} steps")
    print(f"{'case':<22}{'median':>8}{'quartiles':>18}{'MB per 1,000 steps':>22}")
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in CASES.items():
            path = Path(folder) / name.replace(",", "").replace(" ", "-")
            bare, other = Loop(None, path), Loop(settings, path)
            low, median, high = statistics.quantiles(ratios(bare.block, other.block, options.pairs, options.block), n=4)
            size = ""
            if other.recorder is not None:
                steps = other.recorder.completed
                other.recorder.close()
                megabytes = sum(f.stat().st_size for f in path.rglob("*.parquet")) / 1e6
                size = f"{1000 * megabytes / steps:.1f}"
            print(f"{name:<22}{median:>8.3f}{f'{low:.3f} - {high:.3f}':>18}{size:>22}", flush=True)


if __name__ == "__main__":
    main()
