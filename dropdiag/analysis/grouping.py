"""Sums over the rows of a group, run by run: one number a row, one pass a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

    def sum(self, values: NDArray[Any], slots: Integers | None = None, runs: int = 0) -> Floats:
        """Sum each group's values, run by run.

        Parameters
        ----------
        values : ndarray, shape (runs, rows)
            NaN is left out.
        slots : ndarray of int64, shape (rows,), optional
            Run from 0 that each row belongs to; then ``values`` has shape (1, rows).
        runs : int
            With slots: how many there are, some may have no rows.

        Returns
        -------
        ndarray of float64, shape (runs, groups)
        """
        weights, many = np.where(np.isnan(values), 0.0, values), len(self.first)
        if slots is not None:
            flat = np.bincount(slots * many + self._number, weights[0], minlength=runs * many)
            return flat.reshape(runs, many).astype(np.float64)
        return np.array([np.bincount(self._number, row, minlength=many) for row in weights], np.float64)


def _codes(column: pd.Series[Any]) -> Integers:
    """Return an integer from 0 for each key."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return np.asarray(column.cat.codes, dtype=np.int64) + 1  # a missing one has -1
    if column.dtype.kind in "iu":
        codes = np.asarray(column, dtype=np.int64)
        return codes - int(codes.min(initial=0))
    return np.asarray(pd.factorize(column)[0], dtype=np.int64) + 1
