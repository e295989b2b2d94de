"""Interleaved timing: everything that is compared shares the same seconds."""

from __future__ import annotations

import os
import platform
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


def machine() -> str:
    """Return what a number was measured on, in a line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores ({cpu}), torch {torch.__version__}, {torch.get_num_threads()} threads"


@dataclass(frozen=True)
class Ratio:
    """Time of one thing over that of another in the same round."""

    low: float
    median: float
    high: float
    fast: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.median:7.3f}{f'{self.low:.3f} - {self.high:.3f}':>17}{self.fast:8.3f}{1e3 * self.seconds:10.2f}"


HEAD = f"{'median':>7}{'quartiles':>17}{'fastest':>8}{'ms':>10}"
"""Columns of a `Ratio`: median and quartiles of the rounds' ratios, ratio of the 10 % quantiles, median time."""


def rounds(blocks: dict[str, Callable[[], float]], number: int) -> dict[str, list[float]]:
    """Run each once a round, in an order drawn anew each time, and return the times.

    What one leaves behind (threads that still write, a cold cache) so falls on all others alike.
    """
    times: dict[str, list[float]] = {name: [] for name in blocks}
    for block in blocks.values():
        block()
    shuffled, generator = list(blocks), random.Random(0)
    for _ in range(max(number, 2)):
        generator.shuffle(shuffled)
        for name in shuffled:
            times[name].append(blocks[name]())
    return times


def ratios(times: dict[str, list[float]], base: str, per: int = 1) -> dict[str, Ratio]:
    """Return each one's ratio to ``base``; ``per``: how many things a time is for."""
    return {name: _ratio(seconds, times[base], per) for name, seconds in times.items()}


def _ratio(seconds: list[float], base: list[float], per: int) -> Ratio:
    each = [a / b for a, b in zip(seconds, base, strict=True)]
    low, median, high = statistics.quantiles(each, n=4)
    fast = statistics.quantiles(seconds, n=10)[0] / statistics.quantiles(base, n=10)[0]
    return Ratio(low, median, high, fast, statistics.median(seconds) / per)
