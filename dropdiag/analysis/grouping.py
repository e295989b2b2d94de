"""Sums and means over the rows of a group, for one run or for a matrix of runs by rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class Groups:
    """Rows of a frame with the same keys.

    Parameters
    ----------
    frame : DataFrame
        Text columns may be categories (much faster) or text.
    by : sequence of str
        Columns that name a group; a missing key is a key of its own.

    Attributes
    ----------
    first : ndarray of int64, shape (groups,)
        Place of each group's first row; groups are in the order of first appearance.
    """

    def __init__(self, frame: pd.DataFrame, by: Sequence[str]) -> None:
        key = np.zeros(len(frame), np.int64)
        for column in by:  # the gaps are closed after each column, so that the key never overflows
            codes = _codes(frame[column])
            key = key * (int(codes.max(initial=0)) + 1) + codes
            _, first, key = np.unique(key, return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        self.first: Integers = first[order]
        self._number: Integers = place[key]

    def size(self) -> Integers:
        """Count each group's rows."""
        return np.bincount(self._number, minlength=len(self.first))

    def sum(self, values: ArrayLike) -> Floats:
        """Sum each group's values.

        Parameters
        ----------
        values : array_like of shape (rows,) or (runs, rows)
            NaN is left out.

        Returns
        -------
        ndarray of float64, shape (groups,) or (runs, groups)
        """
        weights = np.asarray(values, dtype=np.float64)
        weights = np.where(np.isnan(weights), 0.0, weights)
        if weights.ndim == 1:
            return np.bincount(self._number, weights, minlength=len(self.first)).astype(np.float64)
        return np.array([np.bincount(self._number, row, minlength=len(self.first)) for row in weights])

    def count(self, values: ArrayLike) -> Integers:
        """Count each group's values that are not NaN; shapes as in `sum`."""
        known = ~np.isnan(np.asarray(values, dtype=np.float64))
        if known.all():  # the usual case: one count for all runs
            return np.broadcast_to(self.size(), (*known.shape[:-1], len(self.first)))
        return self.sum(known).astype(np.int64)

    def mean(self, values: ArrayLike) -> Floats:
        """Mean of each group's values, NaN left out; NaN where none is left. Shapes as in `sum`."""
        with np.errstate(invalid="ignore"):
            return self.sum(values) / self.count(values)


def _codes(column: pd.Series[Any]) -> Integers:
    """Return an integer from 0 for each key."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return np.asarray(column.cat.codes, dtype=np.int64) + 1  # a missing one has -1
    if column.dtype.kind in "iu":
        codes = np.asarray(column, dtype=np.int64)
        return codes - int(codes.min(initial=0))
    return np.asarray(pd.factorize(column)[0], dtype=np.int64) + 1
