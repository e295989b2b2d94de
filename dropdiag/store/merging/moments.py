"""Moments of several ranks' values as those of all of them."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dropdiag.store.merging.groups import Ints

Floats = NDArray[np.float64]

EPS: Final = float(np.finfo(np.float64).eps)
SMALLEST: Final = 1e-290
"""A fourth power below this has lost digits."""
NUMBERS: Final = 7
"""Of a state."""
VALUES: Final = ("mean", "sd", "excess_kurtosis", "abs_mean", "minimum", "maximum")


class Moments(NamedTuple):
    """Moments of several sets of values, a set a row.

    Attributes
    ----------
    n : ndarray of float64, shape (sets,)
        Numbers of values, all positive.
    state : ndarray of float64, shape (sets, 7)
        mean, M2, M3, M4, mean |x|, minimum, maximum, where Mk = sum (x - mean)**k.
    """

    n: Floats
    state: Floats

    def merged(self, starts: Ints) -> Moments:
        """Return the moments of neighbouring sets together; ``starts`` says where each union begins.

        Notes
        -----
        Of Pébay (2008), equation 2.1, for any number of sets at once. The mean is taken as an offset from that of the
        first set, so that a large one does no harm.
        """
        sizes = np.diff(np.r_[starts, len(self.n)])
        mean, m2, m3, m4, abs_mean, low, high = self.state.T
        total = np.add.reduceat(self.n, starts)
        with np.errstate(invalid="ignore", over="ignore"):
            share = self.n / np.repeat(total, sizes)
            first = mean[starts]
            center = first + np.add.reduceat(share * (mean - np.repeat(first, sizes)), starts)
            d = mean - np.repeat(center, sizes)
            merged = [
                center,
                np.add.reduceat(m2 + self.n * d**2, starts),
                np.add.reduceat(m3 + 3 * d * m2 + self.n * d**3, starts),
                np.add.reduceat(m4 + 4 * d * m3 + 6 * d**2 * m2 + self.n * d**4, starts),
                np.add.reduceat(share * abs_mean, starts),
                np.minimum.reduceat(low, starts),
                np.maximum.reduceat(high, starts),
            ]
        return Moments(total, np.stack(merged, axis=1))

    def values(self) -> dict[str, Floats]:
        """Return what is told of each set, `VALUES`: as `dropdiag.sketches.moments.Moments` has them."""
        mean, m2, _, m4, abs_mean, low, high = self.state.T
        constant = low == high
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            # what the mean is rounded by stands in every deviation from it
            rounding = (4.0 * EPS * abs_mean) ** 2 * self.n
            known = ~constant & (m2 > rounding) & (m2**2 > SMALLEST)
            kurtosis = np.where(known, self.n * m4 / m2**2 - 3.0, np.nan)
            sd = np.where(constant, 0.0, np.sqrt(m2 / self.n))
        return dict(zip(VALUES, (mean, sd, kurtosis, abs_mean, low, high), strict=True))
