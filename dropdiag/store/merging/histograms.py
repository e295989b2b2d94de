"""The histograms of several ranks as those of one run: counts of one bin add up, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.histograms.grid import BINS
from dropdiag.store.merging.groups import KEYS, Groups, Ints, grouped
from dropdiag.store.merging.once import ACTIVATIONS, WEIGHTS, counted_once, numbers
from dropdiag.store.merging.scalars import Gathered

Sparse: TypeAlias = tuple[NDArray[np.uint16], Ints]
"""Bins that hold something, ascending, and how many values each holds."""


class Merged(NamedTuple):
    """Histograms of one run.

    Attributes
    ----------
    table : Table
        In the order of step.
    came, kept : ndarray of int64
        How many ranks' histograms there are of each, and how many of them count.
    """

    table: pa.Table
    came: Ints
    kept: Ints


def merge(rows: Gathered) -> Merged:
    """Merge the histograms of several ranks.

    Parameters
    ----------
    rows : Gathered
        With columns `KEYS`, n, bins and counts.
    """
    groups = grouped(rows.table.select(KEYS), rows.rank)
    lists = _Lists(rows.table)
    kept = counted_once(groups.of, rows.role, rows.batch, _identity(rows, groups, lists))
    rows_of = np.flatnonzero(kept)
    rows_of = rows_of[np.argsort(groups.of[rows_of], kind="stable")]
    ends = np.searchsorted(groups.of[rows_of], np.arange(len(groups) + 1))
    found = [_sum([lists.of(row) for row in rows_of[begin:end]]) for begin, end in pairwise(ends)]
    table = with_lists(rows.table.select(KEYS).take(groups.first), found)
    return Merged(table, *(np.bincount(groups.of[which], minlength=len(groups)) for which in (slice(None), kept)))


def with_lists(keys: pa.Table, found: Sequence[Sparse]) -> pa.Table:
    """Return a table of histograms, given their keys, and the bins and counts of each."""
    sizes = np.array([len(bins) for bins, _ in found], np.int64)
    offsets = pa.array(np.r_[0, np.cumsum(sizes)], pa.int32())
    bins = np.concatenate([np.empty(0, np.uint16), *(bins for bins, _ in found)])
    counts = np.concatenate([np.empty(0, np.int64), *(counts for _, counts in found)])
    columns = {"n": pa.array([int(counts.sum()) for _, counts in found], pa.int64()),
               "bins": pa.ListArray.from_arrays(offsets, pa.array(bins, pa.uint16())),
               "counts": pa.ListArray.from_arrays(offsets, pa.array(counts, pa.int64()))}  # fmt: skip
    for name, column in columns.items():
        keys = keys.append_column(name, column)
    return keys


class _Lists:
    """Bins and counts of rows."""

    def __init__(self, table: pa.Table) -> None:
        bins, counts = (table[name].combine_chunks() for name in ("bins", "counts"))
        self._bins: NDArray[np.uint16] = bins.flatten().to_numpy()
        self._counts: Ints = counts.flatten().to_numpy()
        self._ends = np.r_[0, np.cumsum(bins.value_lengths().to_numpy())].astype(np.int64)

    def of(self, row: int) -> Sparse:
        here = slice(self._ends[row], self._ends[row + 1])
        return self._bins[here], self._counts[here]

    def content(self, row: int) -> tuple[bytes, bytes]:
        bins, counts = self.of(row)
        return bins.tobytes(), counts.tobytes()


def _identity(rows: Gathered, groups: Groups, lists: _Lists) -> Ints:
    """Return a number for what each row holds, of those of which it matters whether they are the same."""
    several = np.bincount(groups.of, minlength=len(groups))[groups.of] > 1
    shared = len(np.unique(rows.batch)) < len(np.unique(rows.rank))
    matters = several & ((rows.role == WEIGHTS) | ((rows.role == ACTIVATIONS) & shared))
    return numbers(lists.content(row) if compared else row for row, compared in enumerate(matters))


def _sum(parts: Sequence[Sparse]) -> Sparse:
    if len(parts) == 1:
        return parts[0]
    total = np.zeros(BINS, np.int64)
    for bins, counts in parts:  # each has a bin once
        total[bins] += counts
    occupied = np.flatnonzero(total)
    return occupied.astype(np.uint16), total[occupied]
