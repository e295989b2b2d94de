"""Every bin of the grid as a row of a table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dropdiag.histograms.grid import (
    BINS,
    NEGATIVE_INFINITY,
    NEGATIVE_ZERO,
    POSITIVE_INFINITY,
    ZERO,
    all_bounds,
    is_finite_bin,
)


def bins() -> pa.Table:
    """Return the table ``bins``, a row a bin.

    Returns
    -------
    Table
        Columns bin; kind ("finite", "zero", "infinite", "nan"); low, high, centre and width, float64 and exact. The two
        bins of zero are of width 0, infinities have low = high = ±inf and no width, NaN has no bounds.
    """
    number = np.arange(BINS, dtype=np.uint16)
    low, high = (bound.copy() for bound in all_bounds())
    kind = np.where(is_finite_bin(number), "finite", "nan").astype(object)
    kind[[ZERO, NEGATIVE_ZERO]] = "zero"
    kind[[POSITIVE_INFINITY, NEGATIVE_INFINITY]] = "infinite"
    for bound in (low, high):
        bound[[POSITIVE_INFINITY, NEGATIVE_INFINITY]] = np.inf, -np.inf
    with np.errstate(invalid="ignore"):  # of infinities
        width = high - low
    numbers = {"low": low, "high": high, "centre": low / 2 + high / 2, "width": width}
    columns = {name: pa.array(column, pa.float64(), from_pandas=True) for name, column in numbers.items()}
    return pa.table({"bin": pa.array(number), "kind": pa.array(kind, pa.string()), **columns})
