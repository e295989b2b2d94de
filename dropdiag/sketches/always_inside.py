"""Which nodes have all their values in given intervals, over whatever came."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Final

import numpy as np
import torch
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.sketches import native
from dropdiag.sketches.intervals import Interval, Sets, finite, inwards, is_inside

INSIDE, UNKNOWN, OUTSIDE = range(3)
"""Of a node: all its values are inside; so are all that are known, and not all are; one is outside."""
FIRST: Final = 4096
"""Values that are looked at first; most nodes have one outside among them."""


class AlwaysInside:
    """Which nodes have all their values inside each of a few sets of closed intervals.

    Error: none, as of `dropdiag.sketches.intervals.IntervalCounts`. One value outside decides of a node, whatever
    else comes; without one, a value that is not finite leaves it unknown. Memory: a byte a node and set. Time: on the
    CPU a node is not looked at any more once it is decided, so that most values of a batch are never touched.

    Parameters
    ----------
    sets : sequence of sequences of (low, high)
        As of `IntervalCounts`.
    known : (low, high), optional
        Where the intervals are known: a value outside of that counts as one that is not finite.
    node_axis : callable, optional
        Number of dimensions -> the dimension that counts nodes, or several whose combinations do; all others count
        samples. Default: the last.

    Attributes
    ----------
    seen : int
        Samples that came.
    codes : Tensor of int8, shape (sets, nodes), or None
        `INSIDE`, `UNKNOWN` or `OUTSIDE`; None before anything came.
    """

    __slots__ = ("_axis", "_known", "_sets", "codes", "seen")

    def __init__(
        self,
        sets: Sequence[Sequence[Interval]],
        known: Interval = (-math.inf, math.inf),
        node_axis: Callable[[int], int | tuple[int, ...]] | None = None,
    ) -> None:
        self._sets: Sets = tuple(tuple(map(finite, s)) for s in sets)
        self._known = finite(known)
        self._axis: Callable[[int], int | tuple[int, ...]] = node_axis or (lambda _: -1)
        self.seen = 0
        self.codes: Tensor | None = None

    def update(self, values: Tensor) -> None:
        """Take in a batch of values (floats).

        Raises
        ------
        ArgumentError
            If the number of nodes differs from that of the first batch.
        """
        values = values.detach()
        x = _nodes_first(values, self._axis)
        if x.numel() == 0:
            return
        codes = self._begun(x)
        self.seen += x.numel() // x.shape[0]
        if x.is_cpu:
            self._raise(codes, values, x)
        else:  # which nodes are decided is not asked of an accelerator: the host would wait
            self.codes = torch.maximum(codes, self._codes_of(x))

    def _raise(self, codes: Tensor, values: Tensor, x: Tensor) -> None:
        """Raise the codes of nodes by values on the CPU, of which `x` is the view that counts nodes first."""
        axis = self._axis(values.ndim)
        if values.ndim == 0 or not isinstance(axis, int) or not _readable(values):
            self._raise_by_torch(codes, x)
            return
        assert native.loops is not None  # noqa: S101 - `_readable` says so
        axis %= values.ndim
        shape = values.shape[:axis].numel(), values.shape[axis], values.shape[axis + 1 :].numel()
        for row, intervals in zip(codes, self._bounds(), strict=True):
            native.loops.always_inside(values.data_ptr(), shape, row.data_ptr(), intervals)

    def _bounds(self) -> list[tuple[Interval, ...]]:
        """Return where values are known, and the intervals of a set, for each set: in single precision."""
        return [tuple(inwards(*pair, single=True) for pair in (self._known, *s)) for s in self._sets]

    def _raise_by_torch(self, codes: Tensor, x: Tensor) -> None:
        start, size = 0, max(FIRST // max(x.numel() // x.shape[1], 1), 1)
        while start < x.shape[1]:
            open_nodes = (codes != OUTSIDE).any(0).nonzero().flatten()
            if not len(open_nodes):
                break
            part = x.narrow(1, start, min(size, x.shape[1] - start))
            if len(open_nodes) < len(x):
                part = part.index_select(0, open_nodes)
            codes[:, open_nodes] = torch.maximum(codes[:, open_nodes], self._codes_of(part))
            start, size = start + size, 4 * size

    def merge(self, other: AlwaysInside) -> None:
        """Take in what another, of the same intervals and nodes, has seen."""
        if other.codes is not None:
            mine = other.codes if self.codes is None else self.codes
            self._check(mine.shape[1], other.codes.shape[1])
            self.codes = torch.maximum(mine, other.codes)
            self.seen += other.seen

    def _begun(self, x: Tensor) -> Tensor:
        if self.codes is None:
            with torch.inference_mode(False):  # a tensor made in inference mode cannot be written to outside of it
                self.codes = torch.zeros(len(self._sets), x.shape[0], dtype=torch.int8, device=x.device)
        self._check(self.codes.shape[1], x.shape[0])
        return self.codes

    @staticmethod
    def _check(before: int, now: int) -> None:
        if before != now:
            raise ArgumentError(f"the layer had {before} nodes and now has {now}")

    def _codes_of(self, x: Tensor) -> Tensor:
        """Return the codes of nodes over some samples, shape (sets, nodes)."""
        if x.dtype in (torch.bfloat16, torch.float16):  # their precision is not that of the bounds
            x = x.to(torch.float32)
        known = is_inside(x, *self._known)
        unknown = (~known).flatten(1).any(1).to(torch.int8) * UNKNOWN
        outside = [(known & ~_union(x, s)).flatten(1).any(1).to(torch.int8) * OUTSIDE for s in self._sets]
        return torch.stack([torch.maximum(unknown, one) for one in outside])

    def shares(self) -> list[float | Tensor]:
        """Share of the nodes that have all their values in each set.

        Returns
        -------
        list of float, or of Tensor of float64, shape ()
            NaN if there was no value, or one that is not finite leaves a node unknown.
        """
        if self.codes is None:
            return [math.nan] * len(self._sets)
        if self.codes.is_cpu:
            codes = self.codes.numpy()  # of a few hundred bytes, numpy asks in a tenth of the time
            shares = np.where((codes == UNKNOWN).any(1), math.nan, (codes == INSIDE).mean(1))
            return list(map(float, shares))
        known = ~(self.codes == UNKNOWN).any(1)
        return list(torch.where(known, (self.codes == INSIDE).to(torch.float64).mean(1), math.nan).unbind())

    def as_state(self) -> Tensor:
        """Return the codes, set after set: what those of several ranks are merged from, by the maximum.

        Returns
        -------
        Tensor of float64, shape (sets nodes,)
        """
        codes = torch.empty(len(self._sets), 0) if self.codes is None else self.codes
        return codes.to(torch.float64).flatten()


def _readable(values: Tensor) -> bool:
    """Whether the compiled loop can read values on the CPU as they lie."""
    return values.dtype == torch.float32 and values.is_contiguous() and native.memory_span(values) is not None


def _union(x: Tensor, intervals: Sequence[Interval]) -> Tensor:
    nowhere = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
    return reduce(torch.logical_or, (is_inside(x, *pair) for pair in intervals), nowhere)


def _nodes_first(x: Tensor, node_axis: Callable[[int], int | tuple[int, ...]]) -> Tensor:
    """Return a view (a copy where several dimensions count nodes) of two dimensions or more, the first counts nodes."""
    if x.ndim == 0:
        x = x.reshape(1)  # a number is one node
    axis = node_axis(x.ndim)
    axes = (axis,) if isinstance(axis, int) else axis
    x = x.movedim(axes, tuple(range(len(axes))))
    x = x.flatten(0, len(axes) - 1) if len(axes) > 1 else x
    return x if x.ndim > 1 else x.unsqueeze(1)
