"""How many values lie in given intervals, counted exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, chain
from typing import Final

import numpy as np
import torch
from torch import Tensor

from dropdiag.sketches import native

Interval = tuple[float, float]
Sets = tuple[tuple[Interval, ...], ...]
FEW: Final = 4
"""Up to so many intervals, comparing with each costs less than a search."""
GREATEST: Final = float(np.finfo(np.float64).max)
"""Rounded inwards, the greatest finite number of either precision: no infinity is inside."""


class IntervalCounts:
    """Number of values inside each of a few sets of closed intervals.

    Error: none; bounds are rounded inwards to the values' precision, so that a comparison gives what it would
    give in float64. Memory: one integer a set, and two. NaN and infinities lie in no interval; where there is one,
    there is no share: of a network that has diverged, that of the values which are still finite says nothing.

    Parameters
    ----------
    sets : sequence of sequences of (low, high)
        Each set is a union of disjoint closed intervals in ascending order; ``-inf`` and ``inf`` stand for all finite
        values below or above.
    known : (low, high), optional
        Where the intervals are known: a value outside counts as one that is not finite. Default: everywhere.

    Attributes
    ----------
    n : int, or Tensor of int64, shape ()
        Number of finite values (in the known range); a tensor where the values are on an accelerator.
    counts : list of int, or of Tensor of int64, shape ()
        Values in each set; tensors where the values are on an accelerator.
    seen : int
        Number of all values.
    """

    __slots__ = ("counts", "known", "n", "seen", "sets")

    def __init__(self, sets: Sequence[Sequence[Interval]], known: Interval = (-math.inf, math.inf)) -> None:
        self.sets: Sets = tuple(tuple(map(finite, s)) for s in sets)
        self.known = (finite(known),)
        self.n: int | Tensor = 0
        self.seen = 0
        self.counts: list[int | Tensor] = [0] * len(self.sets)

    def update(self, values: Tensor) -> None:
        """Take in a batch of values (floats, any shape)."""
        sets = (*self.sets, self.known)
        few = sum(map(len, sets)) <= native.INTERVALS
        span = native.memory_span(values) if few else None
        if span is None:
            x = values.detach()
            *counts, n = [_union(x, s) for s in sets]
        else:
            *counts, n = _counted(span, sets)
        self._add(n, counts)
        self.seen += values.numel()

    def merge(self, other: IntervalCounts) -> None:
        """Take in what another, of the same intervals, has seen."""
        self._add(other.n, other.counts)
        self.seen += other.seen

    def _add(self, n: int | Tensor, counts: Sequence[int | Tensor]) -> None:
        self.n = self.n + n
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]

    def shares(self) -> list[float | Tensor]:
        """Share of the values that lie in each set.

        Returns
        -------
        list of float, or of Tensor of float64, shape ()
            NaN if there was no value, or one that is not finite or outside of the known range.
        """
        if isinstance(self.n, Tensor):  # which values are finite is not asked of an accelerator: the host would wait
            whole = self.n == self.seen
            return [torch.where(whole, c / self.n.to(torch.float64), math.nan) for c in self.counts]
        if self.n == 0 or self.n < self.seen:
            return [math.nan] * len(self.sets)
        return [c / self.n for c in self.counts]


def finite(interval: Interval) -> Interval:
    """Return an interval without infinities: the greatest finite numbers stand for them."""
    return max(interval[0], -GREATEST), min(interval[1], GREATEST)


def _counted(span: native.MemorySpan, sets: Sets) -> list[int | Tensor]:
    """Count by the compiled loop: all intervals in one pass."""
    assert native.loops is not None  # noqa: S101 - there is a span only where there are loops
    found = native.loops.count_inside(*span[:3], *_bounds(sets))
    ends = accumulate(map(len, sets))
    return [sum(found[end - len(s) : end]) for s, end in zip(sets, ends, strict=True)]


@cache
def _bounds(sets: Sets) -> tuple[float, ...]:
    return tuple(chain.from_iterable(inwards(low, high, single=True) for s in sets for low, high in s))


def _union(x: Tensor, intervals: Sequence[Interval]) -> int | Tensor:
    if x.dtype in (torch.bfloat16, torch.float16):  # torch would round the bounds to their precision
        x = x.to(torch.float32)
    found = _many(x, intervals) if len(intervals) > FEW else sum((_inside(x, *pair) for pair in intervals), start=0)
    return int(found) if x.is_cpu else found


def _many(x: Tensor, intervals: Sequence[Interval]) -> Tensor:
    """Count the values inside many intervals by a search for the last one that begins below each value."""
    single = x.dtype == torch.float32
    bounds = torch.tensor([inwards(low, high, single=single) for low, high in intervals], dtype=x.dtype)
    lows, highs = bounds.to(x.device).unbind(1)
    at = torch.bucketize(x, lows.contiguous(), right=True) - 1
    return torch.count_nonzero((at >= 0) & (x <= highs[at.clamp(min=0)]))


def _inside(x: Tensor, low: float, high: float) -> Tensor:
    return torch.count_nonzero(is_inside(x, low, high))


def is_inside(x: Tensor, low: float, high: float) -> Tensor:
    """Return where values of float32 or float64 lie in a closed interval, as a comparison in float64 says it."""
    low, high = inwards(low, high, single=x.dtype == torch.float32)
    return (x >= low) & (x <= high)


@cache
def inwards(low: float, high: float, *, single: bool) -> Interval:
    """Return a closed interval with its bounds rounded inwards to single or double precision."""
    return _rounded(low, down=False, single=single), _rounded(high, down=True, single=single)


def _rounded(bound: float, *, down: bool, single: bool) -> float:
    # A float32 lies inside a float64 interval exactly if it lies inside the one between the nearest float32 within.
    with np.errstate(over="ignore"):
        nearest = np.float32(bound) if single else np.float64(bound)
    if (float(nearest) > bound) if down else (float(nearest) < bound):
        nearest = np.nextafter(nearest, nearest.dtype.type(-np.inf if down else np.inf))
    return float(nearest)
