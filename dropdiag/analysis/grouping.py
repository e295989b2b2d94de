"""Sums and means over groups of millions of rows: the keys become one integer a row, the sums one pass."""

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
        key, many = np.zeros(len(frame), np.int64), 1
        for column in by:
            codes, most = _codes(frame[column])
            if many * most > 2**62:  # close the gaps, so that it never overflows
                key = np.unique(key, return_inverse=True)[1].astype(np.int64)
                many = int(key.max(initial=0)) + 1
            key, many = key * most + codes, many * most
        self._number, groups = _dense(key, many)
        first = np.zeros(groups, np.int64)
        first[self._number[::-1]] = np.arange(len(frame) - 1, -1, -1)
        appears = np.zeros(len(frame), np.bool_)
        appears[first] = True
        self.first = np.flatnonzero(appears)
        place = np.empty(groups, np.int64)
        place[self._number[self.first]] = np.arange(groups)
        self._number = place[self._number]

    def size(self) -> Integers:
        """Count each group's rows."""
        return np.bincount(self._number, minlength=len(self.first))

    def sum(self, values: ArrayLike) -> Floats:
        """Sum of each group's values, NaN left out."""
        weights = np.asarray(values, dtype=np.float64)
        missing = np.isnan(weights)
        weights = np.where(missing, 0.0, weights) if missing.any() else weights
        return np.bincount(self._number, weights, minlength=len(self.first)).astype(np.float64)

    def count(self, values: ArrayLike) -> Integers:
        """Count each group's values that are not NaN."""
        return self.sum(~np.isnan(np.asarray(values, dtype=np.float64))).astype(np.int64)

    def mean(self, values: ArrayLike) -> Floats:
        """Mean of each group's values, NaN left out; NaN where none is left."""
        with np.errstate(invalid="ignore"):
            return self.sum(values) / self.count(values)

    def squares(self, values: ArrayLike) -> Floats:
        """Sum of the squared deviations of each group's values from their mean, NaN left out."""
        x = np.asarray(values, dtype=np.float64)
        return self.sum((x - self.mean(x)[self._number]) ** 2)


def _codes(column: pd.Series[Any]) -> tuple[Integers, int]:
    """Return an integer from 0 for each key, and how many there may be."""
    codes: Integers
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = np.asarray(column.cat.codes, dtype=np.int64)
    elif column.dtype.kind in "iu":
        codes = np.asarray(column, dtype=np.int64)
    else:
        codes = np.asarray(pd.factorize(column)[0], dtype=np.int64)
    least, most = (int(codes.min()), int(codes.max())) if len(codes) else (0, 0)
    return codes - least, most - least + 1


def _dense(key: Integers, many: int) -> tuple[Integers, int]:
    """Return a number from 0 for each key that there is, by a table where it is small beside the rows."""
    if many > 8 * len(key) + 65_536:
        known, number = np.unique(key, return_inverse=True)
        return number.astype(np.int64), len(known)
    used = np.zeros(many, np.bool_)
    used[key] = True
    return (np.cumsum(used) - 1)[key], int(used.sum())
