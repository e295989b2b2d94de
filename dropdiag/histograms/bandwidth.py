"""The Improved Sheather-Jones bandwidth, on the cosine transform of gridded data."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STAGES: Final = 7
_SCAN: Final = 9
# Made once: they are asked for in every step of every search.
_STAGE: Final = {
    s: 2.0 * ((1.0 + 0.5 ** (s + 0.5)) / 3.0) * (math.prod(range(1, 2 * s, 2)) / np.sqrt(2.0 * np.pi))
    for s in range(2, STAGES)
}


def improved_sheather_jones(wave: Floats, n: int, width: float, *, smallest: float, largest: float) -> float | None:
    """Bandwidth at the fixed point of Botev, Grotowski & Kroese, Annals of Statistics 38 (2010) 2916.

    Parameters
    ----------
    wave : ndarray of float64, shape (k,)
        `scipy.fft.dct` (type 2, unnormalised) of the shares of the values in k equal cells.
    n : int
        True number of values. Not the number of bins: with that, the curve would be far too smooth.
    width : float
        Length of the grid, in the values' unit. The squared bandwidth is ``t * width**2`` with t without
        unit, so that scaling the values scales the bandwidth.
    smallest, largest : float
        Bandwidths between which the fixed point is looked for, the smallest one first.

    Returns
    -------
    float or None
        Standard deviation of the Gaussian, in the values' unit; ``smallest`` if the fixed point lies below
        it; None if there is none up to ``largest``.

    Notes
    -----
    No normal reference is used anywhere, so the result follows several modes. The fixed point is
    t = (2 n sqrt(pi) |f''|^2)^(-2/5), where |f''|^2 comes from derivatives of higher order in five stages.
    """
    table, k2 = _powers(wave)
    grid = np.geomspace((smallest / width) ** 2, (largest / width) ** 2, _SCAN)
    before = grid[0]
    if _excess(before, n, table, k2) >= 0.0:
        return smallest
    for t in grid[1:]:
        if _excess(t, n, table, k2) >= 0.0:
            return float(np.sqrt(_bisect(before, t, n, table, k2)) * width)
        before = t
    return None


def _powers(wave: Floats) -> tuple[Floats, Floats]:
    """Rows k^(2s) a_k^2 for s = 0..7, and k^2, for k = 1, 2, ..."""
    k2 = np.arange(1, wave.size, dtype=np.float64) ** 2
    table = np.empty((STAGES + 1, k2.size))
    table[0] = (0.5 * wave[1:]) ** 2
    for s in range(STAGES):
        np.multiply(table[s], k2, out=table[s + 1])
    return table, k2


def _excess(t: float, n: int, table: Floats, k2: Floats) -> float:
    """Return t minus what the five stages make of it; the root is the squared bandwidth over width."""
    norm = _norm(STAGES, t, table, k2)
    for s in range(STAGES - 1, 1, -1):
        if norm <= 0.0:
            return -t  # no roughness left at all: t is far too large to be judged, never a root
        stage = (_STAGE[s] / (n * norm)) ** (2.0 / (3.0 + 2.0 * s))
        norm = _norm(s, stage, table, k2)
    if norm <= 0.0:
        return -t
    return float(t - (2.0 * n * np.sqrt(np.pi) * norm) ** -0.4)


def _norm(s: int, t: float, table: Floats, k2: Floats) -> float:
    """Squared norm of the s-th derivative of the density smoothed to t, on the unit interval."""
    # beyond k pi sqrt(t) = 9 the terms are below 1e-20 of the largest; with none left there is no roughness
    used = min(k2.size, int(9.0 / (np.pi * np.sqrt(t))))
    return float(2.0 * np.pi ** (2 * s) * (table[s, :used] @ np.exp(-k2[:used] * (np.pi**2 * t))))


def _bisect(low: float, high: float, n: int, table: Floats, k2: Floats) -> float:
    """Root between low (negative excess) and high (not negative), to 1e-4 relative."""
    while high > low * 1.0001:
        middle = float(np.sqrt(low * high))
        if _excess(middle, n, table, k2) >= 0.0:
            high = middle
        else:
            low = middle
    return float(np.sqrt(low * high))
