"""The histogram on the universal bin grid, on the device where the values are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.store.schema import BINS, SHIFT


class Histogram:
    """Counts of float values in the 32,768 bins of the universal grid.

    Error: none for what is counted (int64, exact union under ``merge``); a value is known afterwards to its
    bin, so to a relative width of at most 1/64. Memory: 256 KB, whatever the number of values.

    Parameters
    ----------
    max_values : int, optional
        Batches of more values are thinned to at most so many, at a fixed stride that draws no random number.

    Attributes
    ----------
    stride : int
        The largest stride taken; 1 where every value was counted.

    Notes
    -----
    bfloat16 and float16 convert to float32 exactly and share the grid. float64 is rounded to float32 first:
    beyond 3.4e38 it is counted as infinite. Zeros (with magnitudes below 2**-132), +Inf, -Inf and NaN have
    bins of their own, so they never spoil the others.
    """

    __slots__ = ("counts", "max_values", "stride")

    def __init__(self, max_values: int | None = None) -> None:
        self.counts: Tensor | None = None
        self.max_values = max_values
        self.stride = 1

    def update(self, values: Tensor) -> None:
        """Count a batch of values.

        Parameters
        ----------
        values : Tensor of floats, any shape
            Read once; no reference is kept.

        Raises
        ------
        ArgumentError
            If the dtype is not float32, float64, bfloat16 or float16.
        """
        if self.max_values is not None and values.numel() > self.max_values:
            stride = stride_for(values.shape, self.max_values)
            self.stride = max(self.stride, stride)
            values = values.detach().reshape(-1)[::stride]
        self._add(count(values))

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram: the exact union."""
        self.stride = max(self.stride, other.stride)
        if other.counts is not None:
            self._add(other.counts)

    def _add(self, counts: Tensor) -> None:
        self.counts = counts if self.counts is None else self.counts + counts

    def __add__(self, other: Histogram) -> Histogram:
        """Return the histogram of the union."""
        union = Histogram()
        union.merge(self)
        union.merge(other)
        return union

    def dense(self) -> Tensor:
        """Return all counts.

        Returns
        -------
        Tensor of int64, shape (32768,)
            On the values' device; zeros on the CPU if there were none.
        """
        return torch.zeros(BINS, dtype=torch.int64) if self.counts is None else self.counts


def stride_for(shape: Sequence[int], max_values: int) -> int:
    """Stride that thins a tensor to at most ``max_values`` and walks through every dimension.

    Parameters
    ----------
    shape : sequence of int
    max_values : int

    Returns
    -------
    int
        The least sufficient number that shares no factor with any dimension, so that no column or channel is
        passed over for good.
    """
    total = math.prod(shape)
    stride = -(-total // max_values)
    while stride > 1 and math.gcd(stride, total) != 1:
        stride += 1
    return stride


def count(values: Tensor) -> Tensor:
    """Count values per bin.

    Parameters
    ----------
    values : Tensor of float32, float64, bfloat16 or float16, any shape

    Returns
    -------
    Tensor of int64, shape (32768,)
        On the values' device. Integer arithmetic alone, so deterministic.

    Raises
    ------
    ArgumentError
        For any other dtype.
    """
    bins = bin_numbers(values)
    if bins.device.type == "cpu":
        return torch.bincount(bins, minlength=BINS)
    # On CUDA bincount makes the host wait for the largest value; an integer scatter does not.
    counts = torch.zeros(BINS, dtype=torch.int64, device=bins.device)
    return counts.scatter_add_(0, bins.long(), torch.ones((), dtype=torch.int64, device=bins.device).expand(bins.shape))


def bin_numbers(values: Tensor) -> Tensor:
    """Bin of each value.

    Parameters
    ----------
    values : Tensor of float32, float64, bfloat16 or float16, any shape

    Returns
    -------
    Tensor of int32 or int16, shape (values.numel(),)
        Between 0 and 32,767.

    Raises
    ------
    ArgumentError
        For any other dtype.
    """
    values = values.detach()
    if values.dtype == torch.bfloat16:
        # A bfloat16 is the upper half of a float32, so its bin is its own bits >> 1.
        bits = values.contiguous().view(torch.int16).flatten()
        return (bits >> (SHIFT - 16)).bitwise_and_(BINS - 1)
    if values.dtype in (torch.float64, torch.float16):
        values = values.to(torch.float32)
    if values.dtype != torch.float32:
        raise ArgumentError(
            f"a histogram takes float32, float64, bfloat16 or float16, got {values.dtype}; convert the values first"
        )
    return (values.contiguous().view(torch.int32).flatten() >> SHIFT).bitwise_and_(BINS - 1)


def sparse(counts: NDArray[np.int64]) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Keep the bins that hold something.

    Parameters
    ----------
    counts : ndarray of int64, shape (32768,)

    Returns
    -------
    bins : ndarray of uint16, shape (m,)
        Ascending bin numbers.
    counts : ndarray of int64, shape (m,)
        Their counts, all positive.
    """
    bins = np.flatnonzero(counts != 0)  # of booleans: several times faster than of integers
    return bins.astype(np.uint16), counts[bins]
