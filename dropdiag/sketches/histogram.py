"""The histogram on the universal bin grid, on the device where the values are."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.histograms.grid import BINS, NEGATIVE_INFINITY, NEGATIVE_ZERO, POSITIVE_INFINITY, SHIFT
from dropdiag.sketches import native
from dropdiag.sketches.thinning import thinned

Sparse = tuple[NDArray[np.uint16], NDArray[np.int64]]
"""Ascending numbers of the bins that are not empty, and their counts."""

CPU: Final = torch.device("cpu")
SPARE_TABLES: Final = 64
# Zeroed tables of the CPU, to be used again: new ones are cold in the cache and cost page faults.
_spare: list[Tensor] = []


class HistogramSketch:
    """Counts of float values in the 32,768 bins of the universal grid.

    Error: none for what is counted (int64, exact union under ``merge``); a value is known afterwards to its
    bin, so to a relative width of at most 1/64. Memory: 256 KB while counting, whatever the number of values; packed,
    10 bytes a bin that is not empty.

    Parameters
    ----------
    max_values : int, optional
        Batches of more values are thinned to at most so many, with no random number (see `thinned`).

    Attributes
    ----------
    counts : Tensor of int64, shape (32768,), or None
        On the values' device; None before the first.
    stride : int
        One in so many values was counted, of the largest batch; 1 where every value was.

    Notes
    -----
    bfloat16 and float16 convert to float32 exactly and share the grid. float64 is rounded to float32 first:
    beyond 3.4e38 it is counted as infinite. Zeros (with magnitudes below 2**-132), +Inf, -Inf and NaN have
    bins of their own, so they never spoil the others.
    """

    __slots__ = ("_counts", "_most", "_packed", "_thinned", "max_values", "stride")

    def __init__(self, max_values: int | None = None) -> None:
        self._counts: Tensor | None = None
        self._packed: Sparse | None = None
        self.max_values = max_values
        # What the compiled loop takes in one call: of more values a sample is counted, or several threads count.
        self._most = native.PARALLEL if max_values is None else min(max_values, native.PARALLEL)
        self.stride = 1
        self._thinned = 0

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
        table = self._counts
        if table is None:
            table = self._table(values.device)
        # Every hook comes through here: the compiled loop itself checks that it can read the values.
        if (
            table.is_cpu
            and native.loops is not None
            and native.loops.count_tensor(values, table.data_ptr(), self._most)
        ):
            return
        if self.max_values is not None and values.numel() > self.max_values:
            values, stride = thinned(values, self.max_values, self._thinned)
            self.stride = max(self.stride, stride)
            self._thinned += 1
        add_counts(values, table)

    def merge(self, other: HistogramSketch) -> None:
        """Add the counts of another histogram: the exact union."""
        self.stride = max(self.stride, other.stride)
        counts = other.counts
        if counts is not None:
            self._table(counts.device).add_(counts)

    @property
    def counts(self) -> Tensor | None:
        """The counts of all bins."""
        return self._counts if self._packed is None else self._table(CPU)

    @property
    def on_host(self) -> bool:
        """Whether nothing of it is on an accelerator."""
        return self._counts is None or self._counts.is_cpu

    def pack(self) -> None:
        """Keep what was counted on the CPU in as little memory as it takes, until more comes.

        Of many histograms that are open at once each then needs a table for as long as it counts: one and the same,
        which stays in the cache.
        """
        if self._counts is not None and self._counts.is_cpu:
            self._packed, self._counts = drained(self._counts), None

    def _table(self, device: torch.device) -> Tensor:
        if self._counts is None:
            self._counts = _new_table(device if self._packed is None else CPU)
            if self._packed is not None:
                bins, counts = self._packed
                self._counts.numpy()[bins] = counts
                self._packed = None
        return self._counts

    def dense(self) -> Tensor:
        """Return all counts.

        Returns
        -------
        Tensor of int64, shape (32768,)
            A copy, on the values' device; zeros on the CPU if there were none.
        """
        counts = self.counts
        return torch.zeros(BINS, dtype=torch.int64) if counts is None else counts.clone()

    def forget_nan(self) -> None:
        """Remove NaN from the counts."""
        counts = self.counts
        if counts is not None:
            counts[POSITIVE_INFINITY + 1 : NEGATIVE_ZERO] = 0
            counts[NEGATIVE_INFINITY + 1 :] = 0

    def drain(self) -> Sparse:
        """Return the bins that are not empty with their counts, and start over with none.

        Returns
        -------
        bins : ndarray of uint16, shape (m,)
        counts : ndarray of int64, shape (m,)
        """
        (table, self._counts), (packed, self._packed) = (self._counts, None), (self._packed, None)
        if table is None:
            return (np.empty(0, np.uint16), np.empty(0, np.int64)) if packed is None else packed
        return drained(table if table.is_cpu else table.cpu())


def add_counts(values: Tensor, counts: Tensor) -> None:
    """Count values into a table.

    Parameters
    ----------
    values : Tensor of float32, float64, bfloat16 or float16, any shape
    counts : Tensor of int64, shape (32768,)
        On the same device; changed. Integer arithmetic alone, so deterministic.

    Raises
    ------
    ArgumentError
        For any other dtype, or values on another device than the counts.
    """
    if values.device != counts.device:
        raise ArgumentError(f"values on {values.device} cannot be counted with values on {counts.device}")
    span = native.memory_span(values)
    if span is None and values.is_cpu and values.dtype in (torch.float64, torch.float16):
        span = native.memory_span(values.detach().to(torch.float32))
    if span is not None and native.loops is not None:
        address, n, width, _ = span
        if n < native.PARALLEL:
            native.loops.count(address, n, width, counts.data_ptr(), False)
        else:
            _count_parallel(span, counts)
        return
    bins = bin_numbers(values)
    if bins.is_cpu:
        counts += torch.bincount(bins, minlength=BINS)
    else:  # on CUDA bincount makes the host wait for the largest value; an integer scatter does not
        counts.scatter_add_(0, bins.long(), torch.ones((), dtype=torch.int64, device=bins.device).expand(bins.shape))


def _count_parallel(values: native.MemorySpan, counts: Tensor) -> None:
    others = [_new_table(counts.device) for _ in range(torch.get_num_threads() - 1)]
    native.count_parallel(values, [counts, *others])
    for table in others:
        counts += table
        _keep_spare(table.zero_())


def _new_table(device: torch.device) -> Tensor:
    if _spare and device.type == "cpu":
        return _spare.pop()
    with torch.inference_mode(False):  # a tensor made in inference mode cannot be written to outside of it
        if device.type != "cpu":
            return torch.zeros(BINS, dtype=torch.int64, device=device)
        # From numpy: fresh pages of the system are zero already and cost nothing until they are written to.
        return torch.from_numpy(np.zeros(BINS, np.int64))


def _keep_spare(table: Tensor) -> None:
    if len(_spare) < SPARE_TABLES:
        _spare.append(table)


def drained(table: Tensor) -> Sparse:
    """Return the bins of a table that are not empty with their counts, and keep the table, zeroed, for the next sketch.

    Parameters
    ----------
    table : Tensor of int64, shape (32768,)

    Returns
    -------
    bins : ndarray of uint16, shape (m,)
    counts : ndarray of int64, shape (m,)
    """
    if native.loops is None:
        found = sparse(table.numpy())
        table.zero_()
    else:
        bins, counts = native.loops.drain(table.data_ptr())
        found = np.frombuffer(bins, np.uint16), np.frombuffer(counts, np.int64)
    _keep_spare(table)
    return found


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
        return (bits >> (SHIFT - 16)) & (BINS - 1)
    if values.dtype in (torch.float64, torch.float16):
        values = values.to(torch.float32)
    if values.dtype != torch.float32:
        raise ArgumentError(
            f"a histogram takes float32, float64, bfloat16 or float16, got {values.dtype}; convert the values first"
        )
    # Nothing here is in place: `>>` of some subclasses gives the tensor own_forward, which is the user's memory.
    return (values.contiguous().view(torch.int32).flatten() >> SHIFT) & (BINS - 1)


def sparse(counts: NDArray[np.int64]) -> Sparse:
    """Drop the bins that are empty.

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
