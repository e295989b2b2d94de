"""How far the greatest of several paired t reaches by chance: doses beside one that they do not differ from."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from scipy.special import stdtr, stdtrit

from dropdiag.analysis.seeds import Floats

DRAWS: Final = 100_000
_CHUNK: Final = 2**20  # numbers drawn at a time: 8 MB


def p_of_greatest(t: float, blocks: int, others: int) -> float:
    """Return the probability that the greatest of ``others`` paired t is as great as one, by chance.

    Parameters
    ----------
    t : float
    blocks : int
        Seeds, at least 2.
    others : int
        Doses beside the one that is judged, at least 1.

    Notes
    -----
    Of one it is Student's; of several it is counted among `DRAWS` tables of normal numbers, drawn from one seed. Each t
    has the standard deviation of its own pair, and all share the dose that is judged.
    """
    if others == 1:
        return float(stdtr(blocks - 1, -t))
    null = _greatest(blocks, others)[:, others - 2]
    return float(1 + null.size - np.searchsorted(null, t)) / (null.size + 1)


def critical(alpha: float, blocks: int, others: int) -> float:
    """Return what the greatest of ``others`` paired t exceeds with probability alpha, by chance."""
    if others == 1:
        return float(stdtrit(blocks - 1, 1.0 - alpha))
    null = _greatest(blocks, others)[:, others - 2]
    return float(null[math.ceil((1.0 - alpha) * (null.size - 1))])  # sorted: the quantile, or the next one above


def _greatest(blocks: int, others: int) -> Floats:
    # numbers of doses share their draws: those of the next power of two hold all smaller ones
    return _drawn(blocks, 1 << max(others - 1, 1).bit_length())


@lru_cache(maxsize=16)
def _drawn(blocks: int, others: int) -> Floats:
    """Draw the greatest of 2, 3 ... t, each column sorted."""
    rng = np.random.default_rng(0)
    found = np.empty((DRAWS, others - 1))
    step = max(_CHUNK // (blocks * (others + 1)), 1)
    for begin in range(0, DRAWS, step):
        values = rng.standard_normal((min(step, DRAWS - begin), blocks, others + 1))
        apart = values[:, :, 1:] - values[:, :, :1]
        t = apart.mean(axis=1) / (apart.std(axis=1, ddof=1) / np.sqrt(blocks))
        found[begin : begin + step] = np.maximum.accumulate(t, axis=1)[:, 1:]
    return np.sort(found, axis=0)
