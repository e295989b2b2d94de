"""Where nearly all values lie, and which lie far from all others."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

TAIL: Final = 0.001  # share of the values at each end that may be set aside as far out
FAR: Final = 3.0  # ... if they lie so many widths of the range of all others beyond it
ENOUGH: Final = 100  # with fewer values than this, none is set aside


def bulk(low: Floats, high: Floats, counts: NDArray[np.int64]) -> tuple[float, float]:
    """Limits beyond which a value lies far out.

    Parameters
    ----------
    low, high, counts : ndarray, shape (m,)
        Bins in order.

    Returns
    -------
    first, last : float
        The range from the 0.1 % to the 99.9 % quantile (or, of a few values, without the outermost one at each
        end), widened by three times itself at each side; infinite for fewer than 100 values. So at most 0.2 %
        (or 2) of the values can lie beyond, and only those that are far from all others: the limits are 21
        standard deviations from the middle of a normal density, 43 scales from that of a Laplace density.
    """
    n = int(counts.sum())
    if n < ENOUGH:
        return -np.inf, np.inf
    tail = max(TAIL * n, 1.0)
    after = np.cumsum(counts)
    first = float(low[np.searchsorted(after, tail, side="right")])
    last = float(high[np.searchsorted(after, n - tail, side="left")])
    margin = FAR * (last - first)
    return first - margin, last + margin
