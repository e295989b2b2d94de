"""How many values lie in given intervals, counted exactly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

Interval = tuple[float, float]


class IntervalCounts:
    """Number of values inside each of a few sets of closed intervals.

    Error: none; bounds are rounded inwards to the values' precision, so that a comparison gives what it would
    give in float64. Memory: one integer a set. NaN lies in no interval and is still counted in ``n``.

    Parameters
    ----------
    sets : sequence of sequences of (low, high)
        Each set is a union of disjoint closed intervals; ``-inf`` and ``inf`` are allowed.
    """

    __slots__ = ("counts", "n", "sets")

    def __init__(self, sets: Sequence[Sequence[Interval]]) -> None:
        self.sets = tuple(tuple(s) for s in sets)
        self.n = 0
        self.counts: Tensor | None = None

    def update(self, values: Tensor) -> None:
        """Take in a batch of values (floats, any shape)."""
        x = values.detach()
        zero = torch.zeros((), dtype=torch.int64, device=x.device)
        counts = [sum((_inside(x, low, high) for low, high in s), start=zero) for s in self.sets]
        self._add(x.numel(), torch.stack(counts))

    def merge(self, other: IntervalCounts) -> None:
        """Take in what another, of the same intervals, has seen."""
        if other.counts is not None:
            self._add(other.n, other.counts)

    def _add(self, n: int, counts: Tensor) -> None:
        self.n += n
        self.counts = counts if self.counts is None else self.counts + counts

    def shares(self) -> Tensor:
        """Share of the values that lie in each set.

        Returns
        -------
        Tensor of float64, shape (number of sets,)
            NaN if there were no values.
        """
        if self.counts is None:
            return torch.full((len(self.sets),), torch.nan, dtype=torch.float64)
        return self.counts.to(torch.float64) / self.n


def _inside(x: Tensor, low: float, high: float) -> Tensor:
    if x.dtype in (torch.bfloat16, torch.float16):
        x = x.to(torch.float32)
    single = x.dtype == torch.float32
    if low == -torch.inf:
        return torch.count_nonzero(x <= _rounded(high, down=True, single=single))
    at_least = x >= _rounded(low, down=False, single=single)
    if high == torch.inf:
        return torch.count_nonzero(at_least)
    return torch.count_nonzero(at_least & (x <= _rounded(high, down=True, single=single)))


@cache
def _rounded(bound: float, *, down: bool, single: bool) -> float:
    nearest = np.float32(bound) if single else np.float64(bound)
    if (float(nearest) > bound) if down else (float(nearest) < bound):
        nearest = np.nextafter(nearest, nearest.dtype.type(-np.inf if down else np.inf))
    return float(nearest)
